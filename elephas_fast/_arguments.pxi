# What _core.pyx does before any kernel runs: borrow the buffers, check the arguments, word the errors.


cdef struct _Borrowed:
    Py_buffer view
    bint written


@cython.freelist(16)
cdef class _Buffers:
    """Buffers borrowed until this object goes. A `name` is a string or (string, index)."""

    cdef _Borrowed few[4]
    cdef _Borrowed* borrowed
    cdef list names
    cdef int count

    def __cinit__(self, int capacity):
        self.count = 0
        self.borrowed = self.few
        if capacity > 4:
            self.borrowed = <_Borrowed*> PyMem_Calloc(capacity, sizeof(_Borrowed))
            if self.borrowed == NULL:
                raise MemoryError()
        self.names = []

    def __dealloc__(self):
        cdef int k
        for k in range(self.count):
            PyBuffer_Release(&self.borrowed[k].view)
        if self.borrowed != self.few:
            PyMem_Free(self.borrowed)

    cdef Py_buffer* view(self, int index) noexcept nogil:
        return &self.borrowed[index].view

    cdef Py_ssize_t length(self, int index):
        return self.borrowed[index].view.shape[0]

    cdef float* floats(self, object value, object name, Py_ssize_t length, bint writable=False) except? NULL:
        """The elements of a float32 vector of `length` elements; `length` < 0 accepts any."""
        cdef Py_buffer* view = self.acquire(value, name, "float32", length, writable)
        if view.itemsize != 4 or not _is_native(view.format, b"f"):
            raise _misfit(name, "float32", length, value, view)
        self.check(view, name, "float32", value, length, writable)
        return <float*> view.buf

    cdef float* flat(self, object value, object name, Py_ssize_t length) except? NULL:
        """The elements, in order, of a C-contiguous float32 array of any shape with `length` elements; < 0: any."""
        cdef Py_buffer* view = self.acquire(value, name, "float32", length, False)
        if view.itemsize != 4 or not _is_native(view.format, b"f") or (length >= 0 and view.len != 4 * length):
            raise _misfit(name, "float32", length, value, view)
        self.check_memory(view, name, False)
        return <float*> view.buf

    cdef uint64_t* words(self, object value, bint writable) except? NULL:
        """The elements of a uint64 vector."""
        cdef Py_buffer* view = self.acquire(value, "words", "uint64", -1, writable)
        if view.itemsize != 8 or not (_is_native(view.format, b"L") or _is_native(view.format, b"Q")):
            raise _misfit("words", "uint64", -1, value, view)
        self.check(view, "words", "uint64", value, -1, writable)
        return <uint64_t*> view.buf

    cdef Py_buffer* acquire(self, object value, object name, str dtype, Py_ssize_t length, bint writable) except NULL:
        cdef Py_buffer* view = &self.borrowed[self.count].view
        if not PyObject_CheckBuffer(value):
            raise TypeError(f"{_label(name)}: expected {_wanted(dtype, length)}, got {type(value).__name__}")
        try:
            PyObject_GetBuffer(value, view, PyBUF_FORMAT | PyBUF_STRIDES)
        except (BufferError, ValueError) as error:
            raise TypeError(f"{_label(name)}: expected {_wanted(dtype, length)}, got {error}") from None
        self.borrowed[self.count].written = writable
        self.names.append(name)
        self.count += 1
        return view

    cdef int check(self, Py_buffer* view, object name, str dtype, object value, Py_ssize_t length,
                   bint writable) except -1:
        if view.ndim != 1 or (length >= 0 and view.shape[0] != length):
            raise _misfit(name, dtype, length, value, view)
        return self.check_memory(view, name, writable)

    cdef int check_memory(self, Py_buffer* view, object name, bint writable) except -1:
        cdef size_t past = <size_t> view.buf % <size_t> view.itemsize
        if not PyBuffer_IsContiguous(view, b"C"):
            raise ValueError(f"{_label(name)}: expected contiguous elements, got a stride of {view.strides[0]} bytes; "
                             "pass numpy.ascontiguousarray(...)")
        if writable and view.readonly:
            raise ValueError(f"{_label(name)}: expected a writable buffer, got a read-only one")
        if past:
            raise ValueError(f"{_label(name)}: expected elements aligned to {view.itemsize} bytes, "
                             f"got an address {past} bytes past a multiple of that")
        return 0

    cdef int check_overlaps(self, int twin=0) except -1:
        """No written buffer may share memory with another; with twin > 0 buffer k may be buffer k - twin itself."""
        cdef int a, b
        for a in range(self.count):
            for b in range(self.count if self.borrowed[a].written else 0):
                if a == b or not _overlap(self.view(a), self.view(b)):
                    continue
                if not (twin > 0 and a - b == twin and self.view(a).buf == self.view(b).buf):
                    raise _overlaps(self.names[a], self.names[b])
        return 0

    cdef int check_overlaps_with(self, _Buffers others) except -1:
        """No buffer written here may share memory with one of the others, nor one written there with one of these."""
        cdef int a, b
        for a in range(self.count):
            for b in range(others.count):
                if (self.borrowed[a].written or others.borrowed[b].written) and _overlap(self.view(a), others.view(b)):
                    if self.borrowed[a].written:
                        raise _overlaps(self.names[a], others.names[b])
                    raise _overlaps(others.names[b], self.names[a])
        return 0


cdef bint _overlap(Py_buffer* a, Py_buffer* b) noexcept:
    return <char*> a.buf < <char*> b.buf + b.len and <char*> b.buf < <char*> a.buf + a.len


cdef object _overlaps(object written, object other):
    return ValueError(f"{_label(written)}: expected memory of its own, got a buffer that overlaps {_label(other)}")


cdef bint _is_native(const char* format, const char* code):
    """Whether a buffer holds single elements of that type code, in the machine's byte order."""
    if format != NULL and (format[0] == b"=" or format[0] == b"@"):
        format += 1
    return format != NULL and strcmp(format, code) == 0


cdef str _label(object name):
    return name if isinstance(name, str) else f"{name[0]}[{name[1]}]"


cdef str _wanted(str dtype, Py_ssize_t length):
    return f"a {dtype} vector" if length < 0 else f"{dtype}[{length}]"


cdef object _misfit(object name, str dtype, Py_ssize_t length, object value, Py_buffer* view):
    kind = getattr(value, "dtype", None)
    if kind is None:
        kind = "bytes" if view.format == NULL else f"elements of format '{view.format.decode()}' "
    shape = [view.shape[k] for k in range(view.ndim)]
    return ValueError(f"{_label(name)}: expected {_wanted(dtype, length)}, got {kind}{shape}")


cdef int _threads(object threads) except -1:
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 1024:
        raise ValueError(f"threads: expected an int from 1 to 1024, got {threads!r}")
    return threads


cdef int _access(object access) except -1:
    if access not in ACCESSES:
        raise ValueError(f"access: expected one of {', '.join(ACCESSES)}, got {access!r}")
    return ACCESSES.index(access)


cdef int _count(object values, str name, Py_ssize_t expected) except -1:
    if len(values) != expected:
        raise ValueError(f"{name}: expected {expected} values, got {len(values)}")
    return 0


cdef size_t _bound(object value, str name, Py_ssize_t low, Py_ssize_t high) except? 0:
    if not low <= value <= high:
        raise ValueError(f"{name}: expected an index from {low} to {high}, got {value}")
    return value

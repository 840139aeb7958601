# Words and locks in memory that processes share. Included by _core.pyx.


cdef class Words:
    cdef _Buffers buffers
    cdef uint64_t* data
    cdef Py_ssize_t count

    def __init__(self, words):
        self.buffers = _Buffers(1)
        self.data = self.buffers.words(words, True)
        self.count = self.buffers.length(0)

    cdef uint64_t* at(self, Py_ssize_t i) except NULL:
        if not 0 <= i < self.count:
            raise IndexError(f"i: expected an index from 0 to {self.count - 1}, got {i}")
        return self.data + i

    def __len__(self):
        return self.count

    def load(self, Py_ssize_t i):
        return c_atomic_load(self.at(i))

    def store(self, Py_ssize_t i, uint64_t value):
        c_atomic_store(self.at(i), value)

    def add(self, Py_ssize_t i, change):
        return c_atomic_add(self.at(i), <uint64_t> (change & 0xFFFFFFFFFFFFFFFF))

    def compare_exchange(self, Py_ssize_t i, uint64_t expected, uint64_t value):
        return c_atomic_compare_exchange(self.at(i), expected, value)


cdef class Stripes:
    cdef _Buffers buffers
    cdef CStripes stripes
    cdef readonly Py_ssize_t size
    cdef readonly double timeout

    def __init__(self, memory, counter, size, stripe=STRIPE, *, double timeout=60.0):
        cdef size_t past
        if not 0 <= size <= 2**62 or not 1 <= stripe <= 2**62:
            raise ValueError(f"size, stripe: expected a number of elements >= 0 and one >= 1, got {size}, {stripe}")
        self.buffers = _Buffers(2)
        self.stripes.locks = <StripeLock*> self.buffers.words(memory, True)
        self.stripes.reclaimed = self.buffers.words(counter, True)
        self.stripes.stripe = stripe
        self.stripes.count = self.count_of(size, stripe)
        self.size, self.timeout = size, timeout
        if self.buffers.length(0) != 8 * self.stripes.count or self.buffers.length(1) < 1:
            raise ValueError(f"memory: expected uint64[{8 * self.stripes.count}] for {self.stripes.count} locks "
                             f"and a counter, got {self.buffers.length(0)} and {self.buffers.length(1)} words")
        past = <size_t> self.stripes.locks % 64
        if past:
            raise ValueError(f"memory: expected an address that is a multiple of 64, got one {past} bytes past it")

    @staticmethod
    def count_of(size, stripe=STRIPE):
        return max(1, -(-size // stripe))

    def create(self):
        cdef int error = c_create(self.stripes)
        if error:
            raise OSError(error, "process-shared robust locks are not available here")

    @property
    def stripe(self):
        return self.stripes.stripe

    def __len__(self):
        return self.stripes.count

    def hold(self, begin=0, end=None, timeout=None):
        cdef size_t first = _bound(begin, "begin", 0, self.size)
        cdef size_t last = self.size if end is None else _bound(end, "end", first, self.size)
        cdef _Hold hold = _Hold.__new__(_Hold)
        hold.stripes = self
        hold.timeout = self.timeout if timeout is None else timeout
        hold.first = first // self.stripes.stripe
        hold.last = (last + self.stripes.stripe - 1) // self.stripes.stripe if last > first else hold.first
        return hold

    cdef int check_covers(self, Py_ssize_t n) except -1:
        if n > self.size:
            raise ValueError(f"stripes: expected locks for at least {n} elements, got locks for {self.size}")
        return 0


cdef class _Hold:
    cdef Stripes stripes
    cdef size_t first
    cdef size_t last
    cdef double timeout

    def __enter__(self):
        cdef bint taken
        with nogil:
            taken = take_all(self.stripes.stripes, self.first, self.last, self.timeout)
        if not taken:
            raise TimeoutError(_LATE.format(self.timeout))

    def __exit__(self, *exc):
        give_back_all(self.stripes.stripes, self.first, self.last)


cdef void _set_course(Course* course, Stripes stripes, size_t offset, uint64_t writer) noexcept:
    course.stripes = NULL
    course.seconds = 0.0
    if stripes is not None:
        course.stripes = &stripes.stripes
        course.seconds = stripes.timeout
    course.offset = offset
    course.writer = writer


cdef object _unless_late(size_t count):
    if count == timed_out:
        raise TimeoutError(_LATE.format("its timeout"))
    return count

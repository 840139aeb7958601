# Several gradients in one pass, gradients and slots in bfloat16. Included by _core.pyx.


cdef uint16_t* _halves(_Buffers buffers, object value, object name, Py_ssize_t length,
                       bint writable=False) except? NULL:
    """The elements of a uint16 vector, upper halves of floats; `length` < 0 accepts any number of them."""
    cdef Py_buffer* view = buffers.acquire(value, name, "uint16", length, writable)
    if view.itemsize != 2 or not _is_native(view.format, b"H"):
        raise _misfit(name, "uint16", length, value, view)
    buffers.check(view, name, "uint16", value, length, writable)
    return <uint16_t*> view.buf


cdef bint _is_halves(object value):
    """Whether a gradient is bfloat16, by its element size alone; what else is wrong with it is said later."""
    return PyObject_CheckBuffer(value) and memoryview(value).itemsize == 2


cdef class PushKernel:
    cdef const Rule* _rule
    cdef bint _half
    cdef readonly str rule
    cdef readonly str slot_dtype
    cdef readonly str isa
    cdef readonly tuple scalars
    cdef readonly int slots

    def __init__(self, str rule, str slot_dtype="float32", str isa="auto"):
        cdef const Kernels* kernels
        described = Kernel(rule, "racy", isa)
        if slot_dtype not in ("float32", "bfloat16"):
            raise ValueError(f"slot_dtype: expected 'float32' or 'bfloat16', got {slot_dtype!r}")
        kernels = find_kernels(isa.encode())
        self._half = slot_dtype == "bfloat16"
        self._rule = find_rule(kernels[0], rule.encode())
        self.rule = rule
        self.slot_dtype = slot_dtype
        self.isa = described.isa
        self.scalars = described.scalars
        self.slots = described.slots

    def __reduce__(self):
        return PushKernel, (self.rule, self.slot_dtype, self.isa)

    def each(self, scalars, weights, slots, gradients, *, scales=None, decays=None, double clip=INFINITY,
             Parts parts=None, begin=0, end=None, uint32_t seed=0, threads=1):
        cdef _Buffers buffers = _Buffers(self.slots + 1 + len(gradients))
        cdef vector[Push] pushes
        cdef Push push
        cdef Py_ssize_t k, count = len(gradients)
        cdef float* target = buffers.floats(weights, "weights", -1, True)
        cdef Py_ssize_t n = buffers.length(0)
        _count(scalars, "scalars", count)
        scales = [1.0] * count if scales is None else scales
        decays = [0.0] * count if decays is None else decays
        _count(scales, "scales", count)
        _count(decays, "decays", count)
        for k in range(count):
            self.read_scalars(push, scalars[k])
            push.halves = NULL
            push.floats.clear()
            if _is_halves(gradients[k]):
                push.halves = _halves(buffers, gradients[k], ("gradients", k), n)
            else:
                push.floats.push_back(buffers.floats(gradients[k], ("gradients", k), n))
            push.scale, push.decay = scales[k], decays[k]
            pushes.push_back(push)
        return self.run(buffers, target, slots, pushes, clip, parts, begin, end, seed, threads)

    def mean(self, scalars, weights, slots, gradients, shares, *, double scale=1.0, double decay=0.0,
             double clip=INFINITY, Parts parts=None, begin=0, end=None, uint32_t seed=0, threads=1):
        cdef _Buffers buffers = _Buffers(self.slots + 1 + len(gradients))
        cdef vector[Push] pushes
        cdef Push push
        cdef float* target = buffers.floats(weights, "weights", -1, True)
        cdef Py_ssize_t n = buffers.length(0)
        cdef double total = _total(shares, "shares", gradients, "gradients")
        self.read_scalars(push, scalars)
        push.halves = NULL
        for k, gradient in enumerate(gradients):
            push.floats.push_back(buffers.floats(gradient, ("gradients", k), n))
            push.shares.push_back(<double> shares[k] / total)
        push.scale, push.decay = scale, decay
        pushes.push_back(push)
        return self.run(buffers, target, slots, pushes, clip, parts, begin, end, seed, threads)

    cdef int read_scalars(self, Push& push, object scalars) except -1:
        cdef int k
        if len(scalars) != len(self.scalars):
            raise ValueError(f"scalars: expected the {len(self.scalars)} of rule '{self.rule}' "
                             f"({', '.join(self.scalars)}), got {len(scalars)}")
        for k in range(len(self.scalars)):
            push.scalars[k] = scalars[k]
        return 0

    cdef object run(self, _Buffers buffers, float* weights, object slots, vector[Push]& pushes, double clip,
                    Parts parts, object begin, object end, uint32_t seed, object threads):
        cdef Operands o
        cdef vector[Part] ranges
        cdef Part whole
        cdef size_t bad, first, last
        cdef Py_ssize_t n = buffers.length(0)
        cdef int k, workers = _threads(threads)
        _count(slots, "slots", self.slots)
        for k in range(self.slots):
            if self._half:
                o.halves_out[k] = _halves(buffers, slots[k], ("slots", k), n, True)
                o.halves[k] = o.halves_out[k]
            else:
                o.slots_out[k] = buffers.floats(slots[k], ("slots", k), n, True)
                o.slots[k] = o.slots_out[k]
        buffers.check_overlaps()
        if not clip > 0.0:
            raise ValueError(f"clip: expected a number > 0, got {clip}")
        o.weights = o.weights_out = weights
        o.clip = clip
        o.seed = seed
        first = _bound(begin, "begin", 0, n)
        last = n if end is None else _bound(end, "end", first, n)
        if parts is None:
            whole.begin, whole.end, whole.decay = first, last, 1.0
            ranges.push_back(whole)
        elif parts.end > n:
            raise ValueError(f"weights: expected at least the {parts.end} elements of parts, got {n}")
        else:
            ranges = parts.parts
        with nogil:
            bad = apply_pushes(
                self._rule[0], self._half, o, pushes, ranges, first, last, workers)
        return bad


cdef double _total(object shares, str name, object vectors, str vectors_name) except? 0.0:
    """The sum of the shares of a mean."""
    cdef double total
    if len(vectors) == 0:
        raise ValueError(f"{vectors_name}: expected at least one, got none")
    _count(shares, name, len(vectors))
    total = math.fsum(shares)
    if not (total > 0.0 and math.isfinite(total) and min(shares) >= 0.0):
        raise ValueError(f"{name}: expected finite numbers >= 0 with a sum > 0, got {list(shares)}")
    return total


def encode_bfloat16(x, out, threads=1):
    cdef _Buffers buffers = _Buffers(2)
    cdef const float* source = buffers.floats(x, "x", -1)
    cdef size_t n = buffers.length(0)
    cdef uint16_t* target = _halves(buffers, out, "out", n, True)
    cdef int workers = _threads(threads)
    buffers.check_overlaps()
    with nogil:
        c_encode_bfloat16(_best[0], source, target, n, workers)


def decode_bfloat16(x, out, threads=1):
    cdef _Buffers buffers = _Buffers(2)
    cdef const uint16_t* source = _halves(buffers, x, "x", -1)
    cdef size_t n = buffers.length(0)
    cdef float* target = buffers.floats(out, "out", n, True)
    cdef int workers = _threads(threads)
    buffers.check_overlaps()
    with nogil:
        c_decode_bfloat16(_best[0], source, target, n, workers)

# cython: language_level=3, boundscheck=False, wraparound=False, binding=True, freethreading_compatible=True
"""Compiled kernels over float32 buffers: _core.pyi says what each function takes, returns and promises.

This file checks arguments, drops the GIL and calls csrc/dispatch.hpp. It holds no arithmetic.
"""
cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_STRIDES,
    PyBuffer_IsContiguous,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.math cimport INFINITY
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport strcmp
from libcpp.vector cimport vector

import math

include "_arguments.pxi"

ACCESSES = ("racy", "relaxed", "compare_exchange")
STRIPE = 16384
RECOVERABLE = recoverable

_LATE = ("stripes: expected every lock to become free within {} s, got one that its owner keeps; "
         "a stopped process may hold it: continue or kill that process")

cdef const Kernels* _best = find_kernels(b"auto")


# --- Rules ----------------------------------------------------------------------------------------------

def isas():
    return tuple(name.decode() for name in usable_isas())


def rules():
    cdef int k
    found = {}
    for k in range(rule_count):
        found[_best.rules[k].name.decode()] = tuple(_best.rules[k].scalars.decode().split())
    return found


cdef class Parts:
    cdef vector[Part] parts

    def __init__(self, ranges, decays=None):
        cdef size_t reached = 0
        decays = [True] * len(ranges) if decays is None else decays
        _count(decays, "decays", len(ranges))
        self.parts.clear()
        for (begin, end), decayed in zip(ranges, decays):
            if not reached <= begin <= end:
                raise ValueError("ranges: expected ascending [begin, end) that do not overlap, "
                                 f"got [{begin}, {end}) after {reached}")
            self.parts.push_back(Part(begin, end, 1.0, 1.0 if decayed else 0.0, NULL))
            reached = end

    def __len__(self):
        return self.parts.size()

    @property
    def end(self):
        return self.parts.back().end if self.parts.size() else 0

    def sums_of_squares(self, x):
        cdef bint separate = isinstance(x, (list, tuple))
        cdef _Buffers buffers = _Buffers(len(x) if separate else 1)
        cdef vector[double] sums
        cdef size_t k, length
        cdef const float* data = NULL
        if separate:
            _count(x, "x", self.parts.size())
            for k in range(self.parts.size()):
                buffers.flat(x[k], ("x", k), self.parts[k].end - self.parts[k].begin)
        else:
            data = buffers.floats(x, "x", -1)
            self.check_within(buffers.length(0), "x")
        sums.resize(self.parts.size())
        with nogil:
            for k in range(self.parts.size()):
                length = self.parts[k].end - self.parts[k].begin
                if separate:
                    data = <const float*> buffers.view(k).buf
                sums[k] = c_sum_of_squares(_best[0], data if separate else data + self.parts[k].begin, length, 1)
        return list(sums)

    def check(self, gradient):
        cdef _Buffers buffers = _Buffers(len(gradient))
        cdef size_t k
        _count(gradient, "gradient", self.parts.size())
        for k in range(self.parts.size()):
            buffers.flat(gradient[k], ("gradient", k), self.parts[k].end - self.parts[k].begin)

    cdef int check_within(self, size_t n, str name) except -1:
        if self.parts.size() and self.parts.back().end > n:
            raise ValueError(f"{name}: expected at least the {self.parts.back().end} elements of parts, got {n}")
        return 0

    cdef int cut(self, vector[Part]& out, size_t first, size_t last, double scale, object scales, double decay,
                 _Buffers buffers, object gradient, bint separate, Py_ssize_t n) except -1:
        """Append the parts' intersections with [first, last), with this step's gradient, scales and decay."""
        cdef Part part
        cdef const float* whole = NULL
        cdef size_t k
        if scales is not None:
            _count(scales, "scales", self.parts.size())
        if separate:
            _count(gradient, "gradient", self.parts.size())
        else:
            whole = buffers.floats(gradient, "gradient", n)
        for k in range(self.parts.size()):
            part = self.parts[k]
            if separate:
                part.gradient = buffers.flat(gradient[k], ("gradient", k), part.end - part.begin) - part.begin
            else:
                part.gradient = whole
            part.begin = max(part.begin, first)
            part.end = min(part.end, last)
            if part.begin < part.end:
                part.scale = scale if scales is None else scale * <double> scales[k]
                part.decay = decay * part.decay
                out.push_back(part)
        return 0


cdef class Kernel:
    cdef Apply _apply
    cdef readonly str rule
    cdef readonly str access
    cdef readonly str isa
    cdef readonly tuple scalars
    cdef readonly int slots

    def __init__(self, str rule, str access="racy", str isa="auto"):
        cdef const Rule* found
        cdef const Kernels* kernels = find_kernels(isa.encode())
        if kernels == NULL:
            raise ValueError(f"isa: expected 'auto' or one of {', '.join(isas())} on this processor, got {isa!r}")
        found = find_rule(kernels[0], rule.encode())
        if found == NULL:
            raise ValueError(f"rule: expected one of {', '.join(rules())}, got {rule!r}")
        self._apply = found.apply[_access(access)]
        self.rule = rule
        self.access = access
        self.isa = isas()[0] if isa == "auto" else isa
        self.scalars = tuple(found.scalars.decode().split())
        self.slots = found.slots

    def __reduce__(self):
        return Kernel, (self.rule, self.access, self.isa)

    def bind(self, weights, slots, *, weights_out=None, slots_out=None, Parts parts=None, Stripes stripes=None,
             begin=0, end=None, threads=1):
        return Bound(self, weights, slots, weights_out, slots_out, parts, stripes, begin, end, threads)

    def __call__(self, scalars, weights, slots, gradient, *, weights_out=None, slots_out=None, double scale=1.0,
                 double clip=INFINITY, double decay=0.0, Parts parts=None, scales=None, Stripes stripes=None, start=0,
                 copy_to=None, begin=0, end=None, threads=1):
        bound = Bound(self, weights, slots, weights_out, slots_out, parts, stripes, begin, end, threads)
        return bound.apply(scalars, gradient, scale, clip, decay, scales, start, copy_to)


cdef class Bound:
    cdef Kernel kernel
    cdef _Buffers buffers
    cdef Operands operands
    cdef Parts parts
    cdef Stripes stripes
    cdef Py_ssize_t n
    cdef size_t first
    cdef size_t last
    cdef int threads

    def __init__(self, Kernel kernel not None, weights, slots, weights_out, slots_out, Parts parts, Stripes stripes,
                 begin, end, threads):
        cdef _Buffers buffers = _Buffers(2 * max_slots + 2)
        cdef Operands* o = &self.operands
        cdef int k
        cdef bint in_place = weights_out is None and slots_out is None
        _count(slots, "slots", kernel.slots)
        o.weights = buffers.floats(weights, "weights", -1, in_place)
        self.n = buffers.length(0)
        for k in range(kernel.slots):
            o.slots[k] = buffers.floats(slots[k], ("slots", k), self.n, in_place)
        if in_place:
            o.weights_out = <float*> o.weights
            for k in range(kernel.slots):
                o.slots_out[k] = <float*> o.slots[k]
            buffers.check_overlaps()
        else:
            if kernel.access != "racy":
                raise ValueError(f"weights_out: expected None with access '{kernel.access}', which updates shared "
                                 "memory in place; use access 'racy'")
            slots_out = slots if slots_out is None else slots_out
            _count(slots_out, "slots_out", kernel.slots)
            weights_out = weights if weights_out is None else weights_out
            o.weights_out = buffers.floats(weights_out, "weights_out", self.n, True)
            for k in range(kernel.slots):
                o.slots_out[k] = buffers.floats(slots_out[k], ("slots_out", k), self.n, True)
            buffers.check_overlaps(kernel.slots + 1)
        self.first = _bound(begin, "begin", 0, self.n)
        self.last = self.n if end is None else _bound(end, "end", self.first, self.n)
        if parts is not None:
            parts.check_within(self.n, "weights")
        if stripes is not None:
            stripes.check_covers(self.n)
        self.threads = _threads(threads)
        self.kernel, self.buffers, self.parts, self.stripes = kernel, buffers, parts, stripes

    def apply(self, scalars, gradient, double scale=1.0, double clip=INFINITY, double decay=0.0, scales=None,
              uint64_t start=0, copy_to=None):
        cdef bint separate = isinstance(gradient, (list, tuple))
        cdef _Buffers buffers = _Buffers(len(gradient) + 1 if separate else 2)
        cdef Operands o = self.operands
        cdef vector[Part] cut
        cdef Course course
        cdef float* copied = NULL
        cdef size_t bad
        cdef int k
        if len(scalars) != len(self.kernel.scalars):
            raise ValueError(f"scalars: expected the {len(self.kernel.scalars)} of rule '{self.kernel.rule}' "
                             f"({', '.join(self.kernel.scalars)}), got {len(scalars)}")
        for k in range(len(self.kernel.scalars)):
            o.scalars[k] = scalars[k]
        if not clip > 0.0:
            raise ValueError(f"clip: expected a number > 0, got {clip}")
        o.clip = clip
        if self.parts is not None:
            self.parts.cut(cut, self.first, self.last, scale, scales, decay, buffers, gradient, separate, self.n)
        elif scales is not None:
            raise ValueError("scales: expected None where parts is None, got values")
        else:
            cut.push_back(Part(self.first, self.last, scale, decay, buffers.floats(gradient, "gradient", self.n)))
        if copy_to is not None:
            copied = buffers.floats(copy_to, "copy_to", self.n, True)
        buffers.check_overlaps()
        self.buffers.check_overlaps_with(buffers)
        _set_course(&course, self.stripes, 0, start)
        with nogil:
            bad = apply_parts(self.kernel._apply, o, cut, self.first, self.last, copied, course, self.threads)
        return _unless_late(bad)


include "_pushes.pxi"


# --- Vectors --------------------------------------------------------------------------------------------

def all_finite(x):
    cdef bint separate = isinstance(x, (list, tuple))
    cdef _Buffers buffers = _Buffers(len(x) if separate else 1)
    cdef Py_ssize_t k
    cdef bint finite = True
    if separate:
        for k in range(len(x)):
            buffers.flat(x[k], ("x", k), -1)
    else:
        buffers.flat(x, "x", -1)
    with nogil:
        for k in range(buffers.count):
            finite = finite and c_all_finite(_best[0], <const float*> buffers.view(k).buf, buffers.view(k).len // 4)
    return finite


def count_nonfinite(x, threads=1):
    cdef _Buffers buffers = _Buffers(1)
    cdef const float* data = buffers.floats(x, "x", -1)
    cdef size_t bad, n = buffers.length(0)
    cdef int workers = _threads(threads)
    with nogil:
        bad = c_count_nonfinite(_best[0], data, n, workers)
    return bad


def sum_of_squares(x, threads=1):
    cdef _Buffers buffers = _Buffers(1)
    cdef const float* data = buffers.floats(x, "x", -1)
    cdef size_t n = buffers.length(0)
    cdef int workers = _threads(threads)
    cdef double total
    with nogil:
        total = c_sum_of_squares(_best[0], data, n, workers)
    return total


def weighted_mean(vectors, weights, out, threads=1):
    cdef _Buffers buffers = _Buffers(len(vectors) + 1)
    cdef float* target = buffers.floats(out, "out", -1, True)
    cdef size_t n = buffers.length(0)
    cdef int workers = _threads(threads)
    cdef vector[const float*] sources
    cdef vector[double] shares
    cdef double total = _total(weights, "weights", vectors, "vectors")
    for k, vector_k in enumerate(vectors):
        sources.push_back(buffers.floats(vector_k, ("vectors", k), n))
        shares.push_back(<double> weights[k] / total)
    buffers.check_overlaps()
    with nogil:
        c_weighted_mean(_best[0], sources, shares, target, n, workers)


def subtract(a, b, out, threads=1):
    cdef _Buffers buffers = _Buffers(3)
    cdef const float* left = buffers.floats(a, "a", -1)
    cdef size_t n = buffers.length(0)
    cdef const float* right = buffers.floats(b, "b", n)
    cdef float* target = buffers.floats(out, "out", n, True)
    cdef int workers = _threads(threads)
    cdef size_t bad
    buffers.check_overlaps(2 if target == left else 1)
    with nogil:
        bad = c_subtract(_best[0], left, right, target, n, workers)
    return bad


def copy(source, out, threads=1):
    cdef _Buffers buffers = _Buffers(2)
    cdef const float* origin = buffers.floats(source, "source", -1)
    cdef size_t n = buffers.length(0)
    cdef float* target = buffers.floats(out, "out", n, True)
    cdef int workers = _threads(threads)
    buffers.check_overlaps()
    with nogil:
        c_copy(origin, target, n, workers)


def keep_blocks(size, total, *, one_arena=False):
    if size < 1:
        raise ValueError(f"size: expected bytes >= 1, got {size}")
    if total < size:
        raise ValueError(f"total: expected bytes >= size = {size}, got {total}")
    return c_keep_blocks(size, total, one_arena)


def blend(weights, values, double alpha, access="racy", *, Stripes stripes=None, offset=0, uint64_t start=0):
    cdef _Buffers buffers = _Buffers(2)
    cdef float* target = buffers.floats(weights, "weights", -1, True)
    cdef size_t n = buffers.length(0)
    cdef const float* source = buffers.floats(values, "values", n)
    cdef int mode = _access(access)
    cdef Course course
    cdef size_t bad
    buffers.check_overlaps()
    if stripes is not None:
        stripes.check_covers(_bound(offset, "offset", 0, stripes.size) + n)
    _set_course(&course, stripes, offset, start)
    with nogil:
        bad = c_blend(_best[0], mode, target, source, alpha, n, course)
    return _unless_late(bad)


def round_to_float32(double x):
    return <double> <float> x


# --- Constraints ----------------------------------------------------------------------------------------

def non_negative(weights, out=None):
    cdef _Buffers buffers = _Buffers(2)
    cdef const float* source = buffers.floats(weights, "weights", -1)
    cdef size_t n = buffers.length(0)
    cdef float* target = buffers.floats(weights if out is None else out, "out", n, True)
    buffers.check_overlaps(1)
    with nogil:
        c_non_negative(_best[0], source, target, n)


def bound_norms(weights, shape, *, double minimum=0.0, double maximum=INFINITY, double rate=1.0, double epsilon=1e-7,
                out=None):
    cdef _Buffers buffers = _Buffers(2)
    cdef const float* source = buffers.floats(weights, "weights", -1)
    cdef size_t n = buffers.length(0)
    cdef float* target = buffers.floats(weights if out is None else out, "out", n, True)
    cdef Blocks blocks
    outer, reduced, inner = shape
    if min(shape) < 0 or outer * reduced * inner != n:
        raise ValueError(f"shape: expected (outer, reduced, inner) of {n} elements, got {tuple(shape)}")
    if not 0.0 <= minimum <= maximum:
        raise ValueError(f"minimum: expected a norm from 0 to maximum = {maximum}, got {minimum}")
    blocks.outer, blocks.reduced, blocks.inner = outer, reduced, inner
    buffers.check_overlaps(1)
    with nogil:
        c_bound_norms(_best[0], source, target, blocks, NormBounds(minimum, maximum, rate, epsilon))


include "_shared.pxi"

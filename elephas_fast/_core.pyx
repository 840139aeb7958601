# cython: language_level=3, boundscheck=False, wraparound=False, binding=True, freethreading_compatible=True
"""Compiled kernels over float32 buffers: _core.pyi says what each function takes, returns and promises.

This file checks arguments, drops the GIL and calls csrc/dispatch.hpp. It holds no arithmetic.
"""
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
            self.parts.push_back(Part(begin, end, 1.0, 1.0 if decayed else 0.0))
            reached = end

    def __len__(self):
        return self.parts.size()

    @property
    def end(self):
        return self.parts.back().end if self.parts.size() else 0

    def sums_of_squares(self, x):
        cdef _Buffers buffers = _Buffers(1)
        cdef const float* data = buffers.floats(x, "x", -1)
        cdef vector[double] sums
        cdef size_t k
        self.check_within(buffers.length(0), "x")
        sums.resize(self.parts.size())
        with nogil:
            for k in range(self.parts.size()):
                sums[k] = c_sum_of_squares(
                    _best[0], data + self.parts[k].begin, self.parts[k].end - self.parts[k].begin, 1)
        return list(sums)

    cdef int check_within(self, size_t n, str name) except -1:
        if self.parts.size() and self.parts.back().end > n:
            raise ValueError(f"{name}: expected at least the {self.parts.back().end} elements of parts, got {n}")
        return 0

    cdef int cut(self, vector[Part]& out, size_t first, size_t last, size_t n, double scale, object scales,
                 double decay) except -1:
        """Append the parts' intersections with [first, last), with this step's scales and decay."""
        cdef Part part
        cdef size_t k
        self.check_within(n, "weights")
        if scales is not None:
            _count(scales, "scales", self.parts.size())
        for k in range(self.parts.size()):
            part.begin = max(self.parts[k].begin, first)
            part.end = min(self.parts[k].end, last)
            if part.begin < part.end:
                part.scale = scale if scales is None else scale * <double> scales[k]
                part.decay = decay * self.parts[k].decay
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

    def __call__(self, scalars, weights, slots, gradient, *, weights_out=None, slots_out=None, double scale=1.0,
                 double clip=INFINITY, double decay=0.0, Parts parts=None, scales=None, begin=0, end=None, threads=1):
        cdef _Buffers buffers = _Buffers(2 * max_slots + 3)
        cdef Operands o
        cdef vector[Part] cut
        cdef size_t bad, first, last
        cdef Py_ssize_t n
        cdef int k, workers = _threads(threads)
        cdef bint in_place = weights_out is None and slots_out is None

        if len(scalars) != len(self.scalars):
            raise ValueError(f"scalars: expected the {len(self.scalars)} of rule '{self.rule}' "
                             f"({', '.join(self.scalars)}), got {len(scalars)}")
        for k in range(len(self.scalars)):
            o.scalars[k] = scalars[k]
        _count(slots, "slots", self.slots)
        o.weights = buffers.floats(weights, "weights", -1, in_place)
        n = buffers.length(0)
        for k in range(self.slots):
            o.slots[k] = buffers.floats(slots[k], ("slots", k), n, in_place)
        o.gradient = buffers.floats(gradient, "gradient", n)
        if in_place:
            o.weights_out = <float*> o.weights
            for k in range(self.slots):
                o.slots_out[k] = <float*> o.slots[k]
            buffers.check_overlaps()
        else:
            if self.access != "racy":
                raise ValueError(f"weights_out: expected None with access '{self.access}', which updates shared memory "
                                 "in place; use access 'racy'")
            slots_out = slots if slots_out is None else slots_out
            _count(slots_out, "slots_out", self.slots)
            o.weights_out = buffers.floats(weights if weights_out is None else weights_out, "weights_out", n, True)
            for k in range(self.slots):
                o.slots_out[k] = buffers.floats(slots_out[k], ("slots_out", k), n, True)
            buffers.check_overlaps(self.slots + 2)
        if not clip > 0.0:
            raise ValueError(f"clip: expected a number > 0, got {clip}")
        o.clip = clip

        first = _bound(begin, "begin", 0, n)
        last = n if end is None else _bound(end, "end", first, n)
        if parts is None:
            if scales is not None:
                raise ValueError("scales: expected None where parts is None, got values")
            cut.push_back(Part(first, last, scale, decay))
        else:
            parts.cut(cut, first, last, n, scale, scales, decay)
        with nogil:
            bad = apply_parts(self._apply, o, cut, workers)
        return bad


include "_pushes.pxi"


# --- Vectors --------------------------------------------------------------------------------------------

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
    cdef double total
    if len(vectors) == 0:
        raise ValueError("vectors: expected at least one, got none")
    _count(weights, "weights", len(vectors))
    total = math.fsum(weights)
    if not (total > 0.0 and math.isfinite(total) and min(weights) >= 0.0):
        raise ValueError(f"weights: expected finite numbers >= 0 with a sum > 0, got {list(weights)}")
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


def blend(weights, values, double alpha, access="racy"):
    cdef _Buffers buffers = _Buffers(2)
    cdef float* target = buffers.floats(weights, "weights", -1, True)
    cdef size_t n = buffers.length(0)
    cdef const float* source = buffers.floats(values, "values", n)
    cdef int mode = _access(access)
    cdef size_t bad
    buffers.check_overlaps()
    with nogil:
        bad = c_blend(_best[0], mode, target, source, alpha, n)
    return bad


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


# --- Atomic words ---------------------------------------------------------------------------------------

cdef uint64_t* _word(_Buffers buffers, object words, Py_ssize_t i, bint writable) except NULL:
    cdef uint64_t* data = buffers.words(words, writable)
    if not 0 <= i < buffers.length(0):
        raise IndexError(f"i: expected an index from 0 to {buffers.length(0) - 1}, got {i}")
    return data + i


def atomic_load(words, Py_ssize_t i):
    cdef _Buffers buffers = _Buffers(1)
    return c_atomic_load(_word(buffers, words, i, False))


def atomic_store(words, Py_ssize_t i, uint64_t value):
    cdef _Buffers buffers = _Buffers(1)
    c_atomic_store(_word(buffers, words, i, True), value)


def atomic_add(words, Py_ssize_t i, change):
    cdef _Buffers buffers = _Buffers(1)
    return c_atomic_add(_word(buffers, words, i, True), <uint64_t> (change & 0xFFFFFFFFFFFFFFFF))


def atomic_compare_exchange(words, Py_ssize_t i, uint64_t expected, uint64_t value):
    cdef _Buffers buffers = _Buffers(1)
    return c_atomic_compare_exchange(_word(buffers, words, i, True), expected, value)

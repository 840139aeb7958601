# csrc/kernels.hpp and csrc/dispatch.hpp, as Cython sees them.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libcpp cimport bool as cpp_bool
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from "kernels.hpp" namespace "elephas" nogil:
    const int max_slots
    const int max_scalars
    const int rule_count

    struct Operands:
        const float* weights
        const float* slots[3]
        const float* gradient
        float* weights_out
        float* slots_out[3]
        float scalars[6]
        float scale
        float clip
        float decay
        const uint16_t* halves[3]
        uint16_t* halves_out[3]
        uint32_t seed

    struct Blocks:
        size_t outer
        size_t reduced
        size_t inner

    struct NormBounds:
        float minimum
        float maximum
        float rate
        float epsilon

    ctypedef size_t (*Apply)(const Operands&, size_t, size_t) noexcept

    struct Rule:
        const char* name
        int slots
        const char* scalars
        Apply apply[3]

    struct Kernels:
        Rule rules[11]


cdef extern from "blocks.hpp" namespace "elephas" nogil:
    cpp_bool c_keep_blocks "elephas::keep_blocks"(size_t size, size_t total, cpp_bool one_arena)


cdef extern from "stripes.hpp" namespace "elephas" nogil:
    struct StripeLock:
        pass

    struct CStripes "elephas::Stripes":
        StripeLock* locks
        uint64_t* reclaimed
        size_t count
        size_t stripe

    const size_t recoverable
    int c_create "elephas::create"(const CStripes& stripes)
    cpp_bool take_all(const CStripes& stripes, size_t first, size_t last, double seconds)
    void give_back_all(const CStripes& stripes, size_t first, size_t last)


cdef extern from "dispatch.hpp" namespace "elephas" nogil:
    struct Part:
        size_t begin
        size_t end
        float scale
        float decay
        const float* gradient

    struct Course:
        const CStripes* stripes
        size_t offset
        uint64_t writer
        double seconds

    const size_t timed_out

    vector[string] usable_isas() except +
    const Kernels* find_kernels(const string& isa) except +
    const Rule* find_rule(const Kernels& kernels, const string& name) except +
    size_t apply_parts(
        Apply rule, const Operands& o, const vector[Part]& parts, size_t begin, size_t end, float* copy_to,
        const Course& course, int threads) except +
    cpp_bool c_all_finite "elephas::all_finite"(const Kernels& kernels, const float* x, size_t n)
    size_t c_count_nonfinite "elephas::count_nonfinite"(
        const Kernels& kernels, const float* x, size_t n, int threads) except +
    double c_sum_of_squares "elephas::sum_of_squares"(
        const Kernels& kernels, const float* x, size_t n, int threads) except +
    void c_weighted_mean "elephas::weighted_mean"(
        const Kernels& kernels, const vector[const float*]& vectors, const vector[double]& shares,
        float* out, size_t n, int threads) except +
    size_t c_subtract "elephas::subtract"(
        const Kernels& kernels, const float* a, const float* b, float* out, size_t n, int threads) except +
    size_t c_blend "elephas::blend"(
        const Kernels& kernels, int access, float* weights, const float* values, float alpha,
        size_t n, const Course& course) except +
    void c_copy "elephas::copy"(const float* source, float* out, size_t n, int threads) except +
    void c_non_negative "elephas::non_negative"(
        const Kernels& kernels, const float* weights, float* out, size_t n) except +
    void c_bound_norms "elephas::bound_norms"(
        const Kernels& kernels, const float* weights, float* out, Blocks shape,
        NormBounds bounds) except +


cdef extern from "pushes.hpp" namespace "elephas" nogil:
    struct Push:
        float scalars[6]
        const uint16_t* halves
        vector[const float*] floats
        vector[double] shares
        float scale
        float decay

    size_t apply_pushes(const Rule& rule, cpp_bool bfloat16_slots, const Operands& o,
                        const vector[Push]& pushes, const vector[Part]& parts, size_t begin, size_t end,
                        int threads) except +
    void c_encode_bfloat16 "elephas::encode_bfloat16"(
        const Kernels& kernels, const float* x, uint16_t* out, size_t n, int threads) except +
    void c_decode_bfloat16 "elephas::decode_bfloat16"(
        const Kernels& kernels, const uint16_t* x, float* out, size_t n, int threads) except +


cdef extern from "atomics.hpp" namespace "elephas" nogil:
    uint64_t c_atomic_load "elephas::atomic_load"(const uint64_t* word)
    void c_atomic_store "elephas::atomic_store"(uint64_t* word, uint64_t value)
    uint64_t c_atomic_add "elephas::atomic_add"(uint64_t* word, uint64_t change)
    cpp_bool c_atomic_compare_exchange "elephas::atomic_compare_exchange"(
        uint64_t* word, uint64_t expected, uint64_t value)

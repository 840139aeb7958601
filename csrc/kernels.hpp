// The types shared by the kernels (kernels.cpp, compiled once per instruction set) and by the code that chooses among
// them (dispatch.cpp). No function is defined here: whatever an instruction set instantiates lives in that set's own
// namespace, so that the linker can never put an AVX-512 body behind a baseline call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace elephas {

constexpr int max_slots = 3;
constexpr int max_scalars = 6;
constexpr int rule_count = 11;
constexpr int access_count = 3;

// One update of float32[n] vectors. Nothing is owned. An output is its own input (in place) or overlaps no other
// operand.
struct Operands {
    const float* weights;
    const float* slots[max_slots];
    const float* gradient;
    float* weights_out;
    float* slots_out[max_slots];
    float scalars[max_scalars];  // the rule's numbers for this step, as Rule::scalars names them
    float scale;                 // the gradient is multiplied by this,
    float clip;                  // then clipped to [-clip, clip]
    float decay;                 // the weights lose this fraction before the rule acts

    // Instead of `slots` and `slots_out` for Rule::apply_bfloat16, with the seed of this step's rounding.
    const std::uint16_t* halves[max_slots];
    std::uint16_t* halves_out[max_slots];
    std::uint32_t seed;
};

// A tensor seen as [outer, reduced, inner]: a norm runs over `reduced`.
struct Blocks {
    std::size_t outer;
    std::size_t reduced;
    std::size_t inner;
};

// Where a norm must lie, and how far one step goes there: Keras' MinMaxNorm, of which MaxNorm and UnitNorm are cases.
struct NormBounds {
    float minimum;
    float maximum;
    float rate;
    float epsilon;
};

using Apply = std::size_t (*)(const Operands&, std::size_t begin, std::size_t end) noexcept;

// queue.hpp
using ApplyQueue = std::size_t (*)(const Operands* pushes, std::size_t count, std::size_t begin,
                                   std::size_t end) noexcept;

// What a gradient is made from: `halves` (bfloat16) if that is not null, else the mean of `count` > 0 vectors with
// `shares`.
struct Gradients {
    const std::uint16_t* halves;
    const float* const* vectors;
    const double* shares;
    std::size_t count;
};

// made.hpp
using ApplyMade = std::size_t (*)(const Operands&, const Gradients& from, std::size_t begin, std::size_t end) noexcept;

struct Rule {
    const char* name;
    int slots;
    const char* scalars;  // names, separated by spaces
    Apply apply[access_count];
    Apply apply_bfloat16;  // slots in bfloat16, plain access
    ApplyQueue apply_queue;
    ApplyMade apply_made[2];  // slots in float32, in bfloat16
};

// Ranges are half-open; counts are of non-finite elements; see vectors.hpp and constraints.hpp for each function.
struct Kernels {
    Rule rules[rule_count];
    std::size_t (*count_nonfinite)(const float* x, std::size_t begin, std::size_t end) noexcept;
    double (*sum_of_squares)(const float* x, std::size_t begin, std::size_t end) noexcept;
    void (*weighted_mean)(const float* const* vectors, const double* shares, std::size_t count, float* out,
                          std::size_t begin, std::size_t end) noexcept;
    std::size_t (*subtract)(const float* a, const float* b, float* out, std::size_t begin, std::size_t end) noexcept;
    std::size_t (*blend[access_count])(float* weights, const float* values, float alpha, std::size_t begin,
                                       std::size_t end) noexcept;
    void (*non_negative)(const float* weights, float* out, std::size_t begin, std::size_t end) noexcept;
    void (*bound_norms)(const float* weights, float* out, Blocks shape, NormBounds bounds, double* norms) noexcept;
    void (*encode_bfloat16)(const float* x, std::uint16_t* out, std::size_t begin, std::size_t end) noexcept;
    void (*decode_bfloat16)(const std::uint16_t* x, float* out, std::size_t begin, std::size_t end) noexcept;
};

}  // namespace elephas

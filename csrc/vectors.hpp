// Operations on whole vectors that are not optimizer rules. Sums have a fixed order: every instruction set and every
// way of cutting the work gives the same bits.
#pragma once

#include "access.hpp"
#include "doubles.hpp"
#include "kernels.hpp"
#include "nonfinite.hpp"

namespace elephas {
namespace {

inline std::size_t count_nonfinite(const float* x, std::size_t begin, std::size_t end) noexcept {
    std::size_t bad = 0;
    for (std::size_t block = begin; block < end; block += count_block) {
        const std::size_t stop = end - block < count_block ? end : block + count_block;
        std::uint32_t count = 0;
        for (std::size_t i = block; i < stop; ++i) count += nonfinite_mark(x[i]) >> 31;
        bad += count;
    }
    return bad;
}

// Sum of x^2 over [begin, end) in double: element i goes to partial sum (i - begin) mod 16, and the 16 are added in
// order. The bits depend on `begin`.
inline double sum_of_squares(const float* x, std::size_t begin, std::size_t end) noexcept {
    constexpr std::size_t lanes = 16;
    double partial[lanes] = {};
    std::size_t i = begin;
    for (; i + lanes <= end; i += lanes) {
        for (std::size_t l = 0; l < lanes; ++l) {
            const double value = x[i + l];
            partial[l] += value * value;
        }
    }
    for (std::size_t l = 0; i < end; ++i, ++l) {
        const double value = x[i];
        partial[l] += value * value;
    }
    double sum = 0.0;
    for (std::size_t l = 0; l < lanes; ++l) sum += partial[l];
    return sum;
}

// The address from which element i lies at `p`: for a piece that is addressed as the whole vector is.
inline float* at_index(float* p, std::size_t i) {
    return reinterpret_cast<float*>(reinterpret_cast<std::uintptr_t>(p) - i * sizeof(float));
}

// out = sum over k of shares[k] vectors[k], added in the order of k in double and rounded once. `out` may be one of the
// vectors.
inline void weighted_mean(const float* const* vectors, const double* shares, std::size_t count, float* out,
                          std::size_t begin, std::size_t end) noexcept {
    constexpr int registers = 2;
    constexpr int lanes = WideDoubles::lanes;
    std::size_t i = begin;
    for (; i + registers * lanes <= end; i += registers * lanes) {
        WideDoubles sum[registers];
#pragma GCC unroll 2
        for (int r = 0; r < registers; ++r) sum[r] = shares[0] * WideDoubles::load(vectors[0] + i + r * lanes);
        for (std::size_t k = 1; k < count; ++k) {
#pragma GCC unroll 2
            for (int r = 0; r < registers; ++r) {
                sum[r] = sum[r] + shares[k] * WideDoubles::load(vectors[k] + i + r * lanes);
            }
        }
#pragma GCC unroll 2
        for (int r = 0; r < registers; ++r) sum[r].store_rounded(out + i + r * lanes);
    }
    for (; i < end; ++i) {
        double sum = shares[0] * vectors[0][i];
        for (std::size_t k = 1; k < count; ++k) sum += shares[k] * vectors[k][i];
        out[i] = static_cast<float>(sum);
    }
}

// out = a - b; returns the number of non-finite results. `out` may be a or b.
inline std::size_t subtract(const float* a, const float* b, float* out, std::size_t begin, std::size_t end) noexcept {
    std::size_t bad = 0;
    for (std::size_t block = begin; block < end; block += count_block) {
        const std::size_t stop = end - block < count_block ? end : block + count_block;
        std::uint32_t count = 0;
#pragma GCC ivdep
        for (std::size_t i = block; i < stop; ++i) {
            const float difference = a[i] - b[i];
            count += nonfinite_mark(difference) >> 31;
            out[i] = difference;
        }
        bad += count;
    }
    return bad;
}

// weights' = weights + alpha (values - weights); returns the number of non-finite results. alpha = 1 copies the values,
// which the formula would round.
template <class A>
std::size_t blend(float* weights, const float* values, float alpha, std::size_t begin, std::size_t end) noexcept {
    std::size_t bad = 0;
    for (std::size_t block = begin; block < end; block += count_block) {
        const std::size_t stop = end - block < count_block ? end : block + count_block;
        std::uint32_t count = 0;
#pragma GCC ivdep
        for (std::size_t i = block; i < stop; ++i) {
            const float before = A::read(weights + i);
            const float value = values[i];
            const float mixed = before + alpha * (value - before);
            const float next = alpha == 1.0f ? value : mixed;
            count += nonfinite_mark(next) >> 31;
            A::replace(weights + i, before, next);
        }
        bad += count;
    }
    return bad;
}

}  // namespace
}  // namespace elephas

// The two types of value that a rule is written for: one float, and `Wide`, a register of them. Both round alike, so a
// rule gives the same bits with either. Besides + - * they have the functions below.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "nonfinite.hpp"

namespace elephas {
namespace {

inline float root(float x) { return sqrtf(x); }
inline float lesser(float a, float b) { return a < b ? a : b; }   // b if either is not a number
inline float greater(float a, float b) { return a > b ? a : b; }  // b if either is not a number

#if defined(__AVX512F__)
constexpr int wide_lanes = 16;
#elif defined(__AVX__)
constexpr int wide_lanes = 8;
#else
constexpr int wide_lanes = 4;
#endif

struct Wide {
    static constexpr int lanes = wide_lanes;
    typedef float Floats __attribute__((vector_size(4 * wide_lanes)));
    typedef std::uint32_t Bits __attribute__((vector_size(4 * wide_lanes)));

#if defined(__AVX512F__)
    static constexpr bool estimates = true;
#else
    static constexpr bool estimates = false;
#endif

    Floats v;

    Wide() = default;
    Wide(Floats values) : v(values) {}
    Wide(float x) {
        std::uint32_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        v = (Floats)(Bits{} + bits);
    }

    static Wide load(const float* p) {
        Wide x;
        std::memcpy(&x.v, p, sizeof x.v);
        return x;
    }
    void store(float* p) const { std::memcpy(p, &v, sizeof v); }

    friend Wide operator+(Wide a, Wide b) { return a.v + b.v; }
    friend Wide operator-(Wide a, Wide b) { return a.v - b.v; }
    friend Wide operator*(Wide a, Wide b) { return a.v * b.v; }
    friend Wide operator/(Wide a, Wide b) { return a.v / b.v; }
    friend Wide operator-(Wide a) { return -a.v; }
    friend Wide lesser(Wide a, Wide b) { return a.v < b.v ? a.v : b.v; }
    friend Wide greater(Wide a, Wide b) { return a.v > b.v ? a.v : b.v; }

    friend Wide root(Wide x) {
#if defined(__AVX512F__)
        return (Floats)_mm512_maskz_sqrt_ps(0xffff, (__m512)x.v);
#elif defined(__AVX__)
        return (Floats)_mm256_sqrt_ps((__m256)x.v);
#elif defined(__SSE2__)
        return (Floats)_mm_sqrt_ps((__m128)x.v);
#else
        Wide y;
        for (int k = 0; k < lanes; ++k) y.v[k] = sqrtf(x.v[k]);
        return y;
#endif
    }

    // 1 / x and 1 / sqrt(x). With `estimates` by one Newton step from an estimate y of relative error below 2^-14,
    // which leaves them within a unit in the last place, and not a number where x is zero, infinite or not a number
    // (for a root also where x is negative) or so small that the result overflows. |x| < 2^126.
    friend Wide reciprocal(Wide x) {
#if defined(__AVX512F__)
        const __m512 d = (__m512)x.v;
        const __m512 y = _mm512_maskz_rcp14_ps(0xffff, d);
        return (Floats)_mm512_fmadd_ps(_mm512_fnmadd_ps(d, y, _mm512_set1_ps(1.0f)), y, y);
#else
        return 1.0f / x.v;
#endif
    }

    // y + (y / 2) (1 - x y^2). The half is taken from the exponent, as the units that multiply have enough to do.
    friend Wide inverse_root(Wide x) {
#if defined(__AVX512F__)
        const __m512 a = (__m512)x.v;
        const __m512 y = _mm512_maskz_rsqrt14_ps(0xffff, a);
        const __m512 half = (__m512)((Bits)y - 0x00800000u);
        const __m512 error = _mm512_fnmadd_ps(_mm512_mul_ps(a, y), y, _mm512_set1_ps(1.0f));
        return (Floats)_mm512_fmadd_ps(error, half, y);
#else
        return 1.0f / root(x).v;
#endif
    }

    // Whether any lane is infinite or not a number.
    friend bool any_nonfinite(Wide x) {
#if defined(__AVX512F__)
        return _mm512_fpclass_ps_mask((__m512)x.v, 0x99) != 0;
#else
        const Bits marks = ((Bits)x.v & 0x7f800000u) + 0x00800000u;  // as nonfinite_mark
#if defined(__AVX__)
        return _mm256_movemask_ps((__m256)marks) != 0;
#elif defined(__SSE2__)
        return _mm_movemask_ps((__m128)marks) != 0;
#else
        std::uint32_t found = 0;
        for (int k = 0; k < lanes; ++k) found |= marks[k];
        return found >> 31 != 0;
#endif
#endif
    }
};

// One element goes the way of its register, so that both have the same bits; where that gives no number, the exact way.
inline float reciprocal(float x) {
    if constexpr (Wide::estimates) {
        const float y = reciprocal(Wide(x)).v[0];
        if (!(nonfinite_mark(y) >> 31)) return y;
    }
    return 1.0f / x;
}
inline float inverse_root(float x) {
    if constexpr (Wide::estimates) {
        const float y = inverse_root(Wide(x)).v[0];
        if (!(nonfinite_mark(y) >> 31)) return y;
    }
    return 1.0f / sqrtf(x);
}

}  // namespace
}  // namespace elephas

// Registers of doubles, for sums that are to be rounded once. They round as scalar doubles do.
#pragma once

#include <cstring>

#include "wide.hpp"

namespace elephas {
namespace {

// As many doubles as a `Wide` has floats.
struct WideDoubles {
    static constexpr int lanes = Wide::lanes;
    typedef double Half __attribute__((vector_size(4 * wide_lanes)));
    typedef float HalfFloats __attribute__((vector_size(2 * wide_lanes)));

    Half low, high;

    static Half load_half(const float* p) {
#if defined(__AVX512F__)
        return (Half)_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p));
#else
        HalfFloats floats;
        std::memcpy(&floats, p, sizeof floats);
        return __builtin_convertvector(floats, Half);
#endif
    }
    static WideDoubles load(const float* p) { return {load_half(p), load_half(p + lanes / 2)}; }

    // One store of a whole register, so that a load of one need not wait for two stores.
    void store_rounded(float* p) const {
#if defined(__AVX512F__)
        const __m256 first = _mm512_maskz_cvtpd_ps(0xff, (__m512d)low),
                     second = _mm512_maskz_cvtpd_ps(0xff, (__m512d)high);
        _mm512_storeu_ps(p, _mm512_maskz_insertf32x8(0xffff, _mm512_zextps256_ps512(first), second, 1));
#else
        const HalfFloats first = __builtin_convertvector(low, HalfFloats);
        const HalfFloats second = __builtin_convertvector(high, HalfFloats);
        std::memcpy(p, &first, sizeof first);
        std::memcpy(p + lanes / 2, &second, sizeof second);
#endif
    }

    friend WideDoubles operator*(double a, WideDoubles x) { return {a * x.low, a * x.high}; }
    friend WideDoubles operator+(WideDoubles x, WideDoubles y) { return {x.low + y.low, x.high + y.high}; }
};

}  // namespace
}  // namespace elephas

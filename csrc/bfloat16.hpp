// bfloat16: the upper half of a float. Values and registers of them, for the widths of wide.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "wide.hpp"

namespace elephas {
namespace {

inline float from_bfloat16(std::uint16_t half) {
    const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// x + noise / 2^16 units of the last place of a bfloat16, cut off: with noise uniform in [0, 2^16) the result is x on
// average. An infinity stays one; something that is not a number stays that.
inline std::uint16_t to_bfloat16(float x, std::uint32_t noise) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if (x != x) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
    return static_cast<std::uint16_t>((bits + noise) >> 16);
}

#if defined(__AVX512F__)
// Which 16-bit word goes where: word k to the upper half of float k, and back.
typedef std::uint16_t Words __attribute__((vector_size(64)));
const __m512i spread = (__m512i)Words{0, 0, 0, 1, 0, 2,  0, 3,  0, 4,  0, 5,  0, 6,  0, 7,
                                      0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15};
const __m512i gathered = (__m512i)Words{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
#endif

inline Wide load_bfloat16(const std::uint16_t* p) {
#if defined(__AVX512F__)
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return (Wide::Floats)_mm512_maskz_permutexvar_epi16(0xaaaaaaaau, spread, _mm512_zextsi256_si512(halves));
#else
    typedef std::uint16_t Halves __attribute__((vector_size(2 * wide_lanes)));
    Halves halves;
    std::memcpy(&halves, p, sizeof halves);
    return (Wide::Floats)(__builtin_convertvector(halves, Wide::Bits) << 16);
#endif
}

// As to_bfloat16, for numbers and infinities.
inline void store_bfloat16(std::uint16_t* p, Wide x, Wide::Bits noise) {
    const Wide::Bits sum = (Wide::Bits)x.v + noise;
#if defined(__AVX512F__)
    const __m512i halves = _mm512_maskz_permutexvar_epi16(0xffffu, gathered, (__m512i)sum);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(halves));
#else
    typedef std::uint16_t Halves __attribute__((vector_size(2 * wide_lanes)));
    const Halves halves = __builtin_convertvector(sum >> 16, Halves);
    std::memcpy(p, &halves, sizeof halves);
#endif
}

// A step's number as 32 bits that look random (lowbias32 of C. Wellons, "Prospecting for hash functions", 2018).
inline std::uint32_t mix(std::uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

// The noise of element i, from which `noise_of_slot` takes 16 bits per slot: multiples of the golden ratio, shifted by
// the step's `mixed` seed. For one element it is uniform over the steps, which is what keeps a slot right on average;
// over the elements of one step it is evenly spread. T is std::uint32_t or Wide::Bits.
template <class T>
T noise_bits(T index, std::uint32_t mixed) {
    return index * 0x9e3779b1u + mixed;
}

template <class T>
T noise_of_slot(T bits, int slot) {
    if (slot == 1) return bits >> 16;
    return (slot == 0 ? bits : bits >> 8) & 0xffffu;
}

// Round to nearest, ties to even. A NaN stays one.
inline void encode_bfloat16(const float* x, std::uint16_t* out, std::size_t begin, std::size_t end) noexcept {
    for (std::size_t i = begin; i < end; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, x + i, sizeof bits);
        const std::uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        out[i] = static_cast<std::uint16_t>(x[i] != x[i] ? bits >> 16 | 0x40u : rounded);
    }
}

inline void decode_bfloat16(const std::uint16_t* x, float* out, std::size_t begin, std::size_t end) noexcept {
    std::size_t i = begin;
    for (; i + Wide::lanes <= end; i += Wide::lanes) load_bfloat16(x + i).store(out + i);
    for (; i < end; ++i) out[i] = from_bfloat16(x[i]);
}

}  // namespace
}  // namespace elephas

// The non-finite test, in integer arithmetic so that it costs the floating-point units nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace elephas {
namespace {

// Elements counted in 32 bits before the count is widened: keeps the counter as narrow as the data it follows.
constexpr std::size_t count_block = std::size_t{1} << 20;

// The sign bit of the result is set if and only if x is infinite or not a number: an exponent of all ones carries.
inline std::uint32_t nonfinite_mark(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7f800000u) + 0x00800000u;
}

}  // namespace
}  // namespace elephas

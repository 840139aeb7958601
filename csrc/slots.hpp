// In which format an optimizer's slots are kept. A rule always sees floats.
//
// `noise(i)` is what rounding the slots of the elements from i on needs; V is `float` or `Wide`.
#pragma once

#include <type_traits>

#include "bfloat16.hpp"
#include "kernels.hpp"
#include "wide.hpp"

namespace elephas {
namespace {

struct FloatSlots {
    using Element = float;
    struct None {};

    explicit FloatSlots(const Operands&) {}
    static const float* from(const Operands& o, int k) { return o.slots[k]; }
    static float* to(const Operands& o, int k) { return o.slots_out[k]; }

    template <class V>
    static None noise(std::size_t) {
        return {};
    }
    static Wide load(const float* p) { return Wide::load(p); }
    static void store(float* p, Wide next, None, int) { next.store(p); }
    template <class A>
    static float read(const float* p) {
        return A::read(p);
    }
    template <class A>
    static void replace(float* p, float seen, float next, None, int) {
        A::replace(p, seen, next);
    }
};

// Rounded stochastically: to nearest, a slot that moves by less than 1/512 of itself per step, as Adam's velocity does,
// would never move. Noise is a function of the element's index and the step's seed alone, so results do not depend on
// the instruction set or the number of threads. Ordinary loads and stores only.
struct Bfloat16Slots {
    using Element = std::uint16_t;
    std::uint32_t mixed;

    explicit Bfloat16Slots(const Operands& o) : mixed(mix(o.seed)) {}
    static const std::uint16_t* from(const Operands& o, int k) { return o.halves[k]; }
    static std::uint16_t* to(const Operands& o, int k) { return o.halves_out[k]; }

    template <class V>
    auto noise(std::size_t i) const {
        const std::uint32_t first = static_cast<std::uint32_t>(i);
        if constexpr (std::is_same_v<V, Wide>) {
            Wide::Bits lanes;
            for (int k = 0; k < Wide::lanes; ++k) lanes[k] = noise_bits(static_cast<std::uint32_t>(k), 0);
            return lanes + noise_bits(first, mixed);
        } else {
            return noise_bits(first, mixed);
        }
    }
    static Wide load(const std::uint16_t* p) { return load_bfloat16(p); }
    static void store(std::uint16_t* p, Wide next, Wide::Bits bits, int k) {
        store_bfloat16(p, next, noise_of_slot(bits, k));
    }
    template <class A>
    static float read(const std::uint16_t* p) {
        static_assert(A::plain);
        return from_bfloat16(*p);
    }
    template <class A>
    static void replace(std::uint16_t* p, float, float next, std::uint32_t bits, int k) {
        *p = to_bfloat16(next, noise_of_slot(bits, k));
    }
};

}  // namespace
}  // namespace elephas

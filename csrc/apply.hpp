// The only loop over an optimizer rule. The compiler vectorises it where the access is plain.
#pragma once

#include <cmath>

#include "kernels.hpp"
#include "nonfinite.hpp"

namespace elephas {
namespace {

// What happens to a weight and a gradient before the rule sees them: scaling, clipping, weight decay.
struct Prepared {
    float scale, clip, decay;
    explicit Prepared(const Operands& o) : scale(o.scale), clip(o.clip), decay(o.decay) {}
    float weight(float w) const { return w - w * decay; }
    float gradient(float g) const {
        g = g * scale;
        g = g > clip ? clip : g;
        return g < -clip ? -clip : g;
    }
};

// The same for scale = 1, clip = infinity, decay = 0: nothing.
struct AsIs {
    explicit AsIs(const Operands&) {}
    static float weight(float w) { return w; }
    static float gradient(float g) { return g; }
};

// Elements between two looks at the non-finite marks; their results are still in the first-level cache if a look finds
// some and they have to be counted.
constexpr std::size_t apply_block = 2048;

template <class R, class A, class P>
std::size_t apply_prepared(const Operands& o, std::size_t begin, std::size_t end) noexcept {
    constexpr int slots = R::slots;
    constexpr int held = slots > 0 ? slots : 1;
    const R rule(o.scalars);
    const P prepare(o);
    const float *const weights = o.weights, *const gradient = o.gradient;
    float* const weights_out = o.weights_out;
    const float* from[held];
    float* to[held];
    for (int k = 0; k < slots; ++k) {
        from[k] = o.slots[k];
        to[k] = o.slots_out[k];
    }

    std::size_t bad = 0;
    for (std::size_t block = begin; block < end; block += apply_block) {
        const std::size_t stop = end - block < apply_block ? end : block + apply_block;
        std::uint32_t marks = 0;
#pragma GCC ivdep
        for (std::size_t i = block; i < stop; ++i) {
            float old[held], next[held];
            for (int k = 0; k < slots; ++k) next[k] = old[k] = A::read(from[k] + i);
            const float before = A::read(weights + i);
            float w = prepare.weight(before);
            rule(w, next, prepare.gradient(gradient[i]));
            marks |= nonfinite_mark(w);
            for (int k = 0; k < slots; ++k) marks |= nonfinite_mark(next[k]);
            A::replace(weights_out + i, before, w);
            for (int k = 0; k < slots; ++k) A::replace(to[k] + i, old[k], next[k]);
        }
        if (marks >> 31) {
            std::size_t found = 0;
            for (std::size_t i = block; i < stop; ++i) {
                std::uint32_t mark = nonfinite_mark(A::read(weights_out + i));
                for (int k = 0; k < slots; ++k) mark |= nonfinite_mark(A::read(to[k] + i));
                found += mark >> 31;
            }
            bad += found > 0 ? found : 1;  // another writer may have overwritten what was found
        }
    }
    return bad;
}

// Apply rule R to the elements [begin, end) of `o`, in one pass over memory, and count the elements whose new weight or
// any new slot is not finite. Thread-safe on disjoint ranges; on shared ones, what A promises.
template <class R, class A>
std::size_t apply(const Operands& o, std::size_t begin, std::size_t end) noexcept {
    const bool as_is = o.scale == 1.0f && o.clip == HUGE_VALF && o.decay == 0.0f;
    return as_is ? apply_prepared<R, A, AsIs>(o, begin, end) : apply_prepared<R, A, Prepared>(o, begin, end);
}

}  // namespace
}  // namespace elephas

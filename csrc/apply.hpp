// The only loop over an optimizer rule.
#pragma once

#include <cmath>

#include "access.hpp"
#include "kernels.hpp"
#include "wide.hpp"

namespace elephas {
namespace {

// What happens to a weight and a gradient before the rule sees them: scaling, clipping, weight decay.
struct Prepared {
    float scale, clip, decay;
    explicit Prepared(const Operands& o) : scale(o.scale), clip(o.clip), decay(o.decay) {}
    template <class V>
    V weight(V w) const {
        return w - w * decay;
    }
    template <class V>
    V gradient(V g) const {
        return greater(V(-clip), lesser(V(clip), g * scale));
    }
};

// The same for scale = 1, clip = infinity, decay = 0: nothing.
struct AsIs {
    explicit AsIs(const Operands&) {}
    template <class V>
    V weight(V w) const {
        return w;
    }
    template <class V>
    V gradient(V g) const {
        return g;
    }
};

template <class R, class P>
struct Step {
    static constexpr int slots = R::slots;
    static constexpr int held = slots > 0 ? slots : 1;
    const R rule;
    const P prepare;
    const float *weights, *gradient;
    float* weights_out;
    const float* from[held];
    float* to[held];

    explicit Step(const Operands& o)
        : rule(o.scalars), prepare(o), weights(o.weights), gradient(o.gradient), weights_out(o.weights_out) {
        for (int k = 0; k < slots; ++k) {
            from[k] = o.slots[k];
            to[k] = o.slots_out[k];
        }
    }

    // One element after the other, with true quotients and any access.
    template <class A>
    std::size_t elements(std::size_t begin, std::size_t end) const noexcept {
        std::size_t bad = 0;
        for (std::size_t i = begin; i < end; ++i) {
            float old[held], next[held];
            for (int k = 0; k < slots; ++k) next[k] = old[k] = A::read(from[k] + i);
            const float before = A::read(weights + i);
            float w = prepare.weight(before);
            rule(w, next, prepare.gradient(gradient[i]));
            std::uint32_t mark = nonfinite_mark(w);
            for (int k = 0; k < slots; ++k) mark |= nonfinite_mark(next[k]);
            bad += mark >> 31;
            A::replace(weights_out + i, before, w);
            for (int k = 0; k < slots; ++k) A::replace(to[k] + i, old[k], next[k]);
        }
        return bad;
    }

    // Whole registers, several at a time so that their long operations overlap. The sum of a group's results shows
    // whether one of them may not be finite. Nothing has been stored then, and the group is done again by element.
    std::size_t groups(std::size_t begin, std::size_t end) const noexcept {
        constexpr int unroll = 4;
        constexpr std::size_t group = unroll * Wide::lanes;
        constexpr bool sum_slots = !(Wide::estimates && R::weight_tells);
        std::size_t bad = 0;
        std::size_t i = begin;
        for (; i + group <= end; i += group) {
            Wide w[unroll], s[unroll][held], sum;
#pragma GCC unroll 4
            for (int u = 0; u < unroll; ++u) {
                const std::size_t at = i + u * Wide::lanes;
                for (int k = 0; k < slots; ++k) s[u][k] = Wide::load(from[k] + at);
                w[u] = prepare.weight(Wide::load(weights + at));
                rule(w[u], s[u], prepare.gradient(Wide::load(gradient + at)));
                sum = u == 0 ? w[u] : sum + w[u];
                for (int k = 0; k < slots && sum_slots; ++k) sum = sum + s[u][k];
            }
            if (__builtin_expect(any_nonfinite(sum), 0)) {
                bad += elements<Racy>(i, i + group);
                continue;
            }
#pragma GCC unroll 4
            for (int u = 0; u < unroll; ++u) {
                const std::size_t at = i + u * Wide::lanes;
                w[u].store(weights_out + at);
                for (int k = 0; k < slots; ++k) s[u][k].store(to[k] + at);
            }
        }
        return bad + elements<Racy>(i, end);
    }
};

template <class R, class A, class P>
std::size_t apply_prepared(const Operands& o, std::size_t begin, std::size_t end) noexcept {
    const Step<R, P> step(o);
    if constexpr (A::plain) return step.groups(begin, end);
    return step.template elements<A>(begin, end);
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

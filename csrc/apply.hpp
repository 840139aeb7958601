// The only loop over an optimizer rule.
#pragma once

#include <cmath>

#include "access.hpp"
#include "kernels.hpp"
#include "slots.hpp"
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

// Some registers of weights and slots, which go through a rule together so that their long operations overlap.
template <class R, class S>
struct Group {
    static constexpr int slots = R::slots;
    static constexpr int held = slots > 0 ? slots : 1;
    static constexpr int registers = 4;
    static constexpr std::size_t size = registers * Wide::lanes;

    Wide w[registers], s[registers][held];

    void load(const Operands& o, std::size_t i) {
#pragma GCC unroll 4
        for (int u = 0; u < registers; ++u) {
            w[u] = Wide::load(o.weights + i + u * Wide::lanes);
            for (int k = 0; k < slots; ++k) s[u][k] = S::load(S::from(o, k) + i + u * Wide::lanes);
        }
    }

    template <class P>
    void update(const R& rule, const P& prepare, const float* gradient) {
#pragma GCC unroll 4
        for (int u = 0; u < registers; ++u) {
            w[u] = prepare.weight(w[u]);
            rule(w[u], s[u], prepare.gradient(Wide::load(gradient + u * Wide::lanes)));
        }
    }

    // Whether a result may not be finite. A sum of them shows it.
    bool suspicious() const {
        constexpr bool sum_slots = !(Wide::estimates && R::weight_tells);
        Wide sum = w[0];
#pragma GCC unroll 4
        for (int u = 0; u < registers; ++u) {
            if (u > 0) sum = sum + w[u];
            for (int k = 0; k < slots && sum_slots; ++k) sum = sum + s[u][k];
        }
        return any_nonfinite(sum);
    }

    void store(const Operands& o, const S& format, std::size_t i) const {
#pragma GCC unroll 4
        for (int u = 0; u < registers; ++u) {
            const std::size_t at = i + u * Wide::lanes;
            w[u].store(o.weights_out + at);
            const auto noise = format.template noise<Wide>(at);
            for (int k = 0; k < slots; ++k) S::store(S::to(o, k) + at, s[u][k], noise, k);
        }
    }
};

// One element after the other, with true quotients and any access.
template <class R, class A, class S, class P>
std::size_t apply_elements(const Operands& o, std::size_t begin, std::size_t end) noexcept {
    constexpr int slots = R::slots;
    constexpr int held = slots > 0 ? slots : 1;
    const R rule(o.scalars);
    const P prepare(o);
    const S format(o);
    std::size_t bad = 0;
    for (std::size_t i = begin; i < end; ++i) {
        float old[held], next[held];
        for (int k = 0; k < slots; ++k) next[k] = old[k] = S::template read<A>(S::from(o, k) + i);
        const float before = A::read(o.weights + i);
        float w = prepare.weight(before);
        rule(w, next, prepare.gradient(o.gradient[i]));
        std::uint32_t mark = nonfinite_mark(w);
        for (int k = 0; k < slots; ++k) mark |= nonfinite_mark(next[k]);
        bad += mark >> 31;
        A::replace(o.weights_out + i, before, w);
        const auto noise = format.template noise<float>(i);
        for (int k = 0; k < slots; ++k) S::template replace<A>(S::to(o, k) + i, old[k], next[k], noise, k);
    }
    return bad;
}

// A suspicious group has not been stored yet and is done again by element.
template <class R, class S, class P>
std::size_t apply_groups(const Operands& operands, std::size_t begin, std::size_t end) noexcept {
    constexpr std::size_t size = Group<R, S>::size;
    const Operands o = operands;
    const R rule(o.scalars);
    const P prepare(o);
    const S format(o);
    std::size_t bad = 0;
    std::size_t i = begin;
    for (; i + size <= end; i += size) {
        Group<R, S> group;
        group.load(o, i);
        group.update(rule, prepare, o.gradient + i);
        if (__builtin_expect(group.suspicious(), 0)) {
            bad += apply_elements<R, Racy, S, P>(o, i, i + size);
        } else {
            group.store(o, format, i);
        }
    }
    return bad + apply_elements<R, Racy, S, P>(o, i, end);
}

template <class R, class A, class S, class P>
std::size_t apply_prepared(const Operands& o, std::size_t begin, std::size_t end) noexcept {
    if constexpr (A::plain) return apply_groups<R, S, P>(o, begin, end);
    return apply_elements<R, A, S, P>(o, begin, end);
}

inline bool is_as_is(const Operands& o) { return o.scale == 1.0f && o.clip == HUGE_VALF && o.decay == 0.0f; }

// Apply rule R to the elements [begin, end) of `o`, in one pass over memory, and count the elements whose new weight or
// any new slot is not finite, the slots before they are rounded to their format S. Thread-safe on disjoint ranges; on
// shared ones, what A promises.
template <class R, class A, class S = FloatSlots>
std::size_t apply(const Operands& o, std::size_t begin, std::size_t end) noexcept {
    return is_as_is(o) ? apply_prepared<R, A, S, AsIs>(o, begin, end)
                       : apply_prepared<R, A, S, Prepared>(o, begin, end);
}

}  // namespace
}  // namespace elephas

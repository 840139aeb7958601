// One gradient that is made from others as it is applied, group by group, so that all of them stream from memory at
// once.
#pragma once

#include "apply.hpp"
#include "bfloat16.hpp"
#include "vectors.hpp"

namespace elephas {
namespace {

// Write `count` elements of the gradient, from element `first` on, to `out`.
inline void make_gradient(const Gradients& from, float* out, std::size_t first, std::size_t count) noexcept {
    if (from.halves != nullptr) {
        decode_bfloat16(from.halves + first, out, 0, count);
    } else {
        weighted_mean(from.vectors, from.shares, from.count, at_index(out, first), first, first + count);
    }
}

// As `apply` of the gradient that `make_gradient` makes; `o.gradient` is not used. In place, plain access.
template <class R, class S>
std::size_t apply_made(const Operands& operands, const Gradients& from, std::size_t begin, std::size_t end) noexcept {
    using Registers = Group<R, S>;
    const Operands o = operands;
    const Gradients source = from;
    const R rule(o.scalars);
    const Prepared prepare(o);
    const S format(o);
    alignas(64) float gradient[Registers::size];
    const auto elements = [&](std::size_t first, std::size_t last) {
        Operands own = o;
        own.gradient = at_index(gradient, first);
        return apply_elements<R, Racy, S, Prepared>(own, first, last);
    };
    std::size_t bad = 0;
    std::size_t i = begin;
    for (; i + Registers::size <= end; i += Registers::size) {
        make_gradient(source, gradient, i, Registers::size);
        Registers group;
        group.load(o, i);
        group.update(rule, prepare, gradient);
        if (__builtin_expect(group.suspicious(), 0)) {
            bad += elements(i, i + Registers::size);
        } else {
            group.store(o, format, i);
        }
    }
    make_gradient(source, gradient, i, end - i);
    return bad + elements(i, end);
}

}  // namespace
}  // namespace elephas

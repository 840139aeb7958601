// The mean of several gradients, made and applied group by group, so that all of them stream from memory at once.
#pragma once

#include "apply.hpp"
#include "vectors.hpp"

namespace elephas {
namespace {

// As `apply` of the gradient that `weighted_mean` would write; `o.gradient` is not used. In place, plain access.
template <class R>
std::size_t apply_mean(const Operands& operands, const float* const* vectors, const double* shares, std::size_t count,
                       std::size_t begin, std::size_t end) noexcept {
    using Registers = Group<R, FloatSlots>;
    Operands o = operands;
    const R rule(o.scalars);
    const Prepared prepare(o);
    const FloatSlots format(o);
    alignas(64) float mean[Registers::size];
    const auto elements = [&](std::size_t from, std::size_t to) {
        o.gradient = at_index(mean, from);
        return apply_elements<R, Racy, FloatSlots, Prepared>(o, from, to);
    };
    std::size_t bad = 0;
    std::size_t i = begin;
    for (; i + Registers::size <= end; i += Registers::size) {
        weighted_mean(vectors, shares, count, at_index(mean, i), i, i + Registers::size);
        Registers group;
        group.load(o, i);
        group.update(rule, prepare, mean);
        if (__builtin_expect(group.suspicious(), 0)) {
            bad += elements(i, i + Registers::size);
        } else {
            group.store(o, format, i);
        }
    }
    weighted_mean(vectors, shares, count, at_index(mean, i), i, end);
    return bad + elements(i, end);
}

}  // namespace
}  // namespace elephas

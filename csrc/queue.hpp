// Queued gradients: each in turn on a group of weights and slots while it is in registers.
#pragma once

#include "apply.hpp"

namespace elephas {
namespace {

template <class R, class P>
std::size_t apply_queue_prepared(const Operands* pushes, std::size_t count, std::size_t begin,
                                 std::size_t end) noexcept {
    using Registers = Group<R, FloatSlots>;
    const Operands& o = pushes[0];
    const auto elements = [=](std::size_t from, std::size_t to) {
        std::size_t bad = 0;
        for (std::size_t k = 0; k < count; ++k) bad += apply_elements<R, Racy, FloatSlots, P>(pushes[k], from, to);
        return bad;
    };
    std::size_t bad = 0;
    std::size_t i = begin;
    for (; i + Registers::size <= end; i += Registers::size) {
        Registers group;
        group.load(o, i);
        for (std::size_t k = 0; k < count; ++k) {
            group.update(R(pushes[k].scalars), P(pushes[k]), pushes[k].gradient + i);
        }
        if (__builtin_expect(group.suspicious(), 0)) {
            bad += elements(i, i + Registers::size);
        } else {
            group.store(o, FloatSlots(o), i);
        }
    }
    return bad + elements(i, end);
}

// Apply rule R in place with each of `count` > 0 operands that differ in gradient, scalars, scale, clip and decay
// alone: the same bits as one pass each, for one pass over weights and slots. What is not finite stays so from one
// gradient to the next, so a look at the last result is enough. Returns the number of non-finite elements, summed over
// the gradients. Plain access.
template <class R>
std::size_t apply_queue(const Operands* pushes, std::size_t count, std::size_t begin, std::size_t end) noexcept {
    bool as_is = true;
    for (std::size_t k = 0; k < count; ++k) as_is = as_is && is_as_is(pushes[k]);
    return as_is ? apply_queue_prepared<R, AsIs>(pushes, count, begin, end)
                 : apply_queue_prepared<R, Prepared>(pushes, count, begin, end);
}

}  // namespace
}  // namespace elephas

// Several gradients in one pass over weights and slots: queued pushes, means, bfloat16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dispatch.hpp"
#include "kernels.hpp"

namespace elephas {

// One application of a rule. Its gradient is `halves` (bfloat16) if that is not null, else the one vector of `floats`,
// else their mean with `shares`. Buffers are not owned and hold as many elements as the weights.
struct Push {
    float scalars[max_scalars];
    const std::uint16_t* halves;
    std::vector<const float*> floats;
    std::vector<double> shares;
    float scale;
    float decay;
};

// Apply the pushes one after the other to the elements of [begin, end) that lie in `parts` (ascending; Part::decay, 0
// or 1, says whether a push's decay concerns a part), in one pass over memory and with the same bits as a pass each.
// Gradient, scalars, scale and decay of `o` are not used; push k rounds bfloat16 slots with o.seed + k. Up to `threads`
// threads; plain access. Returns the number of non-finite elements, summed over the pushes.
std::size_t apply_pushes(const Rule& rule, bool bfloat16_slots, const Operands& o, const std::vector<Push>& pushes,
                         const std::vector<Part>& parts, std::size_t begin, std::size_t end, int threads);

void encode_bfloat16(const Kernels& kernels, const float* x, std::uint16_t* out, std::size_t n, int threads);
void decode_bfloat16(const Kernels& kernels, const std::uint16_t* x, float* out, std::size_t n, int threads);

}  // namespace elephas

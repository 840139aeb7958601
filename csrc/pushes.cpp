#include "pushes.hpp"

#include <algorithm>
#include <atomic>

#include "parallel.hpp"

namespace elephas {

namespace {

// Elements of a block: with weights, slots, scratch and a gradient it stays within a first-level cache of 32 KiB.
constexpr std::size_t push_block = 512;

// A cache line of floats: threads never write to the same line.
constexpr std::size_t line = 16;

// The gradient of a push, readable at [begin, end), in `scratch` (of end - begin elements) unless it is there already.
const float* gradient_of(const Kernels& kernels, const Push& push, float* scratch, std::size_t begin, std::size_t end) {
    if (push.halves == nullptr && push.floats.size() == 1) return push.floats[0];
    const std::size_t n = end - begin;
    if (push.halves != nullptr) {
        kernels.decode_bfloat16(push.halves + begin, scratch, 0, n);
    } else {
        std::vector<const float*> shifted(push.floats);
        for (const float*& vector : shifted) vector += begin;
        kernels.weighted_mean(shifted.data(), push.shares.data(), shifted.size(), scratch, 0, n);
    }
    return reinterpret_cast<const float*>(reinterpret_cast<std::uintptr_t>(scratch) - begin * sizeof(float));
}

// What differs from one push to the next, but for the gradient.
Operands operands_of(const Push& push, const Operands& o, float decay, std::size_t k) {
    Operands own = o;
    std::copy(push.scalars, push.scalars + max_scalars, own.scalars);
    own.scale = push.scale;
    own.decay = push.decay * decay;
    own.seed = o.seed + static_cast<std::uint32_t>(k);
    return own;
}

// Push after push on a block, whose weights and slots stay in the cache.
std::size_t apply_blocks(const Kernels& kernels, Apply apply, const std::vector<Push>& pushes,
                         std::vector<Operands>& operands, std::size_t begin, std::size_t end) {
    alignas(64) float scratch[push_block];
    std::size_t bad = 0;
    for (; begin < end; begin += push_block) {
        const std::size_t stop = std::min(end, begin + push_block);
        for (std::size_t k = 0; k < pushes.size(); ++k) {
            operands[k].gradient = gradient_of(kernels, pushes[k], scratch, begin, stop);
            bad += apply(operands[k], begin, stop);
        }
    }
    return bad;
}

std::size_t apply_part(const Kernels& kernels, const Rule& rule, bool bfloat16_slots, const Operands& o,
                       const std::vector<Push>& pushes, float decay, std::size_t begin, std::size_t end) {
    bool vectors = !bfloat16_slots;
    std::vector<Operands> operands;
    for (std::size_t k = 0; k < pushes.size(); ++k) {
        operands.push_back(operands_of(pushes[k], o, decay, k));
        vectors = vectors && pushes[k].halves == nullptr && pushes[k].floats.size() == 1;
    }
    if (vectors) {
        for (std::size_t k = 0; k < pushes.size(); ++k) operands[k].gradient = pushes[k].floats[0];
        return rule.apply_queue(operands.data(), operands.size(), begin, end);
    }
    if (!bfloat16_slots && pushes.size() == 1 && pushes[0].halves == nullptr) {
        const Push& push = pushes[0];
        return rule.apply_mean(operands[0], push.floats.data(), push.shares.data(), push.floats.size(), begin, end);
    }
    const Apply apply = bfloat16_slots ? rule.apply_bfloat16 : rule.apply[0];
    return apply_blocks(kernels, apply, pushes, operands, begin, end);
}

}  // namespace

std::size_t apply_pushes(const Kernels& kernels, const Rule& rule, bool bfloat16_slots, const Operands& o,
                         const std::vector<Push>& pushes, const std::vector<Part>& parts, std::size_t begin,
                         std::size_t end, int threads) {
    if (pushes.empty()) return 0;
    std::atomic<std::size_t> total{0};
    split(end - begin, threads, line, [&](std::size_t from, std::size_t to) {
        std::size_t bad = 0;
        for (const Part& part : parts) {
            const std::size_t first = std::max(begin + from, part.begin);
            const std::size_t last = std::min(begin + to, part.end);
            if (first < last) {
                bad += apply_part(kernels, rule, bfloat16_slots, o, pushes, part.decay, first, last);
            }
        }
        total += bad;
    });
    return total;
}

void encode_bfloat16(const Kernels& kernels, const float* x, std::uint16_t* out, std::size_t n, int threads) {
    split(n, threads, line, [&](std::size_t begin, std::size_t end) { kernels.encode_bfloat16(x, out, begin, end); });
}

void decode_bfloat16(const Kernels& kernels, const std::uint16_t* x, float* out, std::size_t n, int threads) {
    split(n, threads, line, [&](std::size_t begin, std::size_t end) { kernels.decode_bfloat16(x, out, begin, end); });
}

}  // namespace elephas

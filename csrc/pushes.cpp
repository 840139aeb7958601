#include "pushes.hpp"

#include <algorithm>
#include <atomic>

#include "parallel.hpp"

namespace elephas {

namespace {

// Elements of a block: with weights, slots and a gradient it stays within a first-level cache of 32 KiB.
constexpr std::size_t push_block = 512;

// A cache line of floats: threads never write to the same line.
constexpr std::size_t line = 16;

bool is_one_vector(const Push& push) { return push.halves == nullptr && push.floats.size() == 1; }

// What differs from one push to the next.
Operands operands_of(const Push& push, const Operands& o, float decay, std::size_t k) {
    Operands own = o;
    std::copy(push.scalars, push.scalars + max_scalars, own.scalars);
    own.scale = push.scale;
    own.decay = push.decay * decay;
    own.gradient = is_one_vector(push) ? push.floats[0] : nullptr;
    own.seed = o.seed + static_cast<std::uint32_t>(k);
    return own;
}

std::size_t apply_one(const Rule& rule, bool bfloat16_slots, const Operands& o, const Push& push, std::size_t begin,
                      std::size_t end) {
    if (is_one_vector(push)) return (bfloat16_slots ? rule.apply_bfloat16 : rule.apply[0])(o, begin, end);
    const Gradients from = {push.halves, push.floats.data(), push.shares.data(), push.floats.size()};
    return rule.apply_made[bfloat16_slots](o, from, begin, end);
}

// A queue of plain vectors goes through registers; other pushes take turns on blocks that stay in the cache.
std::size_t apply_part(const Rule& rule, bool bfloat16_slots, const Operands& o, const std::vector<Push>& pushes,
                       float decay, std::size_t begin, std::size_t end) {
    std::vector<Operands> operands;
    for (std::size_t k = 0; k < pushes.size(); ++k) operands.push_back(operands_of(pushes[k], o, decay, k));
    if (pushes.size() == 1) return apply_one(rule, bfloat16_slots, operands[0], pushes[0], begin, end);
    if (!bfloat16_slots && std::all_of(pushes.begin(), pushes.end(), is_one_vector)) {
        return rule.apply_queue(operands.data(), operands.size(), begin, end);
    }
    std::size_t bad = 0;
    for (; begin < end; begin += push_block) {
        const std::size_t stop = std::min(end, begin + push_block);
        for (std::size_t k = 0; k < pushes.size(); ++k) {
            bad += apply_one(rule, bfloat16_slots, operands[k], pushes[k], begin, stop);
        }
    }
    return bad;
}

}  // namespace

std::size_t apply_pushes(const Rule& rule, bool bfloat16_slots, const Operands& o, const std::vector<Push>& pushes,
                         const std::vector<Part>& parts, std::size_t begin, std::size_t end, int threads) {
    if (pushes.empty()) return 0;
    std::atomic<std::size_t> total{0};
    split(end - begin, threads, line, [&](std::size_t from, std::size_t to) {
        std::size_t bad = 0;
        for (const Part& part : parts) {
            const std::size_t first = std::max(begin + from, part.begin);
            const std::size_t last = std::min(begin + to, part.end);
            if (first < last) {
                bad += apply_part(rule, bfloat16_slots, o, pushes, part.decay, first, last);
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

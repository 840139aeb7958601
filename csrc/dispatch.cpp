#include "dispatch.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "parallel.hpp"

namespace elephas {

extern const Kernels baseline;
#ifdef ELEPHAS_X86_64
extern const Kernels avx2;
extern const Kernels avx512;
#endif

namespace {

// A cache line of floats: threads never write to the same line.
constexpr std::size_t line = 16;

// Length of the pieces whose sums of squares are added in order, whoever computes them.
constexpr std::size_t sum_block = std::size_t{1} << 16;

struct Build {
    const char* name;
    const Kernels* kernels;
    bool usable;
};

std::vector<Build> builds() {
    std::vector<Build> all;
#ifdef ELEPHAS_X86_64
    __builtin_cpu_init();
    const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    all.push_back({"avx512", &avx512, has_avx512});
    all.push_back({"avx2", &avx2, __builtin_cpu_supports("avx2") != 0});
#endif
    all.push_back({"baseline", &baseline, true});
    return all;
}

template <class Work>
std::size_t split_and_sum(std::size_t n, int threads, const Work& work) {
    std::atomic<std::size_t> total{0};
    split(n, threads, line, [&](std::size_t begin, std::size_t end) { total += work(begin, end); });
    return total;
}

}  // namespace

std::vector<std::string> usable_isas() {
    std::vector<std::string> names;
    for (const Build& build : builds()) {
        if (build.usable) names.emplace_back(build.name);
    }
    return names;
}

const Kernels* find_kernels(const std::string& isa) {
    for (const Build& build : builds()) {
        if (build.usable && (isa == "auto" || isa == build.name)) return build.kernels;
    }
    return nullptr;
}

const Rule* find_rule(const Kernels& kernels, const std::string& name) {
    for (const Rule& rule : kernels.rules) {
        if (name == rule.name) return &rule;
    }
    return nullptr;
}

std::size_t apply_parts(Apply rule, const Operands& o, const std::vector<Part>& parts, int threads) {
    if (parts.empty()) return 0;
    const std::size_t first = parts.front().begin;
    return split_and_sum(parts.back().end - first, threads, [&](std::size_t begin, std::size_t end) {
        begin += first;
        end += first;
        std::size_t bad = 0;
        Operands own = o;
        for (const Part& part : parts) {
            if (part.end <= begin) continue;
            if (part.begin >= end) break;
            own.scale = part.scale;
            own.decay = part.decay;
            bad += rule(own, std::max(begin, part.begin), std::min(end, part.end));
        }
        return bad;
    });
}

std::size_t count_nonfinite(const Kernels& kernels, const float* x, std::size_t n, int threads) {
    return split_and_sum(n, threads,
                         [&](std::size_t begin, std::size_t end) { return kernels.count_nonfinite(x, begin, end); });
}

double sum_of_squares(const Kernels& kernels, const float* x, std::size_t n, int threads) {
    std::vector<double> sums((n + sum_block - 1) / sum_block);
    split(n, threads, sum_block, [&](std::size_t begin, std::size_t end) {
        for (; begin < end; begin += sum_block) {
            sums[begin / sum_block] = kernels.sum_of_squares(x, begin, std::min(end, begin + sum_block));
        }
    });
    double total = 0.0;
    for (const double sum : sums) total += sum;
    return total;
}

void weighted_mean(const Kernels& kernels, const std::vector<const float*>& vectors, const std::vector<double>& shares,
                   float* out, std::size_t n, int threads) {
    split(n, threads, line, [&](std::size_t begin, std::size_t end) {
        kernels.weighted_mean(vectors.data(), shares.data(), vectors.size(), out, begin, end);
    });
}

std::size_t subtract(const Kernels& kernels, const float* a, const float* b, float* out, std::size_t n, int threads) {
    return split_and_sum(n, threads,
                         [&](std::size_t begin, std::size_t end) { return kernels.subtract(a, b, out, begin, end); });
}

std::size_t blend(const Kernels& kernels, int access, float* weights, const float* values, float alpha, std::size_t n) {
    return kernels.blend[access](weights, values, alpha, 0, n);
}

void copy(const float* source, float* out, std::size_t n, int threads) {
    split(n, threads, line, [&](std::size_t begin, std::size_t end) {
        std::memcpy(out + begin, source + begin, (end - begin) * sizeof(float));
    });
}

void non_negative(const Kernels& kernels, const float* weights, float* out, std::size_t n) {
    kernels.non_negative(weights, out, 0, n);
}

void bound_norms(const Kernels& kernels, const float* weights, float* out, Blocks shape, NormBounds bounds) {
    std::vector<double> norms(shape.inner);
    kernels.bound_norms(weights, out, shape, bounds, norms.data());
}

}  // namespace elephas

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

// Elements of new weights that are copied while they, the slots and the gradient are still in the first-level cache.
constexpr std::size_t copy_block = 1024;

// Elements between two decisions whether to look on for one that is not finite.
constexpr std::size_t look_block = std::size_t{1} << 14;

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

// New weights on their way out with a push, read once more where this thread has written them. A function of its own,
// so that a report of a race there can be told from one of the kernels'.
__attribute__((noinline)) void take_along(const float* weights, float* out, std::size_t n) {
    std::memcpy(out, weights, n * sizeof(float));
}

// The sum of work(b, e) over ranges that cover [begin, begin + n), each under its lock if the course has locks; threads
// begin on multiples of a stripe, so that they do not meet in one.
template <class Work>
std::size_t travel(std::size_t begin, std::size_t n, int threads, const Course& course, const Work& work) {
    const Stripes* const stripes = course.stripes;
    if (stripes == nullptr) {
        return split_and_sum(n, threads, [&](std::size_t b, std::size_t e) { return work(begin + b, begin + e); });
    }
    std::atomic<std::size_t> total{0};
    std::atomic<bool> late{false};
    const std::size_t shift = course.offset + begin;
    const std::size_t past = shift % stripes->stripe;  // the ranges begin this far inside a stripe
    split(n + past, threads, stripes->stripe, [&](std::size_t b, std::size_t e) {
        if (e <= past) return;
        b = b > past ? b - past : 0;
        e -= past;
        std::size_t bad = 0;
        const bool whole =
            visit(*stripes, shift + b, shift + e, course.writer, course.seconds,
                  [&](std::size_t b, std::size_t e) { bad += work(b - course.offset, e - course.offset); });
        total += bad;
        if (!whole) late = true;
    });
    return late ? timed_out : total.load();
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

std::size_t apply_parts(Apply rule, const Operands& o, const std::vector<Part>& parts, std::size_t begin,
                        std::size_t end, float* copy_to, const Course& course, int threads) {
    if (begin >= end) return 0;
    return travel(begin, end - begin, threads, course, [&](std::size_t from, std::size_t to) {
        const auto after = [](const Part& part, std::size_t at) { return part.end <= at; };
        auto part = std::lower_bound(parts.begin(), parts.end(), from, after);
        std::size_t bad = 0;
        Operands own = o;
        const std::size_t step = copy_to != nullptr ? copy_block : to - from;
        for (std::size_t b = from; b < to; b += step) {
            const std::size_t e = to - b < step ? to : b + step;
            for (; part != parts.end() && part->begin < e; ++part) {
                own.gradient = part->gradient;
                own.scale = part->scale;
                own.decay = part->decay;
                bad += rule(own, std::max(b, part->begin), std::min(e, part->end));
                if (part->end > e) break;
            }
            if (copy_to != nullptr) take_along(o.weights_out + b, copy_to + b, e - b);
        }
        return bad;
    });
}

bool all_finite(const Kernels& kernels, const float* x, std::size_t n) {
    for (std::size_t begin = 0; begin < n; begin += look_block) {
        if (kernels.count_nonfinite(x, begin, std::min(n, begin + look_block)) > 0) return false;
    }
    return true;
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

std::size_t blend(const Kernels& kernels, int access, float* weights, const float* values, float alpha, std::size_t n,
                  const Course& course) {
    return travel(0, n, 1, course, [&](std::size_t begin, std::size_t end) {
        return kernels.blend[access](weights, values, alpha, begin, end);
    });
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

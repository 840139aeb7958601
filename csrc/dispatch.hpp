// Chooses the kernels for the processor at hand, once, and cuts work into parts and over threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "stripes.hpp"

namespace elephas {

// A range that is treated alike: its own gradient scale and weight decay, and a gradient that may lie in a buffer of
// its own: that of the vector's element i is gradient[i].
struct Part {
    std::size_t begin;
    std::size_t end;
    float scale;
    float decay;
    const float* gradient;
};

// How a writer goes over a vector that others may write too. Element i of the vector belongs to the lock of element
// offset + i; without locks (null) the writer goes straight through.
struct Course {
    const Stripes* stripes;
    std::size_t offset;
    std::uint64_t writer;
    double seconds;
};

// What is returned in place of a count if a stripe stayed locked for `Course::seconds`.
constexpr std::size_t timed_out = SIZE_MAX;

// The instruction sets that were built and that this processor has, best first; never empty.
std::vector<std::string> usable_isas();

// The kernels of an instruction set, or of the best usable one for "auto"; null if it is unknown or unusable.
// Static storage.
const Kernels* find_kernels(const std::string& isa);

// The rule of that name, or null. Static storage.
const Rule* find_rule(const Kernels& kernels, const std::string& name);

// Each function below may be called from any thread, takes buffers as the Kernels member of the same name does, and
// uses up to `threads` threads where the length is worth it. The result does not depend on `threads`.

// Apply a rule to the elements [begin, end) of each part; gradient, scale and decay are taken from the parts, which are
// ascending. The new weights of [begin, end), inside and between the parts, are also copied to `copy_to` unless it is
// null. Or `timed_out`.
std::size_t apply_parts(Apply rule, const Operands& o, const std::vector<Part>& parts, std::size_t begin,
                        std::size_t end, float* copy_to, const Course& course, int threads);

// Whether all elements of a vector are finite; looks no further than the first block that has one which is not.
bool all_finite(const Kernels& kernels, const float* x, std::size_t n);

std::size_t count_nonfinite(const Kernels& kernels, const float* x, std::size_t n, int threads);
double sum_of_squares(const Kernels& kernels, const float* x, std::size_t n, int threads);
void weighted_mean(const Kernels& kernels, const std::vector<const float*>& vectors, const std::vector<double>& shares,
                   float* out, std::size_t n, int threads);
std::size_t subtract(const Kernels& kernels, const float* a, const float* b, float* out, std::size_t n, int threads);
std::size_t blend(const Kernels& kernels, int access, float* weights, const float* values, float alpha, std::size_t n,
                  const Course& course);  // or `timed_out`
void copy(const float* source, float* out, std::size_t n, int threads);
void non_negative(const Kernels& kernels, const float* weights, float* out, std::size_t n);
void bound_norms(const Kernels& kernels, const float* weights, float* out, Blocks shape, NormBounds bounds);

}  // namespace elephas

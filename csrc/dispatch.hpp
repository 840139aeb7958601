// Chooses the kernels for the processor at hand, once, and cuts work into parts and over threads.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace elephas {

// A range that is treated alike: its own gradient scale and weight decay.
struct Part {
    std::size_t begin;
    std::size_t end;
    float scale;
    float decay;
};

// The instruction sets that were built and that this processor has, best first; never empty.
std::vector<std::string> usable_isas();

// The kernels of an instruction set, or of the best usable one for "auto"; null if it is unknown or unusable.
// Static storage.
const Kernels* find_kernels(const std::string& isa);

// The rule of that name, or null. Static storage.
const Rule* find_rule(const Kernels& kernels, const std::string& name);

// Each function below may be called from any thread, takes buffers as the Kernels member of the same name does, and
// uses up to `threads` threads where the length is worth it. The result does not depend on `threads`.

// Apply a rule to the elements [begin, end) of each part; `o.scale` and `o.decay` are taken from the parts.
std::size_t apply_parts(Apply rule, const Operands& o, const std::vector<Part>& parts, int threads);

std::size_t count_nonfinite(const Kernels& kernels, const float* x, std::size_t n, int threads);
double sum_of_squares(const Kernels& kernels, const float* x, std::size_t n, int threads);
void weighted_mean(const Kernels& kernels, const std::vector<const float*>& vectors, const std::vector<double>& shares,
                   float* out, std::size_t n, int threads);
std::size_t subtract(const Kernels& kernels, const float* a, const float* b, float* out, std::size_t n, int threads);
std::size_t blend(const Kernels& kernels, int access, float* weights, const float* values, float alpha, std::size_t n);
void copy(const float* source, float* out, std::size_t n, int threads);
void non_negative(const Kernels& kernels, const float* weights, float* out, std::size_t n);
void bound_norms(const Kernels& kernels, const float* weights, float* out, Blocks shape, NormBounds bounds);

}  // namespace elephas

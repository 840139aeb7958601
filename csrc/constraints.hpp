// Keras' built-in weight constraints on one tensor.
#pragma once

#include <cmath>

#include "kernels.hpp"
#include "vectors.hpp"

namespace elephas {
namespace {

// w' = max(w, 0). Source: Keras 3, constraints/constraints.py, NonNeg.
inline void non_negative(const float* weights, float* out, std::size_t begin, std::size_t end) noexcept {
#pragma GCC ivdep
    for (std::size_t i = begin; i < end; ++i) out[i] = weights[i] < 0.0f ? 0.0f : weights[i];
}

// w' = w (rate clip(norm, minimum, maximum) + (1 - rate) norm) / (epsilon + norm), norm = sqrt(sum of w^2 over the
// reduced axis), summed in double in the order of the axis. `norms` is room for `inner` doubles.
// Source: Keras 3, constraints/constraints.py, MinMaxNorm; MaxNorm is minimum = 0, rate = 1; UnitNorm is both bounds 1.
inline void bound_norms(const float* weights, float* out, Blocks shape, NormBounds bounds, double* norms) noexcept {
    for (std::size_t o = 0; o < shape.outer; ++o) {
        const float* from = weights + o * shape.reduced * shape.inner;
        float* to = out + o * shape.reduced * shape.inner;
        if (shape.inner == 1) {
            norms[0] = sum_of_squares(from, 0, shape.reduced);
        } else {
            for (std::size_t j = 0; j < shape.inner; ++j) norms[j] = 0.0;
            for (std::size_t r = 0; r < shape.reduced; ++r) {
                const float* row = from + r * shape.inner;
                for (std::size_t j = 0; j < shape.inner; ++j) {
                    const double value = row[j];
                    norms[j] += value * value;
                }
            }
        }
        for (std::size_t j = 0; j < shape.inner; ++j) {
            const float norm = static_cast<float>(sqrt(norms[j]));
            float wanted = norm < bounds.minimum ? bounds.minimum : norm;
            wanted = wanted > bounds.maximum ? bounds.maximum : wanted;
            wanted = bounds.rate * wanted + (1.0f - bounds.rate) * norm;
            norms[j] = wanted / (bounds.epsilon + norm);
        }
        for (std::size_t r = 0; r < shape.reduced; ++r) {
#pragma GCC ivdep
            for (std::size_t j = 0; j < shape.inner; ++j) {
                const std::size_t i = r * shape.inner + j;
                to[i] = from[i] * static_cast<float>(norms[j]);
            }
        }
    }
}

}  // namespace
}  // namespace elephas

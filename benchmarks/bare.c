/* The limit of an optimizer kernel: loops that read and write the same arrays with almost no arithmetic.
   Slots 0, 1, 2 are the traffic of SGD; momentum, RMSprop, Adagrad; Adadelta, Adam. */
#include <stddef.h>
#include <stdint.h>

#define LOOP _Pragma("omp parallel for simd schedule(static) num_threads(threads)")

void bare_0(float *restrict w, const float *restrict g, size_t n, int threads) {
    LOOP
    for (size_t i = 0; i < n; ++i) w[i] -= g[i];
}

void bare_1(float *restrict w, float *restrict a, const float *restrict g, size_t n, int threads) {
    LOOP
    for (size_t i = 0; i < n; ++i) {
        a[i] += g[i];
        w[i] -= g[i];
    }
}

void bare_2(float *restrict w, float *restrict a, float *restrict b, const float *restrict g, size_t n, int threads) {
    LOOP
    for (size_t i = 0; i < n; ++i) {
        a[i] += g[i];
        b[i] += g[i];
        w[i] -= g[i];
    }
}

/* Adam's traffic with a gradient of 16 bits, and with four gradients. */
void bare_2_half(float *restrict w, float *restrict a, float *restrict b, const int16_t *restrict g, size_t n,
                 int threads) {
    LOOP
    for (size_t i = 0; i < n; ++i) {
        const float x = g[i];
        a[i] += x;
        b[i] += x;
        w[i] -= x;
    }
}

void bare_2_four(float *restrict w, float *restrict a, float *restrict b, const float *restrict g,
                 const float *restrict h, const float *restrict p, const float *restrict q, size_t n, int threads) {
    LOOP
    for (size_t i = 0; i < n; ++i) {
        const float x = g[i] + h[i] + (p[i] + q[i]);
        a[i] += x;
        b[i] += x;
        w[i] -= x;
    }
}

// Every kernel of every instruction set on one thread: all lengths up to a few registers, lengths around every block,
// vectors that are aligned to nothing but an element, ranges that begin anywhere. Memory ends where the range does, and
// the bits must be those of the plainest instruction set, but for rules that use estimates.
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "exercise.hpp"

namespace exercise {
namespace {

using namespace elephas;

using Bytes = std::string;

template <class T>
void append(Bytes& bytes, Exact<T>& x) {
    bytes.append(reinterpret_cast<const char*>(x.data()), x.size() * sizeof(T));
}

std::vector<std::size_t> lengths() {
    std::vector<std::size_t> all;
    for (std::size_t n = 0; n <= 70; ++n) all.push_back(n);
    for (const std::size_t block : {128, 512, 1024}) {
        for (std::size_t n = block - 1; n <= block + 1; ++n) all.push_back(n);
    }
    all.push_back(2500);
    return all;
}

// One way to apply a rule.
struct Case {
    std::size_t n, shift, begin;
    int access;
    bool halves, prepared, bad, apart, copied;
};

std::vector<Case> cases() {
    std::vector<Case> all;
    std::size_t k = 0;
    for (const std::size_t n : lengths()) {
        for (int kind = 0; kind < 6; ++kind, ++k) {
            const bool apart = kind == 4, halves = kind == 3;
            const int access = kind < 3 ? kind : 0;
            all.push_back({n, k % 4, k % 3 * 17, access, halves, k % 2 == 0, k % 5 == 0, apart, kind == 5});
        }
    }
    return all;
}

float poison(std::size_t k) {
    const float values[] = {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN(), 3e38f};
    return values[k % 4];
}

Bytes apply_case(const Rule& rule, const Case& c) {
    Numbers numbers(c.n * 1000 + c.shift);
    Exact<float> weights(c.n, c.shift), gradient(c.n, (c.shift + 1) % 4), weights_out(c.apart ? c.n : 0, c.shift);
    Exact<float> copy(c.copied ? c.n : 0, c.shift);
    Exact<float> slots[max_slots] = {Exact<float>(c.n, 1), Exact<float>(c.n, 2), Exact<float>(c.n, 3)};
    Exact<float> slots_out[max_slots] = {Exact<float>(c.n), Exact<float>(c.n), Exact<float>(c.n)};
    Exact<std::uint16_t> halves[max_slots] = {Exact<std::uint16_t>(c.n, 1), Exact<std::uint16_t>(c.n, 2),
                                              Exact<std::uint16_t>(c.n, 3)};
    weights.fill(numbers);
    gradient.fill(numbers);
    Operands o{};
    set_scalars(o.scalars);
    o.weights = weights.from(c.begin);
    o.weights_out = c.apart ? weights_out.from(c.begin) : weights.from(c.begin);
    o.clip = c.prepared ? 0.5f : HUGE_VALF;
    o.seed = 7;
    for (int k = 0; k < max_slots; ++k) {
        slots[k].fill(numbers);
        for (std::size_t i = 0; i < c.n; ++i) halves[k][i] = static_cast<std::uint16_t>(0x3f00 + i % 64);
        o.slots[k] = slots[k].from(c.begin);
        o.slots_out[k] = c.apart ? slots_out[k].from(c.begin) : slots[k].from(c.begin);
        o.halves[k] = o.halves_out[k] = halves[k].from(c.begin);
    }
    if (c.bad && c.n > 0) gradient[c.n / 2] = poison(c.n);
    const std::vector<Part> parts = {
        {c.begin, c.begin + c.n, c.prepared ? 0.5f : 1.0f, c.prepared ? 0.1f : 0.0f, gradient.from(c.begin)}};
    const Apply apply = c.halves ? rule.apply_bfloat16 : rule.apply[c.access];
    const std::size_t bad = apply_parts(apply, o, parts, c.begin, c.begin + c.n,
                                        c.copied ? copy.from(c.begin) : nullptr, Course{nullptr, 0, 0, 1.0}, 1);
    Bytes bytes = std::to_string(bad);
    append(bytes, weights);
    append(bytes, weights_out);
    append(bytes, copy);
    for (int k = 0; k < rule.slots; ++k) {
        append(bytes, slots[k]);
        append(bytes, slots_out[k]);
        append(bytes, halves[k]);
    }
    return bytes;
}

Bytes apply_vectors(const Kernels& kernels, std::size_t n, std::size_t shift) {
    Numbers numbers(n);
    Exact<float> a(n, shift), b(n, (shift + 1) % 4), out(n, (shift + 2) % 4);
    Exact<std::uint16_t> halves(n, (shift + 3) % 4);
    a.fill(numbers);
    b.fill(numbers);
    if (n > 3) a[n / 3] = poison(n);
    Bytes bytes =
        std::to_string(count_nonfinite(kernels, a.data(), n, 1)) + (all_finite(kernels, b.data(), n) ? "f" : "n");
    const double sum = sum_of_squares(kernels, b.data(), n, 1);
    bytes.append(reinterpret_cast<const char*>(&sum), sizeof sum);
    for (std::size_t count = 1; count <= 5; ++count) {
        const std::vector<const float*> given(count, b.data());
        weighted_mean(kernels, given, std::vector<double>(count, 1.0 / static_cast<double>(count)), out.data(), n, 1);
        append(bytes, out);
    }
    bytes += std::to_string(subtract(kernels, b.data(), a.data(), out.data(), n, 1));
    append(bytes, out);
    for (int access = 0; access < access_count; ++access) {
        for (const float alpha : {0.25f, 1.0f}) {
            bytes += std::to_string(blend(kernels, access, out.data(), b.data(), alpha, n, Course{nullptr, 0, 0, 1.0}));
            append(bytes, out);
        }
    }
    copy(b.data(), out.data(), n, 1);
    append(bytes, out);
    non_negative(kernels, a.data(), out.data(), n);
    append(bytes, out);
    const std::size_t inner = n % 7 == 0 ? 7 : n % 3 == 0 ? 3 : 1;
    bound_norms(kernels, b.data(), out.data(), Blocks{1, n / inner, inner}, NormBounds{0.1f, 1.0f, 0.5f, 1e-7f});
    append(bytes, out);
    encode_bfloat16(kernels, a.data(), halves.data(), n, 1);
    append(bytes, halves);
    decode_bfloat16(kernels, halves.data(), out.data(), n, 1);
    append(bytes, out);
    return bytes;
}

Bytes apply_queued(const Rule& rule, bool bfloat16_slots, std::size_t n, std::size_t count, int kind) {
    Numbers numbers(n + count);
    Exact<float> weights(n, 1), gradient(n, 2), other(n, 3);
    Exact<std::uint16_t> halves(n, 1);
    Exact<float> slots[max_slots] = {Exact<float>(n, 1), Exact<float>(n, 2), Exact<float>(n, 3)};
    Exact<std::uint16_t> half_slots[max_slots] = {Exact<std::uint16_t>(n, 1), Exact<std::uint16_t>(n, 2),
                                                  Exact<std::uint16_t>(n, 3)};
    weights.fill(numbers);
    gradient.fill(numbers);
    other.fill(numbers);
    for (std::size_t i = 0; i < n; ++i) halves[i] = static_cast<std::uint16_t>(0x3e00 + i % 100);
    if (n % 11 == 10) gradient[n - 1] = poison(n);
    Operands o{};
    o.weights = o.weights_out = weights.data();
    o.clip = kind == 3 ? 0.3f : HUGE_VALF;
    for (int k = 0; k < max_slots; ++k) {
        slots[k].fill(numbers);
        o.slots[k] = o.slots_out[k] = slots[k].data();
        o.halves[k] = o.halves_out[k] = half_slots[k].data();
    }
    std::vector<Push> pushes;
    for (std::size_t k = 0; k < count; ++k) {
        Push push{};
        set_scalars(push.scalars);
        push.scale = kind == 3 ? 0.5f : 1.0f;
        push.decay = kind == 3 ? 0.1f : 0.0f;
        if (kind == 1) {
            push.halves = halves.data();
        } else {
            push.floats.push_back(gradient.data());
            if (kind == 2) push.floats.push_back(other.data());
            push.shares.assign(push.floats.size(), 0.5);
        }
        pushes.push_back(push);
    }
    const std::size_t middle = n / 2;
    const std::vector<Part> parts = {{0, middle, 1.0f, 1.0f, nullptr}, {middle, n, 1.0f, 0.0f, nullptr}};
    Bytes bytes = std::to_string(apply_pushes(rule, bfloat16_slots, o, pushes, parts, 0, n, 1));
    append(bytes, weights);
    for (int k = 0; k < rule.slots; ++k) {
        append(bytes, slots[k]);
        append(bytes, half_slots[k]);
    }
    return bytes;
}

// Whether a rule divides by way of an estimate, whose last bit depends on the instruction set: its results are compared
// with those of a second call instead.
bool estimates(const char* rule) {
    return !std::strncmp(rule, "rmsprop", 7) || !std::strcmp(rule, "adagrad") || !std::strncmp(rule, "adam", 4);
}

}  // namespace

void rules() {
    const Kernels& plain = *find_kernels("baseline");
    std::size_t done = 0;
    for (const Case& c : cases()) {
        for (int r = 0; r < rule_count; ++r) {
            const Bytes wanted = apply_case(plain.rules[r], c);
            for (const Kernels* kernels : all_kernels()) {
                const Bytes found = apply_case(kernels->rules[r], c);
                expect(found == (estimates(plain.rules[r].name) ? apply_case(kernels->rules[r], c) : wanted),
                       plain.rules[r].name);
                ++done;
            }
        }
    }
    std::printf("%zu\n", done);
}

void vectors() {
    std::size_t done = 0;
    for (const std::size_t n : lengths()) {
        for (std::size_t shift = 0; shift < 4; ++shift) {
            const Bytes wanted = apply_vectors(*find_kernels("baseline"), n, shift);
            for (const Kernels* kernels : all_kernels()) {
                expect(apply_vectors(*kernels, n, shift) == wanted, "the same bits of every instruction set");
                ++done;
            }
        }
    }
    std::printf("%zu\n", done);
}

void queue() {
    const Kernels& plain = *find_kernels("baseline");
    std::size_t done = 0;
    for (const std::size_t n : {0, 1, 15, 16, 17, 63, 64, 65, 130, 511, 513, 1100}) {
        for (std::size_t count = 0; count < 4; ++count) {
            for (int kind = 0; kind < 8; ++kind) {
                for (int r = 0; r < rule_count; ++r) {
                    const bool bfloat16_slots = kind >= 4;
                    const Bytes wanted = apply_queued(plain.rules[r], bfloat16_slots, n, count, kind % 4);
                    for (const Kernels* kernels : all_kernels()) {
                        const auto apply = [&] {
                            return apply_queued(kernels->rules[r], bfloat16_slots, n, count, kind % 4);
                        };
                        expect(apply() == (estimates(plain.rules[r].name) ? apply() : wanted), plain.rules[r].name);
                        ++done;
                    }
                }
            }
        }
    }
    std::printf("%zu\n", done);
}

}  // namespace exercise

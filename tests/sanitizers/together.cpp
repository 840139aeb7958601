// Several threads on the same memory: those whose work is disjoint or under locks, of whom ThreadSanitizer must report
// nothing, and those whose races races.supp lists.
#include <atomic>
#include <cmath>
#include <new>
#include <thread>

#include "atomics.hpp"
#include "exercise.hpp"

namespace exercise {
namespace {

using namespace elephas;

constexpr std::size_t writers = 4;
constexpr std::size_t rounds = 30;
constexpr double patience = 60.0;
constexpr Course straight = {nullptr, 0, 0, patience};

const Kernels& best() { return *find_kernels("auto"); }

// Run work(0), work(1), ... on threads of their own that begin together.
template <class Work>
void together(std::size_t count, const Work& work) {
    std::atomic<std::size_t> ready{0};
    std::vector<std::thread> all;
    for (std::size_t k = 0; k < count; ++k) {
        all.emplace_back([&, k] {
            ready.fetch_add(1, std::memory_order_relaxed);
            while (ready.load(std::memory_order_relaxed) < count) std::this_thread::yield();
            work(k);
        });
    }
    for (std::thread& thread : all) thread.join();
}

// Locks over `n` elements.
class Locks {
  public:
    Locks(std::size_t n, std::size_t stripe) : stripes{nullptr, &reclaimed, (n + stripe - 1) / stripe, stripe} {
        stripes.locks = static_cast<StripeLock*>(std::aligned_alloc(64, stripes.count * sizeof(StripeLock)));
        expect(create(stripes) == 0, "locks to be made");
    }
    Locks(const Locks&) = delete;
    Locks& operator=(const Locks&) = delete;
    ~Locks() { std::free(stripes.locks); }

    std::uint64_t reclaimed = 0;
    Stripes stripes;
};

// A vector of zeros with the slots of a rule, to which every push adds 1.
class Sum {
  public:
    explicit Sum(std::size_t n, const char* rule = "sgd")
        : rule_(*find_rule(best(), rule)), weights_(n), slot_(n), gradient_(n) {
        for (std::size_t i = 0; i < n; ++i) gradient_[i] = -1.0f;
        set_scalars(operands_.scalars);
        operands_.scalars[0] = 1.0f;
        operands_.weights = operands_.weights_out = weights_.data();
        operands_.slots[0] = operands_.slots_out[0] = slot_.data();
        operands_.clip = HUGE_VALF;
    }

    // One push, in place or to `out`; copied to `copy_to` unless that is null.
    std::size_t push(int access, const Course& course, float* copy_to = nullptr, float* out = nullptr,
                     const float* in = nullptr) {
        Operands o = operands_;
        if (out != nullptr) o.weights = in, o.weights_out = out;
        const std::size_t n = weights_.size();
        const std::vector<Part> parts = {{0, n, 1.0f, 0.0f, gradient_.data()}};
        return apply_parts(rule_.apply[access], o, parts, 0, n, copy_to, course, 1);
    }

    Exact<float>& weights() { return weights_; }

    void expect_all(float value) {
        for (std::size_t i = 0; i < weights_.size(); ++i)
            expect(weights_[i] == value, "each push once in every weight");
    }

  private:
    const Rule& rule_;
    Exact<float> weights_, slot_, gradient_;
    Operands operands_{};
};

// Writers that take no locks.
void hogwild(int access, const char* rule) {
    Sum sum(1500, rule);
    Exact<float> values(1500);
    together(writers, [&](std::size_t) {
        for (std::size_t k = 0; k < rounds; ++k) {
            sum.push(access, straight);
            blend(best(), access, sum.weights().data(), values.data(), 0.0f, 1500, straight);
        }
    });
    if (access == 2) sum.expect_all(writers * rounds);
}

}  // namespace

// Work cut over threads, which share nothing but the vectors' ends.
void threads() {
    constexpr std::size_t n = 3 * (std::size_t{1} << 18) + 7;
    constexpr int count = 3;
    Exact<float> weights(n), slot(n), gradient(n), out(n);
    Exact<std::uint16_t> halves(n);
    Numbers numbers(1);
    gradient.fill(numbers);
    Operands o{};
    o.weights = o.weights_out = weights.data();
    o.slots[0] = o.slots_out[0] = slot.data();
    o.clip = HUGE_VALF;
    set_scalars(o.scalars);
    const Rule& rule = *find_rule(best(), "momentum");
    const std::vector<Part> parts = {{0, n, 1.0f, 0.0f, gradient.data()}};
    Push push{};
    set_scalars(push.scalars);
    push.floats = {gradient.data()};
    push.scale = 1.0f;
    Push mean = push;
    mean.floats = {gradient.data(), gradient.data()};
    mean.shares = {0.5, 0.5};
    Locks locks(n, 16384);
    expect(apply_parts(rule.apply[0], o, parts, 0, n, out.data(), straight, count) == 0, "finite weights");
    expect(apply_parts(rule.apply[0], o, parts, 0, n, nullptr, Course{&locks.stripes, 0, 1, patience}, count) == 0,
           "finite weights");
    expect(apply_pushes(rule, false, o, {push, push, push}, parts, 0, n, count) == 0, "finite weights");
    expect(apply_pushes(rule, false, o, {mean, push}, parts, 0, n, count) == 0, "finite weights");
    encode_bfloat16(best(), weights.data(), halves.data(), n, count);
    decode_bfloat16(best(), halves.data(), out.data(), n, count);
    weighted_mean(best(), {weights.data(), gradient.data()}, {0.5, 0.5}, out.data(), n, count);
    copy(weights.data(), out.data(), n, count);
    expect(sum_of_squares(best(), gradient.data(), n, count) > 0.0, "a sum");
    expect(subtract(best(), weights.data(), out.data(), gradient.data(), n, count) == 0, "finite differences");
    expect(count_nonfinite(best(), weights.data(), n, count) == 0, "finite weights");
}

// Hogwild with locks: nothing is lost, and what a push brings back was read under the locks.
void stripes() {
    constexpr std::size_t n = 2000, stripe = 64;
    Sum sum(n), moving(n, "momentum");
    Exact<float> values(n);
    Locks locks(n, stripe), others(n, stripe);
    together(writers, [&](std::size_t k) {
        Exact<float> back(n);
        for (std::size_t round = 0; round < rounds; ++round) {
            const Course course = {&locks.stripes, 0, k, patience};
            expect(sum.push(0, course, round % 2 == 0 ? back.data() : nullptr) == 0, "finite weights");
            expect(moving.push(0, Course{&others.stripes, 0, k, patience}) == 0, "finite weights");
            expect(blend(best(), 0, sum.weights().data() + 100, values.data(), 0.0f, n - 100,
                         Course{&locks.stripes, 100, k, patience}) == 0,
                   "finite weights");
            if (round % 10 == 0) {
                expect(take_all(locks.stripes, 3, 9, patience), "the locks");
                non_negative(best(), sum.weights().data() + 3 * stripe, sum.weights().data() + 3 * stripe, 6 * stripe);
                give_back_all(locks.stripes, 3, 9);
            }
        }
    });
    sum.expect_all(writers * rounds);
}

// Asynchronous mode: a push goes from one buffer to the other under one lock, which then flips; readers that hold the
// lock see whole pushes only.
void whole() {
    constexpr std::size_t n = 1500;
    Sum sum(n);
    Exact<float> buffers[2] = {Exact<float>(n), Exact<float>(n)};
    Locks lock(1, 1);
    std::uint64_t version = 0;
    together(writers + 2, [&](std::size_t k) {
        Exact<float> seen(n);
        for (std::size_t round = 0; round < rounds; ++round) {
            expect(take_all(lock.stripes, 0, 1, patience), "the lock");
            const std::uint64_t now = atomic_load(&version);
            if (k < writers) {
                sum.push(0, straight, seen.data(), buffers[(now + 1) & 1].data(), buffers[now & 1].data());
                atomic_store(&version, now + 1);
            } else {
                copy(buffers[now & 1].data(), seen.data(), n, 1);
                for (std::size_t i = 0; i < n; ++i) expect(seen[i] == static_cast<float>(now), "whole pushes");
            }
            give_back_all(lock.stripes, 0, 1);
        }
    });
    expect(atomic_add(&version, 0) == writers * rounds, "a version for each push");
}

// A thread that ends with a lock in its hands; the next one is given it.
void died() {
    Locks locks(100, 10);
    std::thread([&] { expect(take(locks.stripes, 3, patience), "the lock"); }).join();
    together(writers, [&](std::size_t) {
        for (std::size_t round = 0; round < rounds; ++round) {
            expect(take_all(locks.stripes, 0, 10, patience), "the locks");
            give_back_all(locks.stripes, 0, 10);
        }
    });
    expect(locks.reclaimed == 1, "one lock taken over");
}

void racy() { hogwild(0, "momentum"); }
void relaxed() { hogwild(1, "momentum"); }
void compare_exchange() { hogwild(2, "sgd"); }

// Constraints are projected in place, without locks where a push takes none.
void constraints() {
    Sum sum(1500);
    together(writers, [&](std::size_t k) {
        float* weights = sum.weights().data();
        for (std::size_t round = 0; round < rounds; ++round) {
            sum.push(1, straight);
            if (k % 2 == 0) {
                non_negative(best(), weights, weights, 700);
            } else {
                bound_norms(best(), weights + 700, weights + 700, Blocks{1, 100, 8},
                            NormBounds{0.0f, 9.0f, 1.0f, 1e-7f});
            }
        }
    });
}

// Hogwild's pull takes no locks: it may hold parts of pushes. Here and below writers store atomically, so that what is
// reported is the reader's doing.
void pull() {
    Sum sum(2000);
    Locks locks(2000, 64);
    together(2, [&](std::size_t k) {
        Exact<float> seen(2000);
        for (std::size_t round = 0; round < rounds; ++round) {
            if (k == 0) {
                sum.push(1, Course{&locks.stripes, 0, k, patience});
            } else {
                copy(sum.weights().data(), seen.data(), 2000, 1);
            }
        }
    });
}

// Asynchronous mode's pull takes no lock either; it throws away what a push has overtaken.
void overtaken() {
    constexpr std::size_t n = 1500;
    Sum sum(n);
    Exact<float> buffers[2] = {Exact<float>(n), Exact<float>(n)};
    std::uint64_t version = 0, writing = 0;
    together(2, [&](std::size_t k) {
        Exact<float> seen(n);
        for (std::size_t round = 0; round < rounds; ++round) {
            const std::uint64_t now = atomic_load(&version);
            if (k == 0) {
                atomic_store(&writing, now + 1);
                sum.push(1, straight, nullptr, buffers[(now + 1) & 1].data(), buffers[now & 1].data());
                atomic_store(&version, now + 1);
            } else {
                copy(buffers[now & 1].data(), seen.data(), n, 1);
                if (atomic_load(&writing) >= now + 2) continue;
                for (std::size_t i = 0; i < n; ++i) expect(seen[i] == static_cast<float>(now), "whole pushes");
            }
        }
    });
}

// Hogwild's push that brings the weights back, without locks: it may bring parts of others' pushes.
void exchange() {
    Sum sum(1500);
    together(writers, [&](std::size_t) {
        Exact<float> back(1500);
        for (std::size_t round = 0; round < rounds; ++round) sum.push(2, straight, back.data());
    });
    sum.expect_all(writers * rounds);
}

}  // namespace exercise

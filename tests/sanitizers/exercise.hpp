// What the scenarios share: numbers from a seed, memory that ends where its elements do, and a way to fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "dispatch.hpp"
#include "pushes.hpp"

namespace exercise {

// End the process with status 2 unless `holds`.
inline void expect(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "exercise: expected %s\n", what);
    std::_Exit(2);
}

// Numbers that look random (splitmix64 of S. Vigna), the same for each seed.
class Numbers {
  public:
    explicit Numbers(std::uint64_t seed) : state_(seed) {}
    std::uint64_t bits() {
        std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
    }
    // From [0, 1).
    float fraction() { return static_cast<float>(bits() >> 40) * 0x1p-24f; }

  private:
    std::uint64_t state_;
};

// `count` elements that end where their allocation ends and begin `shift` elements after its beginning; what comes
// before must stay as it is.
template <class T>
class Exact {
  public:
    explicit Exact(std::size_t count, std::size_t shift = 0)
        : memory_(static_cast<T*>(std::malloc((shift + count) * sizeof(T)))), count_(count), shift_(shift) {
        for (std::size_t k = 0; k < shift_; ++k) memory_[k] = guard;
        for (std::size_t k = 0; k < count_; ++k) data()[k] = T{};
    }
    Exact(const Exact&) = delete;
    Exact& operator=(const Exact&) = delete;
    ~Exact() {
        for (std::size_t k = 0; k < shift_; ++k) expect(memory_[k] == guard, "memory before a vector as it was");
        std::free(memory_);
    }
    T* data() { return memory_ + shift_; }
    T& operator[](std::size_t i) { return data()[i]; }
    std::size_t size() const { return count_; }
    // The address from which element `begin` is the first one of this memory.
    T* from(std::size_t begin) {
        return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(data()) - begin * sizeof(T));
    }
    void fill(Numbers& numbers) {
        for (std::size_t k = 0; k < count_; ++k) data()[k] = static_cast<T>(numbers.fraction());
    }

  private:
    static constexpr T guard = T{77};
    T* memory_;
    std::size_t count_, shift_;
};

// Scalars that every rule can do with: a rate, small shares, an epsilon.
inline void set_scalars(float* scalars) {
    const float values[elephas::max_scalars] = {0.01f, 0.5f, 0.5f, 0.001f, 0.5f, 0.0f};
    std::memcpy(scalars, values, sizeof values);
}

inline std::vector<const elephas::Kernels*> all_kernels() {
    std::vector<const elephas::Kernels*> all;
    for (const std::string& isa : elephas::usable_isas()) all.push_back(elephas::find_kernels(isa));
    return all;
}

// alone.cpp: every kernel on one thread, against the plainest instruction set.
void rules();
void vectors();
void queue();

// together.cpp: several threads on the same memory.
void threads();
void stripes();
void whole();
void died();
void racy();
void relaxed();
void compare_exchange();
void constraints();
void pull();
void overtaken();
void exchange();

}  // namespace exercise

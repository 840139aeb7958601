// How one float of a shared vector is read and written while others may do the same.
//
// `replace(p, seen, next)` stores `next`, computed from the value `seen` that `read(p)` returned.
#pragma once

#include <cstdint>
#include <cstring>

namespace elephas {
namespace {

// Ordinary loads and stores: vectorised. With concurrent writers, updates of whole vectors may be lost.
struct Racy {
    static constexpr bool plain = true;
    static float read(const float* p) { return *p; }
    static void replace(float* p, float, float next) { *p = next; }
};

// Relaxed atomic loads and stores: no torn or invented values by the language's rules; updates of single elements may
// be lost between the load and the store.
struct Relaxed {
    static constexpr bool plain = false;
    static float read(const float* p) {
        float value;
        __atomic_load(p, &value, __ATOMIC_RELAXED);
        return value;
    }
    static void replace(float* p, float, float next) { __atomic_store(p, &next, __ATOMIC_RELAXED); }
};

// Compare-exchange: nothing is lost. Where another writer was faster, the difference this one made is added to what the
// other left, so a sole writer gets the same bits as `Racy`.
struct CompareExchange {
    static constexpr bool plain = false;
    static float read(const float* p) { return Relaxed::read(p); }
    static void replace(float* p, float seen, float next) {
        const float change = next - seen;
        while (!__atomic_compare_exchange(p, &seen, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            next = seen + change;
        }
    }
};

}  // namespace
}  // namespace elephas

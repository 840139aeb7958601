// Sequentially consistent operations on one 64-bit word, which processes may share.
#pragma once

#include <cstdint>

namespace elephas {

inline std::uint64_t atomic_load(const std::uint64_t* word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

inline void atomic_store(std::uint64_t* word, std::uint64_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }

// Returns the value before; wraps around at 2^64.
inline std::uint64_t atomic_add(std::uint64_t* word, std::uint64_t change) {
    return __atomic_fetch_add(word, change, __ATOMIC_SEQ_CST);
}

inline bool atomic_compare_exchange(std::uint64_t* word, std::uint64_t expected, std::uint64_t value) {
    return __atomic_compare_exchange_n(word, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

}  // namespace elephas

// Memory that the allocator keeps for the next large block.
#pragma once

#include <algorithm>
#include <climits>
#include <cstddef>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace elephas {

// Keep freed blocks of up to `bytes` in this process, `total` bytes of them, instead of giving them back to the system:
// a fresh page costs more than a copy into it. `one_arena`: threads started from now on share one heap, without which
// glibc does not keep a block of more than 64 MiB. Returns false where the allocator has no such setting.
inline bool keep_blocks(std::size_t bytes, std::size_t total, bool one_arena) {
#if defined(__GLIBC__)
    constexpr std::size_t most = INT_MAX, own = 4096;  // what the allocator and its caller add to a block
    const int block = static_cast<int>(std::min(bytes < most ? bytes + own : most, most));
    const int spare = static_cast<int>(std::min(total, most));
    return mallopt(M_MMAP_THRESHOLD, block) == 1 && mallopt(M_TRIM_THRESHOLD, spare) == 1 &&
           (!one_arena || mallopt(M_ARENA_MAX, 1) == 1);
#else
    static_cast<void>(bytes);
    static_cast<void>(total);
    static_cast<void>(one_arena);
    return false;
#endif
}

}  // namespace elephas

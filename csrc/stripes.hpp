// Locks over the stripes of a vector that processes share: each stripe is written by one writer at a time, and a writer
// never waits for one stripe while another one is free.
//
// The locks are robust: the kernel releases what a thread holds when it dies, and the next owner is told. At most
// `recoverable` of one thread's locks are released so (ROBUST_LIST_LIMIT in the Linux source, less what libraries use).
#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstdint>

namespace elephas {

constexpr std::size_t recoverable = 2000;

// A lock on a cache line of its own.
struct alignas(64) StripeLock {
    pthread_mutex_t mutex;
};
static_assert(sizeof(StripeLock) == 64, "a lock fills one cache line");

// Lock k guards the elements [k stripe, (k + 1) stripe). Nothing is owned; `reclaimed` counts the locks taken over from
// dead threads and is shared as the locks are.
struct Stripes {
    StripeLock* locks;
    std::uint64_t* reclaimed;
    std::size_t count;
    std::size_t stripe;
};

// Make the locks; once, before anybody uses them. Returns 0 or an error number.
int create(const Stripes& stripes);

// Take one lock if it is free.
bool try_take(const Stripes& stripes, std::size_t k) noexcept;

// Take one lock; false after `seconds`.
bool take(const Stripes& stripes, std::size_t k, double seconds) noexcept;

// Give a lock back, on the thread that took it.
void give_back(const Stripes& stripes, std::size_t k) noexcept;

// Take the locks [first, last) in ascending order; false after `seconds`, with none of them held.
bool take_all(const Stripes& stripes, std::size_t first, std::size_t last, double seconds) noexcept;
void give_back_all(const Stripes& stripes, std::size_t first, std::size_t last) noexcept;

// How to wait for somebody who will be done in microseconds unless he was preempted: spin, then leave the processor to
// others, then sleep in growing steps, until a deadline.
class Patience {
  public:
    explicit Patience(double seconds) noexcept;
    // Wait a little; false once the deadline has passed.
    bool pause() noexcept;
    // Seconds until the deadline.
    double left() const noexcept;

  private:
    double deadline_;
    unsigned turn_ = 0;
};

// The stripe at which writer number `writer` begins: numbers 0, 1, 2, ... are spread evenly over `count` stripes, by
// the golden ratio (Knuth, The Art of Computer Programming 3, section 6.4).
inline std::size_t first_stripe(std::uint64_t writer, std::size_t count) noexcept {
    const std::uint64_t spread = writer * 0x9E3779B97F4A7C15u;
    return static_cast<std::size_t>((spread >> 32) * count >> 32);
}

// Call work(b, e) once for each stripe's share of [begin, end), holding its lock: from the writer's own first stripe
// on, free ones first, busy ones when it comes back to them. `work` must not throw. False if some stripe was never free
// for `seconds` since the last success; what had been done then stays done.
template <class Work>
bool visit(const Stripes& stripes, std::size_t begin, std::size_t end, std::uint64_t writer, double seconds,
           const Work& work) noexcept {
    if (begin >= end) return true;
    constexpr std::size_t room = 256;
    std::size_t busy[room];
    const std::size_t first = begin / stripes.stripe;
    const std::size_t count = (end - 1) / stripes.stripe + 1 - first;
    std::size_t left = count, waiting = 0, fresh = 0;
    const std::size_t start = first_stripe(writer, count);
    const auto done = [&](std::size_t k) {
        if (!try_take(stripes, k)) return false;
        const std::size_t b = k * stripes.stripe, e = b + stripes.stripe;
        work(b > begin ? b : begin, e < end ? e : end);
        give_back(stripes, k);
        --left;
        return true;
    };
    Patience patience(seconds);
    while (left > 0) {
        while (fresh < count && waiting < room) {
            const std::size_t k = first + (start + fresh++) % count;
            if (!done(k)) busy[waiting++] = k;
        }
        if (waiting == 0) continue;
        std::size_t kept = 0;
        for (std::size_t j = 0; j < waiting; ++j) {
            if (!done(busy[j])) busy[kept++] = busy[j];
        }
        if (kept < waiting) {
            patience = Patience(seconds);
        } else if (!patience.pause()) {
            return false;
        }
        waiting = kept;
    }
    return true;
}

}  // namespace elephas

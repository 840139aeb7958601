#include "stripes.hpp"

#include <sched.h>
#include <time.h>

#include <cerrno>
#include <cmath>

#include "atomics.hpp"

namespace elephas {
namespace {

constexpr unsigned spins = 20, yields = 50;  // about 20 us of spinning before the processor is offered to others
constexpr long shortest_sleep = 20'000, longest_sleep = 1'000'000;
constexpr double longest_wait = 0.05;  // of one look at a lock by the wall clock, which may be set meanwhile

double now() noexcept {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void spin() noexcept {
    for (int k = 0; k < 64; ++k) {
#ifdef ELEPHAS_X86_64
        __builtin_ia32_pause();
#else
        __asm__ __volatile__("" ::: "memory");
#endif
    }
}

// Whether a lock function's answer means that the lock is ours now.
bool taken(const Stripes& stripes, std::size_t k, int answer) noexcept {
    if (answer == EOWNERDEAD) {
        answer = pthread_mutex_consistent(&stripes.locks[k].mutex);
        atomic_add(stripes.reclaimed, 1);
    }
    return answer == 0;
}

}  // namespace

int create(const Stripes& stripes) {
    pthread_mutexattr_t attributes;
    int error = pthread_mutexattr_init(&attributes);
    if (error != 0) return error;
    error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (error == 0) error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    for (std::size_t k = 0; error == 0 && k < stripes.count; ++k) {
        error = pthread_mutex_init(&stripes.locks[k].mutex, &attributes);
    }
    pthread_mutexattr_destroy(&attributes);
    return error;
}

bool try_take(const Stripes& stripes, std::size_t k) noexcept {
    return taken(stripes, k, pthread_mutex_trylock(&stripes.locks[k].mutex));
}

bool take(const Stripes& stripes, std::size_t k, double seconds) noexcept {
    if (try_take(stripes, k)) return true;
    const Patience patience(seconds);
    for (unsigned turn = 0; turn < spins; ++turn) {
        spin();
        if (try_take(stripes, k)) return true;
    }
    for (double left = patience.left(); left > 0.0; left = patience.left()) {
        timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        const double wait = left < longest_wait ? left : longest_wait;
        until.tv_nsec += static_cast<long>(1e9 * wait);
        until.tv_sec += until.tv_nsec / 1'000'000'000;
        until.tv_nsec %= 1'000'000'000;
        if (taken(stripes, k, pthread_mutex_timedlock(&stripes.locks[k].mutex, &until))) return true;
    }
    return false;
}

void give_back(const Stripes& stripes, std::size_t k) noexcept { pthread_mutex_unlock(&stripes.locks[k].mutex); }

bool take_all(const Stripes& stripes, std::size_t first, std::size_t last, double seconds) noexcept {
    const Patience patience(seconds);
    for (std::size_t k = first; k < last; ++k) {
        if (!take(stripes, k, patience.left())) {
            give_back_all(stripes, first, k);
            return false;
        }
    }
    return true;
}

void give_back_all(const Stripes& stripes, std::size_t first, std::size_t last) noexcept {
    while (last > first) give_back(stripes, --last);
}

Patience::Patience(double seconds) noexcept : deadline_(now() + seconds) {}

double Patience::left() const noexcept { return deadline_ - now(); }

bool Patience::pause() noexcept {
    const unsigned turn = turn_++;
    if (turn < spins) {
        spin();
        return true;
    }
    if (turn < spins + yields) {
        sched_yield();
    } else {
        const unsigned doublings = turn - spins - yields;
        timespec nap{0, doublings < 6 ? shortest_sleep << doublings : longest_sleep};
        nanosleep(&nap, nullptr);
    }
    return left() > 0.0;
}

}  // namespace elephas

// Cutting a range over threads.
#pragma once

#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace elephas {

// Elements that make one more thread worth starting, which takes about as long as a rule needs for this many.
constexpr std::size_t worthwhile = std::size_t{1} << 18;

// Call work(begin, end) for ranges that cover [0, n), each beginning on a multiple of `grain`, on up to `threads`
// threads, the calling one included. `work` must not throw. Where the system refuses a thread, the caller does its
// share.
template <class Work>
void split(std::size_t n, int threads, std::size_t grain, const Work& work) {
    std::size_t count = threads > 1 ? static_cast<std::size_t>(threads) : 1;
    if (count > n / worthwhile) count = n / worthwhile;
    if (count <= 1) {
        work(std::size_t{0}, n);
        return;
    }
    const std::size_t grains = (n + grain - 1) / grain;
    const auto cut = [&](std::size_t k) {
        const std::size_t at = grains / count * k + grains % count * k / count;
        return at * grain < n ? at * grain : n;
    };
    std::vector<std::thread> helpers;
    helpers.reserve(count - 1);
    std::size_t started = 1;
    try {
        for (; started < count; ++started) helpers.emplace_back(work, cut(started), cut(started + 1));
    } catch (const std::exception&) {
        work(cut(started), n);
    }
    work(std::size_t{0}, cut(1));
    for (std::thread& helper : helpers) helper.join();
}

}  // namespace elephas

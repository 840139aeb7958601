// `exercise SCENARIO`: the compiled core in use, for a build with sanitizers to look at. Status 0: everything was as
// expected; 2: a result was wrong. What a sanitizer reports is its own status.
#include <cstdio>
#include <cstring>

#include "exercise.hpp"

namespace {

// Reads one element too many: what an AddressSanitizer that works reports.
void overrun() {
    exercise::Exact<float> x(33);
    const std::size_t bad = elephas::count_nonfinite(*elephas::find_kernels("baseline"), x.data(), x.size() + 1, 1);
    std::printf("%zu\n", bad);
}

// Overflows a signed number: what an UndefinedBehaviorSanitizer that works reports.
void overflow() {
    volatile int large = 0x7fffffff;
    const int larger = large + 1;
    std::printf("%d\n", larger);
}

constexpr struct {
    const char* name;
    void (*run)();
} scenarios[] = {
    {"rules", exercise::rules},
    {"vectors", exercise::vectors},
    {"queue", exercise::queue},
    {"threads", exercise::threads},
    {"stripes", exercise::stripes},
    {"whole", exercise::whole},
    {"died", exercise::died},
    {"racy", exercise::racy},
    {"relaxed", exercise::relaxed},
    {"compare_exchange", exercise::compare_exchange},
    {"constraints", exercise::constraints},
    {"pull", exercise::pull},
    {"overtaken", exercise::overtaken},
    {"exchange", exercise::exchange},
    {"overrun", overrun},
    {"overflow", overflow},
};

}  // namespace

int main(int count, char** arguments) {
    for (const auto& scenario : scenarios) {
        if (count == 2 && std::strcmp(arguments[1], scenario.name) == 0) {
            scenario.run();
            return 0;
        }
    }
    std::fprintf(stderr, "usage: exercise SCENARIO, one of:");
    for (const auto& scenario : scenarios) std::fprintf(stderr, " %s", scenario.name);
    std::fprintf(stderr, "\n");
    return 1;
}

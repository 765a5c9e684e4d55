#include "clock.h"

#include <algorithm>
#include <array>

#if !defined(ABLATION_APPLE)
#include <ctime>
#endif

namespace ablation {

#if !defined(ABLATION_APPLE)
std::int64_t clock_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

const char* clock_name() { return "CLOCK_MONOTONIC"; }
#endif

double clock_overhead_ns() {
    constexpr int kBatches = 21;
    constexpr int kReads = 100;
    std::array<double, kBatches> costs{};
    for (double& cost : costs) {
        const std::int64_t start = clock_ns();
        std::int64_t last = start;
        for (int read = 0; read < kReads; ++read) last = clock_ns();
        cost = static_cast<double>(last - start) / kReads;
    }
    std::nth_element(costs.begin(), costs.begin() + kBatches / 2, costs.end());
    return costs[kBatches / 2];
}

}  // namespace ablation

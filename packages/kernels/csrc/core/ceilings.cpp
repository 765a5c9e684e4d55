#include "ceilings.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "clock.h"
#include "isa/simd.h"
#include "parallel.h"

namespace ablation {

namespace {

constexpr int kRepeats = 10;
constexpr std::int64_t kRounds = 3'000'000;                       // about 10 ms
constexpr std::int64_t kElements = (std::int64_t{64} << 20) / 4;  // 64 MiB an array

double multiply_add_flops_per_s(const SimdProvider& provider) {
    const int threads = num_threads();
    double best = 0.0;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
        const std::int64_t start = clock_ns();
        parallel_items(threads, threads, [&](std::int64_t, int) {
            float sink = 0.0F;
            provider.multiply_add(kRounds, &sink);
        });
        const auto elapsed = static_cast<double>(clock_ns() - start);
        float sink = 0.0F;
        const auto flops = static_cast<double>(provider.multiply_add(1, &sink));
        best = std::max(best, flops * static_cast<double>(kRounds) * threads / elapsed * 1e9);
    }
    return best;
}

double memory_bytes_per_s() {
    const auto count = static_cast<std::size_t>(kElements);
    std::vector<float> y(count, 0.0F), a(count, 1.0F), b(count, 2.0F);
    double best = 0.0;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
        const std::int64_t start = clock_ns();
        parallel_ranges(kElements, 1024, num_threads(),
                        [&](std::int64_t begin, std::int64_t end, int) {
                            simd().scale_add(y.data() + begin, a.data() + begin, 2.0F,
                                             b.data() + begin, end - begin);
                        });
        const auto elapsed = static_cast<double>(clock_ns() - start);
        best = std::max(best, 3.0 * 4.0 * static_cast<double>(kElements) / elapsed * 1e9);
    }
    return best;
}

/// One item of known length for each thread; what the call takes beyond it is the fork-join.
double fork_join_ns() {
    constexpr std::int64_t kItemNs = 10'000;
    constexpr int kCalls = 501;
    const int threads = num_threads();
    if (threads == 1) return 0.0;
    std::vector<std::int64_t> beyond(kCalls);
    for (std::int64_t& ns : beyond) {
        const std::int64_t start = clock_ns();
        parallel_items(threads, threads, [&](std::int64_t, int) {
            const std::int64_t until = clock_ns() + kItemNs;
            while (clock_ns() < until) {
            }
        });
        ns = clock_ns() - start - kItemNs;
    }
    std::nth_element(beyond.begin(), beyond.begin() + kCalls / 2, beyond.end());
    return static_cast<double>(beyond[kCalls / 2]);
}

}  // namespace

Ceilings measure_ceilings() {
    const SimdProvider& provider = *instruction_set().simd;
    return {provider.name, multiply_add_flops_per_s(provider), memory_bytes_per_s(),
            fork_join_ns()};
}

}  // namespace ablation

// Fork-join over the one thread pool of the process (providers: pool, gcd).
#pragma once

#include <cstdint>
#include <type_traits>

namespace ablation {

/// Name of the provider: "pool" or "gcd".
const char* parallel_provider();

/// Largest number of threads that can be asked for; scratch of any call times it fits in 64 bits.
inline constexpr int kMaxThreads = 1024;

/// Threads that a parallel kernel may use, the calling one included. Default: the cores this
/// process may use.
int num_threads();
/// Sets num_threads() to n, 1 to kMaxThreads. Waits for a fork-join in flight.
void set_num_threads(int n);
/// Cores in this process's affinity mask, at most kMaxThreads.
int available_cores();

/// Body of a fork-join: item is in [0, n_items), worker in [0, num_threads()).
using ParallelBody = void (*)(void* context, std::int64_t item, int worker);

/// Runs body for each item, on at most max_workers >= 1 threads and at most num_threads(). Items
/// are claimed dynamically, in order. Serial (worker 0) when nested in another fork-join or while
/// another thread holds the pool. An exception of a body reaches the caller when all workers have
/// stopped; items that were not begun by then are left out.
void parallel_for(std::int64_t n_items, void* context, ParallelBody body, int max_workers);

/// Nanoseconds of work below which a split costs more than it saves. The fork-join itself costs
/// under a microsecond; more comes after it, when the next op finds half of its input, and the
/// lines it will write, in another core's cache.
inline constexpr double kMinimumParallelNs = 4000.0;

/// Number of threads worth using for work that takes `serial_ns` on one thread.
inline int worthwhile_threads(double serial_ns) {
    const int threads = num_threads();
    if (threads == 1 || serial_ns < kMinimumParallelNs) return 1;
    return threads;
}

/// Splits [0, n) into one contiguous range per thread (at most `threads`, each a multiple of
/// `grain` but the last) and runs function(begin, end, worker).
template <class Function>
void parallel_ranges(std::int64_t n, std::int64_t grain, int threads, Function&& function) {
    if (n <= 0) return;
    const std::int64_t grains = (n + grain - 1) / grain;
    const std::int64_t ranges = grains < threads ? grains : threads;
    if (ranges <= 1) {
        function(std::int64_t{0}, n, 0);
        return;
    }
    struct Context {
        Function* function;
        std::int64_t n, grain, grains, ranges;
    } context{&function, n, grain, grains, ranges};
    parallel_for(
        ranges, &context,
        [](void* opaque, std::int64_t item, int worker) {
            auto& c = *static_cast<Context*>(opaque);
            const std::int64_t begin = c.grains * item / c.ranges * c.grain;
            std::int64_t end = c.grains * (item + 1) / c.ranges * c.grain;
            if (end > c.n) end = c.n;
            (*c.function)(begin, end, worker);
        },
        static_cast<int>(ranges));
}

/// Runs function(item, worker) for each item, claimed dynamically.
template <class Function>
void parallel_items(std::int64_t n_items, int threads, Function&& function) {
    if (threads <= 1 || n_items <= 1) {
        for (std::int64_t item = 0; item < n_items; ++item) function(item, 0);
        return;
    }
    parallel_for(
        n_items, &function,
        [](void* opaque, std::int64_t item, int worker) {
            (*static_cast<std::remove_reference_t<Function>*>(opaque))(item, worker);
        },
        threads);
}

}  // namespace ablation

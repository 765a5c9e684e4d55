// Rows or elements of equal cost, split over the pool when the work is worth it.
#pragma once

#include <cstdint>

#include "parallel.h"

namespace ablation {

/// Runs function(begin, end) over [0, n), serially or split into one range per thread, where one
/// item costs about `item_ns` on one thread. A range holds at least a quarter of the smallest work
/// that is worth splitting.
template <class Function>
void parallel_rows(std::int64_t n, double item_ns, Function&& function) {
    const double items = kMinimumParallelNs / 4.0 / item_ns;
    const std::int64_t grain = items > 1.0 ? static_cast<std::int64_t>(items) : 1;
    parallel_ranges(n, grain, worthwhile_threads(static_cast<double>(n) * item_ns),
                    [&](std::int64_t begin, std::int64_t end, int) { function(begin, end); });
}

}  // namespace ablation

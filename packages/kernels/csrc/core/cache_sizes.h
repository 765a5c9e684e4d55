// Sizes of the data caches that one core sees, asked of the system once.
#pragma once

#include <cstdint>

namespace ablation {

/// Bytes. Where the system tells nothing the smallest that is common today stands: 32 KiB of 8
/// ways and 1 MiB. l2 is what one core may count on: at most 2 MiB.
struct CacheSizes {
    std::int64_t l1 = 0;
    std::int64_t l1_ways = 0;
    std::int64_t l2 = 0;
};
const CacheSizes& cache_sizes();

}  // namespace ablation

#include "matmul/blocking.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "core/cache_sizes.h"

namespace ablation {

namespace {

// Work per block where a product is shared: enough that claiming one costs nothing, little enough
// that a thread that was held up leaves work to the others.
constexpr double kBlockNs = 20000.0;
// Blocks per thread that are enough to balance; every cut of the columns copies a once more, which
// costs 1 % at 1024 columns a block and 4 % at 256.
constexpr std::int64_t kBlocksPerThread = 2;

/// Whether the rows of a register tile, this many floats apart, share too few sets of the cache.
bool rows_collide(std::int64_t stride) {
    const CacheSizes& caches = cache_sizes();
    const std::int64_t sets = caches.l1 / caches.l1_ways / (kLineFloats * kFloatBytes);
    const std::int64_t lines = std::max<std::int64_t>(stride / kLineFloats, 1);
    const std::int64_t apart = sets / std::gcd(sets, lines);
    return divide_up(packed_provider().rows, apart) > caches.l1_ways / 2;
}

/// The part near `wanted` that cuts `size` into even parts, rounded up to whole `grain`s.
std::int64_t even_part(std::int64_t size, std::int64_t wanted, std::int64_t grain) {
    const std::int64_t parts = divide_up(size, std::max(wanted, grain));
    return std::min(size, round_up(divide_up(size, parts), grain));
}

}  // namespace

double product_ns(const MatmulSizes& sizes) {
    static const double flops_per_ns = multiply_add_flops_per_ns(instruction_set().name());
    return 2.0 * static_cast<double>(sizes.m) * static_cast<double>(sizes.n) *
           static_cast<double>(sizes.k) / std::max(flops_per_ns, 1.0);
}

Blocking choose_blocking(const MatmulSizes& sizes, int threads, std::int64_t depth) {
    const CacheSizes& caches = cache_sizes();
    const PackedProvider& provider = packed_provider();
    Blocking blocking;
    const std::int64_t ranges = std::max<std::int64_t>(divide_up(sizes.k - depth / 2, depth), 1);
    blocking.depth = std::min(sizes.k, round_up(divide_up(sizes.k, ranges), kLineFloats));
    blocking.copies_a = rows_collide(sizes.k) && sizes.m > 1;
    // Not rounded to whole tiles: blocks of equal height take equal time, and tiles adapt
    const std::int64_t rows = caches.l2 / 4 / kFloatBytes / blocking.depth;
    blocking.rows = even_part(sizes.m, std::max<std::int64_t>(rows, provider.rows), 1);

    const std::int64_t panels = divide_up(sizes.n, provider.columns);
    const double whole_ns = product_ns(sizes);
    std::int64_t group = panels;
    if (blocking.depth < sizes.k) {
        const std::int64_t columns = caches.l2 / kFloatBytes / blocking.rows;
        group = std::clamp<std::int64_t>(columns / provider.columns, 1, panels);
    }
    if (threads > 1) {
        const auto wanted = static_cast<std::int64_t>(whole_ns / kBlockNs);
        const std::int64_t blocks = std::clamp<std::int64_t>(wanted, 1, kBlocksPerThread) * threads;
        const std::int64_t row_blocks = divide_up(sizes.m, blocking.rows);
        const std::int64_t cuts = std::max(divide_up(panels, group), divide_up(blocks, row_blocks));
        // As many blocks for each thread, so that none of them waits for the others at the end
        const std::int64_t even = round_up(cuts, threads / std::gcd(row_blocks, threads));
        group = divide_up(panels, wanted > 0 ? even : cuts);
        if (divide_up(panels, group) * row_blocks < threads) {
            const std::int64_t row_cuts = divide_up(threads, divide_up(panels, group));
            blocking.rows = even_part(sizes.m, divide_up(sizes.m, row_cuts), 1);
        }
    }
    blocking.columns = even_part(panels, group, 1) * provider.columns;
    return blocking;
}

}  // namespace ablation

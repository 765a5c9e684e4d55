// How the packed flash kernels share their work among the threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/tiles.h"
#include "core/parallel.h"

namespace ablation {

inline constexpr std::int64_t kPackedKeys = 256;  ///< keys that one piece of packing takes

/// Rows of a query tile, for register tiles of `block_rows`. Not a matter of the threads in use, so
/// that results are not either.
inline std::int64_t flash_query_rows(const AttentionSizes& sizes, double serial_ns,
                                     std::int64_t block_rows) {
    // Blocks of rows that share a tile of keys in L2, and pieces of an item for each thread: enough
    // that the last ones end together.
    constexpr std::int64_t kBlocks = 8;
    constexpr std::int64_t kPiecesPerThread = 8;
    static const std::int64_t cores = available_cores();
    const bool splits = serial_ns >= kMinimumParallelNs;
    const std::int64_t pieces =
        splits ? divide_up(kPiecesPerThread * cores, sizes.items()) : std::int64_t{1};
    const std::int64_t blocks = divide_up(sizes.sq, block_rows);
    const std::int64_t share = std::clamp<std::int64_t>(blocks / pieces, 1, kBlocks);
    return divide_up(sizes.sq, divide_up(blocks, share));
}

/// Heads of k and v packed at a time by `threads`, each of `item_bytes`: what four L2 caches per
/// thread hold, in a shared cache where there is one, and few enough joins of the threads. On one
/// thread one head, which is packed where the L2 cache still has it for the products.
inline std::int64_t flash_group(const AttentionSizes& sizes, std::int64_t item_bytes, int threads) {
    if (threads == 1) return 1;
    const std::int64_t group_bytes =
        8 * half_l2_floats() * static_cast<std::int64_t>(sizeof(float));
    return std::clamp<std::int64_t>(threads * group_bytes / item_bytes, 1, sizes.kv_items());
}

/// With fewer queries on the keys, threads take heads of k and v as a whole where each has several:
/// packing is much of the work then, and what a thread has packed it finds again in its own cache.
/// Measured on two threads of an Emerald Rapids with 12 heads of 64, against the kernels beside it
/// in the same minute: 1.2 to 2.1 times as fast with 8 to 192 queries on 512 keys. With more
/// queries the smaller pieces win, as threads are not equally fast.
inline constexpr std::int64_t kSharedQueries = 256;

/// (batch, head) items of k and v go in groups. All threads pack the keys and values of a group,
/// pack(kv_item, place, first_key), then take the query tiles of all heads that read it, those that
/// see the most keys first: attend(item, place, first_query, worker). `place` is that of the packed
/// keys within the group. With few queries (kSharedQueries) each thread has a place of its own.
template <class Pack, class Attend>
void run_in_groups(const AttentionSizes& sizes, std::int64_t group, std::int64_t tile_q,
                   int threads, Pack&& pack, Attend&& attend) {
    const std::int64_t pieces = divide_up(sizes.sk, kPackedKeys);
    const std::int64_t tiles = divide_up(sizes.sq, tile_q);
    const std::int64_t sharing = sizes.sharing(), kv_items = sizes.kv_items();
    const std::int64_t attends = sharing * tiles;  // of a head of k and v
    const auto attend_one = [&](std::int64_t kv_item, std::int64_t place, std::int64_t index,
                                int worker) {
        const std::int64_t item = kv_item * sharing + index % sharing;
        attend(item, place, (tiles - 1 - index / sharing) * tile_q, worker);
    };
    if (sharing * sizes.sq < kSharedQueries && kv_items >= 4 * threads && group >= threads) {
        parallel_items(kv_items, threads, [&](std::int64_t kv_item, int worker) {
            for (std::int64_t piece = 0; piece < pieces; ++piece) {
                pack(kv_item, worker, piece * kPackedKeys);
            }
            for (std::int64_t index = 0; index < attends; ++index) {
                attend_one(kv_item, worker, index, worker);
            }
        });
        return;
    }
    for (std::int64_t first = 0; first < kv_items; first += group) {
        const std::int64_t items = std::min(group, kv_items - first);
        parallel_items(items * pieces, threads, [&](std::int64_t index, int) {
            const std::int64_t place = index / pieces;
            pack(first + place, place, index % pieces * kPackedKeys);
        });
        parallel_items(items * attends, threads, [&](std::int64_t index, int worker) {
            const std::int64_t place = index / attends;
            attend_one(first + place, place, index % attends, worker);
        });
    }
}

}  // namespace ablation

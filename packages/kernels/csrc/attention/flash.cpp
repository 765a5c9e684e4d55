// flash: no row of scores is ever whole. For a tile of query rows the keys come in tiles; each row
// carries its maximum so far and the sum of its weights relative to it. When a tile raises the
// maximum, the row's output and sum are scaled by exp(old maximum - new maximum); the division by
// the sum comes last. Scratch no longer grows with Sk, and (batch, head, query tile) are
// independent, so that one head can keep all threads busy. Paper: Dao et al., FlashAttention
// (2022); the online softmax is Milakov and Gimelshein (2018).
//
// Cost: 4 Sq Sk D FLOPs an item, plus at most Sq Sk / tile_k D for the rescaling; k and v are
// packed once per query tile, q once per tile of scores. Key tiles past the diagonal of a causal
// call or before its window are skipped, and those that the mask hides from all rows.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "attention/attention.h"
#include "attention/flash_packed.h"
#include "attention/hidden_keys.h"
#include "attention/tiles.h"
#include "core/blas.h"
#include "core/parallel.h"
#include "core/table.h"
#include "isa/simd.h"

namespace ablation {

namespace {

constexpr float kNoMaximum = -std::numeric_limits<float>::infinity();

/// One tile of query rows: what its key tiles share.
struct QueryTile {
    const Call& call;
    AttentionSizes sizes;
    VisibleKeys visible;
    MaskView mask;
    bool skips_hidden;  ///< may_skip_hidden_tiles
    ItemRows arrays;
    std::int64_t item, begin, rows;
    float* output;  ///< the tile's first row
    float* maxima;  ///< running maximum of each row
    float* sums;    ///< sum of each row's weights relative to its maximum
    float* scores;
    std::int64_t stride;
};

/// Turns scores of n > 0 keys of a row into weights relative to the running maximum, after
/// rescaling what the row has gathered so far if the maximum rises.
void update_row(const QueryTile& tile, std::int64_t row, float* scores, const float* mask,
                std::int64_t n) {
    const SimdProvider& provider = simd();
    float& maximum = tile.maxima[row];
    const auto& attributes = tile.call.attributes;
    if (attributes.softcap > 0.0F) cap_scores(scores, attributes.softcap, n);
    if (mask != nullptr && attributes.mask_replaces) {
        replace_scores(scores, mask, tile.mask.key_stride, n);
    } else if (mask != nullptr) {
        provider.add(scores, scores, 1, mask, tile.mask.key_stride, n);
    }
    const float tile_maximum = provider.max(scores, n);
    if (tile_maximum > maximum || std::isnan(tile_maximum)) {
        if (maximum != kNoMaximum) {
            const float factor = std::exp(maximum - tile_maximum);
            float* output = tile.output + row * tile.arrays.output_stride;
            provider.scale(output, output, factor, tile.sizes.dv);
            tile.sums[row] *= factor;
        }
        maximum = tile_maximum;
    }
    if (maximum == kNoMaximum) {
        std::fill_n(scores, n, 0.0F);
    } else {
        tile.sums[row] += provider.exp_shifted(scores, scores, maximum, n);
    }
}

/// Keys key ... key + keys; the tile's `first` ones or not.
void add_key_tile(const QueryTile& tile, std::int64_t key, std::int64_t keys, bool first) {
    const AttentionSizes& sizes = tile.sizes;
    const ItemRows& arrays = tile.arrays;
    const float* q = arrays.q + tile.begin * arrays.q_stride;
    const float scale = attention_scale(tile.call);
    sgemm(true, tile.rows, keys, sizes.d, scale, q, arrays.q_stride,
          arrays.k + key * arrays.k_stride, arrays.k_stride, 0.0F, tile.scores, tile.stride);
    for (std::int64_t row = 0; row < tile.rows; ++row) {
        const std::int64_t query = tile.begin + row;
        const auto within = [&](std::int64_t seen) {
            return std::clamp<std::int64_t>(seen - key, 0, keys);
        };
        const std::int64_t from = within(tile.visible.first(query));
        const std::int64_t to = within(tile.visible.end(query));
        float* scores = tile.scores + row * tile.stride;
        if (from < to) {
            update_row(tile, row, scores + from,
                       tile.mask.row(tile.item, sizes.heads, query, key + from), to - from);
        }
        std::fill(scores, scores + from, 0.0F);
        std::fill(scores + to, scores + keys, 0.0F);
    }
    sgemm(false, tile.rows, sizes.dv, keys, 1.0F, tile.scores, tile.stride,
          arrays.v + key * arrays.v_stride, arrays.v_stride, first ? 0.0F : 1.0F, tile.output,
          arrays.output_stride);
}

void attend_tile(const QueryTile& tile, std::int64_t tile_k) {
    std::fill_n(tile.maxima, tile.rows, kNoMaximum);
    std::fill_n(tile.sums, tile.rows, 0.0F);
    const std::int64_t end = tile.visible.end(tile.begin + tile.rows - 1);
    bool is_empty = true;
    for (std::int64_t key = tile.visible.first(tile.begin); key < end; key += tile_k) {
        const std::int64_t keys = std::min(tile_k, end - key);
        if (tile.skips_hidden &&
            tile.mask.hides(tile.item, tile.sizes.heads, tile.begin, tile.rows, key, keys)) {
            continue;
        }
        add_key_tile(tile, key, keys, is_empty);
        is_empty = false;
    }
    const bool strict = tile.call.attributes.strict;
    for (std::int64_t row = 0; row < tile.rows; ++row) {
        float* output = tile.output + row * tile.arrays.output_stride;
        if (is_empty) std::fill_n(output, tile.sizes.dv, 0.0F);
        simd().scale(output, output, row_factor(tile.sums[row], strict), tile.sizes.dv);
    }
}

}  // namespace

void attention_flash_simd_parallel(const Call& given) {
    const Call call = without_hidden_keys(given);
    const AttentionSizes sizes = joined_sizes(call);
    const auto& attributes = call.attributes;
    const double serial_ns = sizes.serial_ns(attributes.causal, attributes.window);
    const VisibleKeys visible = visible_keys(call, sizes);
    const MaskView mask = mask_view(call, sizes);
    const bool skips_hidden = may_skip_hidden_tiles(call, sizes, mask);
    const FlashTile size = flash_tile(call);
    const std::int64_t worker_bytes = flash_worker_bytes(size);
    const std::int64_t tiles = (sizes.sq + size.q - 1) / size.q;
    parallel_items(sizes.items() * tiles, std::min(call.threads, worthwhile_threads(serial_ns)),
                   [&](std::int64_t index, int worker) {
                       // The last tiles of a causal head see the most keys: the longest work goes first.
                       const std::int64_t item = index / tiles;
                       const std::int64_t begin = (tiles - 1 - index % tiles) * size.q;
                       const std::int64_t rows = std::min(size.q, sizes.sq - begin);
                       const ItemRows arrays = item_rows(call, sizes, item);
                       auto* maxima =
                           reinterpret_cast<float*>(call.scratch + worker * worker_bytes);
                       attend_tile({call, sizes, visible, mask, skips_hidden, arrays, item, begin,
                                    rows, arrays.output + begin * arrays.output_stride, maxima,
                                    maxima + size.q, maxima + 2 * size.q, padded_row(size.k)},
                                   size.k);
                   });
    add_hidden_values(call);
}

}  // namespace ablation

// flash: no row of scores is ever whole. For a tile of query rows the keys come in tiles; each row
// carries its maximum so far and the sum of its weights relative to it. When a tile raises the
// maximum, the row's output and sum are scaled by exp(old maximum - new maximum); the division by
// the sum comes last. Scratch no longer grows with Sk, and (batch, head, query tile) are
// independent, so that one head can keep all threads busy. Paper: Dao et al., FlashAttention
// (2022); the online softmax is Milakov and Gimelshein (2018).
//
// Cost: 4 Sq Sk D FLOPs an item, plus at most Sq Sk / tile_k D for the rescaling; k and v are
// packed once per query tile, q once per tile of scores. Causal key tiles past the diagonal are
// skipped.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "attention/attention.h"
#include "attention/flash_packed.h"
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
    bool causal;
    MaskView mask;
    ItemRows arrays;
    std::int64_t item, begin, rows;
    float* output;  ///< the tile's first row
    float* maxima;  ///< running maximum of each row
    float* sums;    ///< sum of each row's weights relative to its maximum
    float* scores;
    std::int64_t stride;
};

/// Turns a row of scores of n keys into weights relative to the running maximum, after rescaling
/// what the row has gathered so far if the maximum rises.
void update_row(const QueryTile& tile, std::int64_t row, const float* mask, std::int64_t n) {
    const SimdProvider& provider = simd();
    float* scores = tile.scores + row * tile.stride;
    float& maximum = tile.maxima[row];
    const auto& attributes = tile.call.attributes;
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
            provider.scale(output, output, factor, tile.sizes.d);
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

void add_key_tile(const QueryTile& tile, std::int64_t key, std::int64_t keys) {
    const std::int64_t d = tile.sizes.d;
    const ItemRows& arrays = tile.arrays;
    const std::int64_t key_offset = key * arrays.kv_stride;
    const float* q = arrays.q + tile.begin * arrays.q_stride;
    const float scale = attention_scale(tile.call);
    sgemm(true, tile.rows, keys, d, scale, q, arrays.q_stride, arrays.k + key_offset,
          arrays.kv_stride, 0.0F, tile.scores, tile.stride);
    for (std::int64_t row = 0; row < tile.rows; ++row) {
        const std::int64_t query = tile.begin + row;
        const std::int64_t n =
            tile.causal ? std::clamp<std::int64_t>(query + 1 - key, 0, keys) : keys;
        update_row(tile, row, tile.mask.row(tile.item, tile.sizes.heads, query, key), n);
        float* scores = tile.scores + row * tile.stride;
        std::fill(scores + n, scores + keys, 0.0F);
    }
    sgemm(false, tile.rows, d, keys, 1.0F, tile.scores, tile.stride, arrays.v + key_offset,
          arrays.kv_stride, key == 0 ? 0.0F : 1.0F, tile.output, arrays.output_stride);
}

void attend_tile(const QueryTile& tile, std::int64_t tile_k) {
    std::fill_n(tile.maxima, tile.rows, kNoMaximum);
    std::fill_n(tile.sums, tile.rows, 0.0F);
    const std::int64_t visible =
        tile.causal ? std::min(tile.sizes.sk, tile.begin + tile.rows) : tile.sizes.sk;
    for (std::int64_t key = 0; key < visible; key += tile_k) {
        add_key_tile(tile, key, std::min(tile_k, visible - key));
    }
    const bool strict = tile.call.attributes.strict;
    for (std::int64_t row = 0; row < tile.rows; ++row) {
        float* output = tile.output + row * tile.arrays.output_stride;
        simd().scale(output, output, row_factor(tile.sums[row], strict), tile.sizes.d);
    }
}

}  // namespace

void attention_flash_simd_parallel(const Call& given) {
    const Call call = without_hidden_keys(given);
    const AttentionSizes sizes = attention_sizes(call);
    const bool causal = call.attributes.causal;
    const MaskView mask = mask_view(call);
    const FlashTile size = flash_tile(call);
    const std::int64_t worker_bytes = flash_worker_bytes(size);
    const std::int64_t tiles = (sizes.sq + size.q - 1) / size.q;
    parallel_items(
        sizes.items() * tiles, std::min(call.threads, worthwhile_threads(sizes.serial_ns(causal))),
        [&](std::int64_t index, int worker) {
            // The last tiles of a causal head see the most keys: the longest work goes first.
            const std::int64_t item = index / tiles;
            const std::int64_t begin = (tiles - 1 - index % tiles) * size.q;
            const std::int64_t rows = std::min(size.q, sizes.sq - begin);
            const ItemRows arrays = item_rows(call, sizes, item);
            auto* maxima = reinterpret_cast<float*>(call.scratch + worker * worker_bytes);
            attend_tile({call, sizes, causal, mask, arrays, item, begin, rows,
                         arrays.output + begin * arrays.output_stride, maxima, maxima + size.q,
                         maxima + 2 * size.q, padded_row(size.k)},
                        size.k);
        });
    add_hidden_values(call);
}

}  // namespace ablation

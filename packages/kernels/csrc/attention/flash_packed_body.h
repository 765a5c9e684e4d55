// The packed flash kernel for a tile of query rows, written once over a vector type V (see
// vector_math.h).
//
// Keys come in tiles that stay in L2 while all blocks of query rows pass over them; a block is one
// register tile high, and its scores stay in L1 from the product through the softmax to the second
// product. The output is the only accumulator in memory: a block reads and writes it once per tile
// of keys, and rescaling and the final division are factors of that one read and write.
//
// With a window, a block of rows takes the panels of keys that its rows see; of a mask, it leaves
// panels out that are hidden from all of them, at both ends of a tile of keys.
//
// Cost of a score: 2 D / width vector multiply-adds and some 13 vector instructions / width for the
// exponential. On a Zen 4 core with AVX-512 that is D / 8 cycles, 0.62 for the exponential and 0.08
// for the maximum: a floor of 8.7 cycles at D = 64 and 16.7 at D = 128, where 8 and 16 are the
// multiply-adds alone.
//
// Tried and of no help: prefetching the next panel of keys (4 % slower, the hardware does it); more
// rows per tile of queries, 56 to 448; other numbers of keys per tile (see keys_of_tile).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "attention/flash_packed.h"
#include "attention/flash_packing.h"
#include "attention/flash_products.h"
#include "attention/flash_weight.h"
#include "isa/tile_multiply.h"

namespace ablation::body {

template <class V>
struct FlashPacked {
    using Float = typename V::Float;
    using Tile = TileShape<V>;
    using Products = FlashProducts<V>;
    static constexpr float kNoMaximum = -std::numeric_limits<float>::infinity();

    /// One block of rows: part of a tile of query rows.
    struct Block {
        const FlashQueries& queries;
        std::int64_t row, rows;  ///< first row within the tile
        const float* q;
        std::int64_t q_stride;
        float *maxima, *sums;  ///< running, of each row
        float* scores;
        std::int64_t score_stride;
    };

    static void score(const Block& block, std::int64_t key, std::int64_t keys) {
        const std::int64_t d = block.queries.d;
        for (std::int64_t column = 0; column < keys; column += Tile::columns) {
            const int vectors =
                Products::vectors_of(std::min<std::int64_t>(Tile::columns, keys - column));
            Products::kScorePanel[block.rows][vectors](
                {block.q, block.q_stride, block.queries.keys + (key + column) * d, d,
                 block.scores + column, block.score_stride, block.queries.scale, nullptr, nullptr,
                 Tile::columns});
        }
    }

    /// As cap_scores of tiles.h, for this instruction set.
    static void cap(float* scores, float softcap, std::int64_t n) {
        const Float inverse = V::set(1.0F / softcap);
        for_vectors<V>(n, [&](std::int64_t j, auto lanes) {
            const Float ratio = V::mul(V::load(scores + j, lanes), inverse);
            V::store(scores + j, V::mul(tanh<V>(ratio), V::set(softcap)), lanes);
        });
    }

    static void add_mask(float* scores, const float* mask, std::int64_t step, std::int64_t n) {
        for_vectors<V>(n, [&](std::int64_t j, auto lanes) {
            const Float addend = step == 0 ? V::set(*mask) : V::load(mask + j, lanes);
            V::store(scores + j, V::add(V::load(scores + j, lanes), addend), lanes);
        });
    }

    /// As replace_scores of tiles.h, for this instruction set.
    static void replace(float* scores, const float* mask, std::int64_t step, std::int64_t n) {
        for (std::int64_t j = 0; j < n; ++j) {
            const float value = mask[j * step];
            scores[j] = value == 0.0F ? scores[j] : value;
        }
    }

    /// Largest of n > 0 scores; a NaN may be left out.
    static float largest(const float* scores, std::int64_t n) {
        Float even = V::set(kNoMaximum);
        Float odd = even;
        std::int64_t j = 0;
        for (; j + 2 * V::width <= n; j += 2 * V::width) {
            even = V::max(V::load(scores + j, All{}), even);
            odd = V::max(V::load(scores + j + V::width, All{}), odd);
        }
        for_vectors<V>(n - j, [&](std::int64_t i, auto lanes) {
            even = V::max(V::load(scores + j + i, lanes, kNoMaximum), even);
        });
        return V::largest(V::max(odd, even));
    }

    /// Scores without a maximum are -infinity or NaN: weights of 0 and NaN. Returns their sum.
    [[gnu::noinline]] static float weigh_unseen(float* scores, std::int64_t n) {
        float sum = 0.0F;
        for (std::int64_t j = 0; j < n; ++j) {
            scores[j] = std::isnan(scores[j]) ? scores[j] : 0.0F;
            sum += scores[j];
        }
        return sum;
    }

    /// Scores of n keys to weights relative to the maximum. Returns their sum.
    static float weigh(float* scores, float maximum, std::int64_t n) {
        const Float shift = V::set(maximum);
        Float sum = V::set(0.0F);
        for_vectors<V>(n, [&](std::int64_t j, auto lanes) {
            const Float w = weight<V>(V::sub(V::load(scores + j, lanes), shift));
            V::store(scores + j, w, lanes);
            if constexpr (std::is_same_v<decltype(lanes), All>) {
                sum = V::add(sum, w);
            } else {
                sum = V::add(sum, V::keep(w, lanes));
            }
        });
        return V::sum(sum);
    }

    /// The keys that a row of the tile sees are [first_key, end_key), perhaps none.
    static std::int64_t first_key(const FlashQueries& queries, std::int64_t row) {
        if (queries.window == 0) return 0;
        return std::clamp<std::int64_t>(queries.begin + row + 1 - queries.window, 0, queries.sk);
    }
    static std::int64_t end_key(const FlashQueries& queries, std::int64_t row) {
        return queries.causal ? std::min(queries.sk, queries.begin + row + 1) : queries.sk;
    }

    /// Scores of n > 0 keys from `key` on to weights; brings the row's maximum and sum up to date and
    /// returns the factor by which what it has gathered shrinks.
    static float update_row(const Block& block, std::int64_t row, float* scores, std::int64_t key,
                            std::int64_t n) {
        const FlashQueries& queries = block.queries;
        if (queries.softcap > 0.0F) cap(scores, queries.softcap, n);
        if (queries.mask != nullptr) {
            const float* mask = queries.mask + (block.row + row) * queries.mask_query_stride +
                                key * queries.mask_key_stride;
            const auto apply = queries.mask_replaces ? replace : add_mask;
            apply(scores, mask, queries.mask_key_stride, n);
        }
        float& maximum = block.maxima[row];
        float& sum = block.sums[row];
        float factor = 1.0F;
        const float tile_maximum = largest(scores, n);
        if (tile_maximum > maximum) {
            if (maximum != kNoMaximum) factor = std::exp(maximum - tile_maximum);
            maximum = tile_maximum;
        }
        const float added =
            maximum == kNoMaximum ? weigh_unseen(scores, n) : weigh(scores, maximum, n);
        sum = sum * factor + added;
        return factor;
    }

    /// update_row for the keys of a tile that the row sees; the weights of the others are 0.
    static float weigh_row(const Block& block, std::int64_t row, std::int64_t key,
                           std::int64_t keys) {
        const auto within = [&](std::int64_t seen) {
            return std::clamp<std::int64_t>(seen - key, 0, keys);
        };
        const std::int64_t first = within(first_key(block.queries, block.row + row));
        const std::int64_t end = within(end_key(block.queries, block.row + row));
        float* scores = block.scores + row * block.score_stride;
        float factor = 1.0F;
        if (first < end) factor = update_row(block, row, scores + first, key + first, end - first);
        // Last: a vector that is read behind narrower writes of its part waits for them.
        std::fill(scores, scores + first, 0.0F);
        std::fill(scores + end, scores + keys, 0.0F);
        return factor;
    }

    /// As row_factor of tiles.h, for this instruction set.
    static float factor_of(const FlashQueries& queries, float sum) {
        return sum == 0.0F && !queries.strict ? 0.0F : 1.0F / sum;
    }

    /// Keys key ... key + keys, of the block the `first` ones, the `last` ones, or others.
    static void add_key_tile(const Block& block, std::int64_t key, std::int64_t keys, bool first,
                             bool last) {
        const FlashQueries& queries = block.queries;
        score(block, key, keys);
        // Of each row: the factors of what it has gathered before and of the sum.
        float before[Tile::rows];
        float after[Tile::rows];
        for (std::int64_t row = 0; row < block.rows; ++row) {
            before[row] = weigh_row(block, row, key, keys);
            after[row] = factor_of(queries, block.sums[row]);
        }
        float* output = queries.output + block.row * queries.output_stride;
        for (std::int64_t column = 0; column < queries.dv; column += Tile::columns) {
            const std::int64_t columns = std::min<std::int64_t>(Tile::columns, queries.dv - column);
            Products::kAddValues[block.rows][Products::vectors_of(columns)](
                {block.scores, block.score_stride,
                 queries.values + column * queries.sk + key * Tile::columns, keys, output + column,
                 queries.output_stride, 1.0F, first ? nullptr : before, last ? after : nullptr,
                 columns});
        }
    }

    /// Whether the mask is -infinity for all of these rows and keys.
    static bool hides(const FlashQueries& queries, std::int64_t row, std::int64_t rows,
                      std::int64_t key, std::int64_t keys) {
        const std::int64_t n = queries.mask_key_stride == 0 ? 1 : keys;
        for (std::int64_t i = 0; i < (queries.mask_query_stride == 0 ? 1 : rows); ++i) {
            const float* mask = queries.mask + (row + i) * queries.mask_query_stride +
                                key * queries.mask_key_stride;
            bool all = true;
            for (std::int64_t j = 0; j < n; ++j) all &= mask[j] == kNoMaximum;
            if (!all) return false;
        }
        return true;
    }

    /// Leaves panels out at both ends of [from, to) that the mask hides from all rows.
    static void leave_out_hidden(const FlashQueries& queries, std::int64_t row, std::int64_t rows,
                                 std::int64_t& from, std::int64_t& to) {
        while (from < to) {
            const std::int64_t keys = std::min<std::int64_t>(Tile::columns, to - from);
            if (!hides(queries, row, rows, from, keys)) break;
            from += keys;
        }
        while (from < to) {
            const std::int64_t panel = (to - 1) / Tile::columns * Tile::columns;
            if (!hides(queries, row, rows, panel, to - panel)) break;
            to = panel;
        }
    }

    /// add_key_tile without keys.
    static void add_no_keys(const Block& block, bool first, bool last) {
        const FlashQueries& queries = block.queries;
        for (std::int64_t row = 0; row < block.rows; ++row) {
            float* output = queries.output + (block.row + row) * queries.output_stride;
            const Float factor = V::set(last ? factor_of(queries, block.sums[row]) : 1.0F);
            for_vectors<V>(queries.dv, [&](std::int64_t j, auto lanes) {
                const Float before = first ? V::set(0.0F) : V::load(output + j, lanes);
                V::store(output + j, V::mul(before, factor), lanes);
            });
        }
    }

    static void write_lse(float* lse, const float* maxima, const float* sums, std::int64_t rows) {
        for (std::int64_t row = 0; row < rows; ++row) {
            const bool unseen = sums[row] == 0.0F;
            lse[row] = unseen ? kNoMaximum : maxima[row] + std::log(sums[row]);
        }
    }

    static void attend(const FlashQueries& queries) {
        const std::int64_t q_stride = padded_row(queries.d);
        const std::int64_t score_stride = padded_row(queries.tile_k);
        float* q = queries.scratch;
        float* scores = q + queries.rows * q_stride;
        float* maxima = scores + Tile::rows * score_stride;
        float* sums = maxima + queries.rows;
        for (std::int64_t row = 0; row < queries.rows; ++row) {
            const float* from = queries.q + row * queries.q_stride;
            for_vectors<V>(queries.d, [&](std::int64_t j, auto lanes) {
                V::store(q + row * q_stride + j, V::load(from + j, lanes), lanes);
            });
        }
        std::fill_n(maxima, queries.rows, kNoMaximum);
        std::fill_n(sums, queries.rows, 0.0F);

        // Blocks of equal height: a low one has too few independent sums to hide the latency of a
        // multiply-add.
        const std::int64_t blocks = (queries.rows + Tile::rows - 1) / Tile::rows;
        // Packed keys are entered at whole panels. A block that sees no key takes the last panel,
        // whose weights are all 0.
        const auto first_of = [&](std::int64_t row) {
            return std::min(first_key(queries, row), queries.sk - 1) / Tile::columns *
                   Tile::columns;
        };
        const std::int64_t last_end = end_key(queries, queries.rows - 1);
        for (std::int64_t key = first_of(0); key < last_end; key += queries.tile_k) {
            for (std::int64_t index = 0; index < blocks; ++index) {
                const std::int64_t row = queries.rows * index / blocks;
                const std::int64_t end = queries.rows * (index + 1) / blocks;
                const std::int64_t first = first_of(row), last = end_key(queries, end - 1);
                std::int64_t from = std::max(key, first);
                std::int64_t to = std::min(key + queries.tile_k, last);
                if (from >= to) continue;
                const Block block{queries,      row,        end - row, q + row * q_stride, q_stride,
                                  maxima + row, sums + row, scores,    score_stride};
                const bool is_first = from == first, is_last = to == last;
                if (queries.skips_hidden) leave_out_hidden(queries, row, end - row, from, to);
                if (from < to) {
                    add_key_tile(block, from, to - from, is_first, is_last);
                } else if (is_first || is_last) {
                    add_no_keys(block, is_first, is_last);
                }
            }
        }
        if (queries.lse != nullptr) write_lse(queries.lse, maxima, sums, queries.rows);
    }

    static constexpr FlashPackedProvider provider() {
        return {.rows = Tile::rows,
                .columns = Tile::columns,
                .pack = FlashPacking<V>::pack,
                .attend = attend};
    }
};

}  // namespace ablation::body

// The packed flash kernel for a tile of query rows, written once over a vector type V (see
// vector_math.h).
//
// Keys come in tiles that stay in L2 while all blocks of query rows pass over them; a block is one
// register tile high, and its scores stay in L1 from the product through the softmax to the second
// product. The output is the only accumulator in memory: a block reads and writes it once per tile
// of keys, and rescaling and the final division are factors of that one read and write.
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
#include <utility>

#include "attention/flash_packed.h"
#include "attention/flash_packing.h"
#include "attention/flash_weight.h"
#include "isa/tile_multiply.h"

namespace ablation::body {

template <class V>
struct FlashPacked {
    using Float = typename V::Float;
    using Tile = TileShape<V>;
    static constexpr float kNoMaximum = -std::numeric_limits<float>::infinity();

    /// A product of one block of rows with one panel.
    struct Product {
        const float* a;
        std::int64_t a_stride;
        const float* b;
        std::int64_t depth;
        float* c;
        std::int64_t c_stride;
        float scale;  ///< of the first product
        // Of the second product only:
        const float* before;  ///< null where c holds nothing yet; else each row's factor of it
        const float* after;   ///< null, or each row's factor of the sum
        std::int64_t columns;
    };
    using ProductFunction = void (*)(const Product& product);

    template <int rows, int vectors>
    static void clear(Float (&sums)[rows][vectors]) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) sums[i][j] = V::set(0.0F);
        }
    }

    template <int rows, int vectors>
    static void score_panel(const Product& product) {
        Float sums[rows][vectors];
        clear(sums);
        multiply_accumulate<V>(sums, PlainA{product.a, product.a_stride}, product.b, Tile::columns,
                               product.depth);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) {
                V::store(product.c + i * product.c_stride + j * V::width,
                         V::mul(sums[i][j], V::set(product.scale)), All{});
            }
        }
    }

    template <int rows, int vectors>
    static void add_values(const Product& product) {
        const std::int64_t tail = product.columns % V::width;
        const auto at = [&](int i, int j) {
            return product.c + i * product.c_stride + j * V::width;
        };
        Float sums[rows][vectors];
        clear(sums);
        if (product.before != nullptr) {
            for (int i = 0; i < rows; ++i) __builtin_prefetch(at(i, 0), 1);
        }
        multiply_accumulate<V>(sums, PlainA{product.a, product.a_stride}, product.b, Tile::columns,
                               product.depth);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            const Float factor = V::set(product.after == nullptr ? 1.0F : product.after[i]);
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) {
                const bool whole = j + 1 < vectors || tail == 0;
                Float sum = sums[i][j];
                // A tile is summed by itself: one sum over all keys would round as often, but at
                // the size of the whole, which is an error that grows with their number.
                if (product.before != nullptr) {
                    const Float before =
                        whole ? V::load(at(i, j), All{}) : V::load(at(i, j), First{tail});
                    sum = V::fma(before, V::set(product.before[i]), sum);
                }
                const Float value = V::mul(sum, factor);
                if (whole) {
                    V::store(at(i, j), value, All{});
                } else {
                    V::store(at(i, j), value, First{tail});
                }
            }
        }
    }

    static constexpr auto kScorePanel = tile_functions<V, ProductFunction>(
        []<int rows, int vectors>() { return score_panel<rows, vectors>; });
    static constexpr auto kAddValues = tile_functions<V, ProductFunction>(
        []<int rows, int vectors>() { return add_values<rows, vectors>; });

    static int vectors_of(std::int64_t columns) {
        return static_cast<int>((columns + V::width - 1) / V::width);
    }

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
            const int vectors = vectors_of(std::min<std::int64_t>(Tile::columns, keys - column));
            kScorePanel[block.rows][vectors](
                {block.q, block.q_stride, block.queries.keys + (key + column) * d, d,
                 block.scores + column, block.score_stride, block.queries.scale, nullptr, nullptr,
                 Tile::columns});
        }
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

    /// Scores of a row, n of `keys` visible, to weights; brings maximum and sum up to date and
    /// returns the factor by which what the row has gathered shrinks.
    static float update_row(const Block& block, std::int64_t row, std::int64_t key, std::int64_t n,
                            std::int64_t keys) {
        const FlashQueries& queries = block.queries;
        float* scores = block.scores + row * block.score_stride;
        float factor = 1.0F;
        if (n > 0) {
            if (queries.mask != nullptr) {
                const float* mask = queries.mask + (block.row + row) * queries.mask_query_stride +
                                    key * queries.mask_key_stride;
                const auto apply = queries.mask_replaces ? replace : add_mask;
                apply(scores, mask, queries.mask_key_stride, n);
            }
            float& maximum = block.maxima[row];
            float& sum = block.sums[row];
            const float tile_maximum = largest(scores, n);
            if (tile_maximum > maximum) {
                if (maximum != kNoMaximum) factor = std::exp(maximum - tile_maximum);
                maximum = tile_maximum;
            }
            const float added =
                maximum == kNoMaximum ? weigh_unseen(scores, n) : weigh(scores, maximum, n);
            sum = sum * factor + added;
        }
        std::fill(scores + n, scores + keys, 0.0F);
        return factor;
    }

    /// Keys key ... key + keys; `last` if no others follow.
    static void add_key_tile(const Block& block, std::int64_t key, std::int64_t keys, bool last) {
        const FlashQueries& queries = block.queries;
        score(block, key, keys);
        // Of each row: the factors of what it has gathered before and of the sum.
        float before[Tile::rows];
        float after[Tile::rows];
        for (std::int64_t row = 0; row < block.rows; ++row) {
            const std::int64_t seen = queries.begin + block.row + row + 1 - key;
            const std::int64_t n = queries.causal ? std::clamp<std::int64_t>(seen, 0, keys) : keys;
            before[row] = update_row(block, row, key, n, keys);
            const bool is_zero = block.sums[row] == 0.0F && !queries.strict;
            after[row] = is_zero ? 0.0F : 1.0F / block.sums[row];
        }
        float* output = queries.output + block.row * queries.output_stride;
        for (std::int64_t column = 0; column < queries.d; column += Tile::columns) {
            const std::int64_t columns = std::min<std::int64_t>(Tile::columns, queries.d - column);
            kAddValues[block.rows][vectors_of(columns)](
                {block.scores, block.score_stride,
                 queries.values + column * queries.sk + key * Tile::columns, keys, output + column,
                 queries.output_stride, 1.0F, key == 0 ? nullptr : before, last ? after : nullptr,
                 columns});
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
        const auto visible_to = [&](std::int64_t end) {
            return queries.causal ? std::min(queries.sk, queries.begin + end) : queries.sk;
        };
        for (std::int64_t key = 0; key < visible_to(queries.rows); key += queries.tile_k) {
            for (std::int64_t index = 0; index < blocks; ++index) {
                const std::int64_t row = queries.rows * index / blocks;
                const std::int64_t end = queries.rows * (index + 1) / blocks;
                const std::int64_t keys = std::min(queries.tile_k, visible_to(end) - key);
                if (keys <= 0) continue;
                add_key_tile({queries, row, end - row, q + row * q_stride, q_stride, maxima + row,
                              sums + row, scores, score_stride},
                             key, keys, key + keys == visible_to(end));
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

// The flash backward kernel for a block of keys, written once over a vector type V (see
// vector_math.h).
//
// The block's keys and values are packed once into panels; tiles of queries pass over them. A tile
// computes its scores P and their gradients grad_S in register tiles, a row for each query, and
// keeps both in cache for the three products behind them: P^T and grad_S^T are read down their
// columns, a broadcast at a time, so that nothing but the keys and values is ever transposed.
// The block's rows of grad_k and grad_v stay in cache through all tiles of queries; grad_q, the
// only accumulator as long as the sequence, is read and written once per block.
//
// Cost of a score: 10 D FLOPs in five products, 4 D of them before the exponential. On a Zen 4 core
// with AVX-512 at D = 64 that is 20 cycles of multiply-adds and about 1 of exponential and
// differences; it takes 24, which is 97 GFLOP/s where independent multiply-adds reach 118.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <utility>

#include "attention/flash_backward.h"
#include "attention/flash_packing.h"
#include "attention/flash_weight.h"
#include "isa/tile_multiply.h"

namespace ablation::body {

template <class V>
struct FlashBackward {
    using Float = typename V::Float;
    using Tile = TileShape<V>;

    /// Where the next tile of queries lies.
    struct NextRows {
        const float *q = nullptr, *grad_output = nullptr, *grad_q = nullptr;
    };

    /// C = A * B, or C + A * B if `adds`, for one register tile.
    struct Product {
        const float* a;
        std::int64_t a_stride;
        const float* b;
        std::int64_t b_stride;
        std::int64_t depth;
        float* c;
        std::int64_t c_stride;
        std::int64_t columns;  ///< of C; vectors of B are read whole
        bool adds;
        NextRows next = {};  ///< asked for meanwhile, a line each kStepsPerLine, by `fetch_next`
    };
    using ProductFunction = void (*)(const Product& product);

    template <class A, bool fetch_next, int rows, int vectors>
    static void multiply(const Product& product) {
        const std::int64_t tail = product.columns % V::width;
        const auto at = [&](int i, int j) {
            return product.c + i * product.c_stride + j * V::width;
        };
        Float sums[rows][vectors];
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) sums[i][j] = V::set(0.0F);
        }
        if (product.adds) {
#pragma GCC unroll 16
            for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
                for (int j = 0; j < vectors; ++j) {
                    const bool whole = j + 1 < vectors || tail == 0;
                    sums[i][j] = whole ? V::load(at(i, j), All{}) : V::load(at(i, j), First{tail});
                }
            }
        }
        const A a{product.a, product.a_stride};
        const float* b = product.b;
        std::int64_t k = 0;
        if constexpr (fetch_next) {
            for (std::int64_t line = 0; k + kStepsPerLine <= product.depth; line += kLineFloats) {
                __builtin_prefetch(product.next.q + line, 0, 2);
                __builtin_prefetch(product.next.grad_output + line, 0, 2);
                __builtin_prefetch(product.next.grad_q + line, 0, 2);
                multiply_accumulate<V>(sums, a, b, product.b_stride, k + kStepsPerLine, k);
                b += kStepsPerLine * product.b_stride;
                k += kStepsPerLine;
            }
        }
        multiply_accumulate<V>(sums, a, b, product.b_stride, product.depth, k);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < vectors; ++j) {
                if (j + 1 < vectors || tail == 0) {
                    V::store(at(i, j), sums[i][j], All{});
                } else {
                    V::store(at(i, j), sums[i][j], First{tail});
                }
            }
        }
    }

    /// The product of `rows` rows, at most those of a register tile, and at most a panel of
    /// columns.
    template <class A, bool fetch_next = false>
    static void run(const Product& product, std::int64_t rows) {
        static constexpr auto kFunctions =
            tile_functions<V, ProductFunction>([]<int height, int width>() -> ProductFunction {
                return &FlashBackward::template multiply<A, fetch_next, height, width>;
            });
        const std::int64_t vectors = (product.columns + V::width - 1) / V::width;
        kFunctions[static_cast<std::size_t>(rows)][static_cast<std::size_t>(vectors)](product);
    }

    /// Calls step(begin, end) for blocks of equal height, at most a register tile's: a low one has
    /// too few independent sums to hide the latency of a multiply-add.
    template <class Step>
    static void for_row_blocks(std::int64_t rows, Step&& step) {
        const std::int64_t blocks = (rows + Tile::rows - 1) / Tile::rows;
        for (std::int64_t index = 0; index < blocks; ++index) {
            step(rows * index / blocks, rows * (index + 1) / blocks);
        }
    }

    /// Calls step(column, columns) for the panels that cover n columns.
    template <class Step>
    static void for_panels(std::int64_t n, Step&& step) {
        for (std::int64_t column = 0; column < n; column += Tile::columns) {
            step(column, std::min<std::int64_t>(Tile::columns, n - column));
        }
    }

    /// A block of keys and a tile of queries. Rows of q, grad_output and k may be read up to a
    /// whole vector.
    struct Pair {
        const BackwardKeys& block;
        const float *keys, *values;  ///< packed panels
        const float* k;
        const float *q, *grad_output;  ///< of the tile
        std::int64_t row_stride;       ///< of these three
        float *weights, *grad_scores;  ///< a row for each query
        std::int64_t score_stride;
        std::int64_t query, rows;  ///< the tile's first query, and how many
        bool is_first;             ///< no other tile of queries came before this block

        /// Keys of the block that a row of the tile sees.
        std::int64_t seen(std::int64_t row) const {
            if (!block.causal) return block.keys;
            return std::clamp<std::int64_t>(query + row + 1 - block.begin, 0, block.keys);
        }
        /// Lanes of a row to keep from a column on; all of them in rows that see the whole block.
        std::int64_t lanes(std::int64_t row, std::int64_t column) const {
            const std::int64_t n = seen(row);
            return n == block.keys ? Tile::columns : n - column;
        }
    };

    static Float keep_first(Float v, std::int64_t n) {
        if (n >= V::width) return v;
        return n <= 0 ? V::set(0.0F) : V::keep(v, First{n});
    }

    /// Products of queries and keys to weights, in place: rows [row, end) of a panel of columns.
    static void weigh(const Pair& pair, std::int64_t row, std::int64_t end, std::int64_t column,
                      std::int64_t columns) {
        const Float scale = V::set(pair.block.scale);
        for (; row < end; ++row) {
            float* weights = pair.weights + row * pair.score_stride + column;
            const Float shift = V::set(pair.block.shift[pair.query + row]);
            const std::int64_t lanes = pair.lanes(row, column);
            for (std::int64_t j = 0; j < columns; j += V::width) {
                const Float score = V::fma(V::load(weights + j, All{}), scale, shift);
                V::store(weights + j, keep_first(weight<V>(score), lanes - j), All{});
            }
        }
    }

    /// Gradients of weights to gradients of the products of queries and keys, in place.
    static void differentiate(const Pair& pair, std::int64_t row, std::int64_t end,
                              std::int64_t column, std::int64_t columns) {
        const Float scale = V::set(pair.block.scale);
        for (; row < end; ++row) {
            const float* weights = pair.weights + row * pair.score_stride + column;
            float* gradients = pair.grad_scores + row * pair.score_stride + column;
            const Float delta = V::set(pair.block.delta[pair.query + row]);
            const std::int64_t lanes = pair.lanes(row, column);
            for (std::int64_t j = 0; j < columns; j += V::width) {
                const Float difference = V::sub(V::load(gradients + j, All{}), delta);
                const Float factor = V::mul(V::load(weights + j, All{}), scale);
                V::store(gradients + j, keep_first(V::mul(factor, difference), lanes - j), All{});
            }
        }
    }

    /// weights and grad_scores of the pair. What causal hides is 0 in both; columns beyond the
    /// block's keys hold nothing of use.
    static void score(const Pair& pair) {
        const std::int64_t d = pair.block.d;
        for_panels(pair.block.keys, [&](std::int64_t column, std::int64_t columns) {
            for_row_blocks(pair.rows, [&](std::int64_t row, std::int64_t end) {
                const std::int64_t at = row * pair.score_stride + column;
                if (pair.seen(end - 1) <= column) {
                    for (std::int64_t offset = at; row < end; ++row, offset += pair.score_stride) {
                        std::fill_n(pair.weights + offset, columns, 0.0F);
                        std::fill_n(pair.grad_scores + offset, columns, 0.0F);
                    }
                    return;
                }
                const std::int64_t whole = (columns + V::width - 1) / V::width * V::width;
                Product product{pair.q + row * pair.row_stride,
                                pair.row_stride,
                                pair.keys + column * d,
                                Tile::columns,
                                d,
                                pair.weights + at,
                                pair.score_stride,
                                whole,
                                false};
                run<PlainA>(product, end - row);
                weigh(pair, row, end, column, columns);
                product.a = pair.grad_output + row * pair.row_stride;
                product.b = pair.values + column * d;
                product.c = pair.grad_scores + at;
                run<PlainA>(product, end - row);
                differentiate(pair, row, end, column, columns);
            });
        });
    }

    /// grad (keys, d) += scores^T (keys, queries) * rows (queries, d).
    static void add_by_key(const Pair& pair, const float* scores, const float* rows, float* grad) {
        const BackwardKeys& block = pair.block;
        for_panels(block.d, [&](std::int64_t column, std::int64_t columns) {
            for_row_blocks(block.keys, [&](std::int64_t key, std::int64_t end) {
                const std::int64_t hidden = block.causal ? block.begin + key - pair.query : 0;
                const std::int64_t first = std::clamp<std::int64_t>(hidden, 0, pair.rows);
                if (first == pair.rows && !pair.is_first) return;
                run<TransposedA>({scores + first * pair.score_stride + key, pair.score_stride,
                                  rows + first * pair.row_stride + column, pair.row_stride,
                                  pair.rows - first, grad + (block.begin + key) * block.d + column,
                                  block.d, columns, !pair.is_first},
                                 end - key);
            });
        });
    }

    /// grad_q (queries, d) += grad_scores (queries, keys) * k (keys, d). Meanwhile the rows of the
    /// next tile come into the second-level cache: all that the sequence's length moves.
    static void add_by_query(const Pair& pair) {
        const BackwardKeys& block = pair.block;
        std::int64_t next = (pair.query + pair.rows) * block.d;
        const std::int64_t next_end = std::min(pair.query + 2 * pair.rows, block.sq) * block.d;
        for_panels(block.d, [&](std::int64_t column, std::int64_t columns) {
            for_row_blocks(pair.rows, [&](std::int64_t row, std::int64_t end) {
                const std::int64_t depth = pair.seen(end - 1);
                if (depth == 0 && block.adds) return;
                const bool is_left = next < next_end;
                const auto run_product = is_left ? run<PlainA, true> : run<PlainA>;
                run_product(
                    {pair.grad_scores + row * pair.score_stride, pair.score_stride, pair.k + column,
                     pair.row_stride, depth, block.grad_q + (pair.query + row) * block.d + column,
                     block.d, columns, block.adds,
                     is_left
                         ? NextRows{block.q + next, block.grad_output + next, block.grad_q + next}
                         : NextRows{}},
                    end - row);
                next += depth / kStepsPerLine * kLineFloats;
            });
        });
    }

    /// Rows of d elements to rows of whole vectors, filled with zeros; returns `to`.
    static const float* pad_rows(float* to, const float* from, std::int64_t rows, std::int64_t d,
                                 std::int64_t stride) {
        for (std::int64_t row = 0; row < rows; ++row) {
            std::copy_n(from + row * d, d, to + row * stride);
            std::fill(to + row * stride + d, to + (row + 1) * stride, 0.0F);
        }
        return to;
    }

    static void pack_panels(float* packed, const float* rows, std::int64_t n, std::int64_t d) {
        for (std::int64_t key = 0; key < n; key += Tile::columns) {
            FlashPacking<V>::pack_key_panel({.k = rows,
                                             .v = nullptr,
                                             .k_stride = d,
                                             .v_stride = 0,
                                             .begin = 0,
                                             .end = n,
                                             .sk = n,
                                             .d = d,
                                             .dv = 0,
                                             .keys = packed,
                                             .values = nullptr},
                                            key);
        }
    }

    static void propagate(const BackwardKeys& block) {
        const std::int64_t d = block.d, offset = block.begin * d;
        const std::int64_t start = first_query(block.begin, block.sq, block.tile_q, block.causal);
        if (start == block.sq) {
            std::fill_n(block.grad_k + offset, block.keys * d, 0.0F);
            std::fill_n(block.grad_v + offset, block.keys * d, 0.0F);
            return;
        }
        const std::int64_t row_stride = (d + V::width - 1) / V::width * V::width;
        const bool pads = row_stride != d;
        const std::int64_t score_stride = padded_row(block.tile_k);
        float* keys = block.scratch;
        float* values = keys + block.tile_k * d;
        float* weights = values + block.tile_k * d;
        float* grad_scores = weights + block.tile_q * score_stride;
        float* q_rows = grad_scores + block.tile_q * score_stride;
        float* grad_rows = q_rows + block.tile_q * row_stride;
        float* k_rows = grad_rows + block.tile_q * row_stride;
        pack_panels(keys, block.k + offset, block.keys, d);
        pack_panels(values, block.v + offset, block.keys, d);
        const float* k = block.k + offset;
        if (pads) k = pad_rows(k_rows, k, block.keys, d, row_stride);
        for (std::int64_t query = start; query < block.sq; query += block.tile_q) {
            const std::int64_t rows = std::min(block.tile_q, block.sq - query);
            const float* q = block.q + query * d;
            const float* grad_output = block.grad_output + query * d;
            if (pads) {
                q = pad_rows(q_rows, q, rows, d, row_stride);
                grad_output = pad_rows(grad_rows, grad_output, rows, d, row_stride);
            }
            const Pair pair{block,       keys,       values,        k,           q,
                            grad_output, row_stride, weights,       grad_scores, score_stride,
                            query,       rows,       query == start};
            score(pair);
            add_by_key(pair, weights, grad_output, block.grad_v);
            add_by_key(pair, grad_scores, q, block.grad_k);
            add_by_query(pair);
        }
    }

    static void prepare(const BackwardRows& rows) {
        for (std::int64_t row = 0; row < rows.rows; ++row) {
            const float* output = rows.output + row * rows.d;
            const float* grad_output = rows.grad_output + row * rows.d;
            Float sum = V::set(0.0F);
            for_vectors<V>(rows.d, [&](std::int64_t j, auto lanes) {
                sum = V::fma(V::load(output + j, lanes), V::load(grad_output + j, lanes), sum);
            });
            rows.delta[row] = V::sum(sum);
            const bool unseen = rows.lse[row] == -std::numeric_limits<float>::infinity();
            rows.shift[row] = unseen ? rows.lse[row] : -rows.lse[row];
        }
    }

    static constexpr FlashBackwardProvider provider() {
        return {.columns = Tile::columns,
                .width = V::width,
                .prepare = prepare,
                .propagate = propagate};
    }
};

}  // namespace ablation::body

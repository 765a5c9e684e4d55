// Keys and values into the panels of flash_packed.h, written once over a vector type V (see
// vector_math.h). Keys are transposed in 4 x 4 blocks, whatever the instruction set: some 0.4
// cycles an element on a Zen 4 core.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/flash_packed.h"
#include "isa/tile_multiply.h"

namespace ablation::body {

template <class V>
struct FlashPacking {
    using Tile = TileShape<V>;

    /// Four rows of four columns, transposed.
    static void transpose_four(float* to, std::int64_t to_stride, const float* from,
                               std::int64_t from_stride) {
        using Four = float __attribute__((vector_size(16)));
        Four a, b, c, d;
        __builtin_memcpy(&a, from, sizeof a);
        __builtin_memcpy(&b, from + from_stride, sizeof b);
        __builtin_memcpy(&c, from + 2 * from_stride, sizeof c);
        __builtin_memcpy(&d, from + 3 * from_stride, sizeof d);
        const Four ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        const Four ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        const Four cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        const Four cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        a = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
        b = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
        c = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
        d = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
        __builtin_memcpy(to, &a, sizeof a);
        __builtin_memcpy(to + to_stride, &b, sizeof b);
        __builtin_memcpy(to + 2 * to_stride, &c, sizeof c);
        __builtin_memcpy(to + 3 * to_stride, &d, sizeof d);
    }

    static void pack_key_panel(const KeyRange& range, std::int64_t key) {
        const std::int64_t keys = std::min<std::int64_t>(Tile::columns, range.sk - key);
        const float* from = range.k + key * range.k_stride;
        float* to = range.keys + key * range.d;
        const std::int64_t whole = range.d / 4 * 4;
        std::int64_t j = 0;
        for (; j + 4 <= keys; j += 4) {
            const float* rows = from + j * range.k_stride;
            for (std::int64_t d = 0; d < whole; d += 4) {
                transpose_four(to + d * Tile::columns + j, Tile::columns, rows + d, range.k_stride);
            }
            for (std::int64_t d = whole; d < range.d; ++d) {
                for (std::int64_t i = 0; i < 4; ++i) {
                    to[d * Tile::columns + j + i] = rows[i * range.k_stride + d];
                }
            }
        }
        for (; j < Tile::columns; ++j) {
            for (std::int64_t d = 0; d < range.d; ++d) {
                to[d * Tile::columns + j] = j < keys ? from[j * range.k_stride + d] : 0.0F;
            }
        }
    }

    static void pack(const KeyRange& range) {
        for (std::int64_t key = range.begin; key < range.end; key += Tile::columns) {
            pack_key_panel(range, key);
        }
        for (std::int64_t column = 0; column < range.dv; column += Tile::columns) {
            const std::int64_t columns = std::min<std::int64_t>(Tile::columns, range.dv - column);
            float* panel = range.values + column * range.sk;
            for (std::int64_t key = range.begin; key < range.end; ++key) {
                const float* from = range.v + key * range.v_stride + column;
                float* to = panel + key * Tile::columns;
                for_vectors<V>(columns, [&](std::int64_t j, auto lanes) {
                    V::store(to + j, V::load(from + j, lanes), All{});
                });
            }
        }
    }
};

}  // namespace ablation::body

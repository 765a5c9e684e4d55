// The packed product of a block, written once over a vector type V (see vector_math.h).
//
// A panel of B stays in the second-level cache while all row tiles of A pass over it; the tile of C
// stays in registers for the whole depth and is finished in its one write: previous sum or addend,
// bias and activation cost no pass of their own. A product that enters several blocks of C is
// written to each from the same registers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "isa/tile_multiply.h"
#include "matmul/packed.h"

namespace ablation::body {

template <class V>
typename V::Float activate(typename V::Float x, Activation activation) {
    switch (activation) {
        case Activation::None:
            return x;
        case Activation::relu:
            return V::max(V::set(0.0F), x);
        case Activation::gelu:
            return gelu<V>(x);
        case Activation::gelu_tanh:
            return gelu_tanh<V>(x);
        case Activation::gelu_sigmoid:
            return gelu_sigmoid<V>(x);
        case Activation::silu:
            return silu<V>(x);
    }
    return x;
}

template <class V>
struct Packed {
    using Float = typename V::Float;
    using Tile = TileShape<V>;

    /// One register tile: its first row and column within the block.
    struct Place {
        std::int64_t row, column;
        const float* b;
        Stream panel;   ///< lines of the panel that comes next
        Stream next_a;  ///< a row of the next range of A
    };
    using TileFunction = void (*)(const PackedBlock& block, const Place& place);

    /// The finished value of one vector of C.
    template <class Lanes>
    static Float finish(const PackedTarget& target, Float sum, std::int64_t offset,
                        std::int64_t column, Lanes lanes) {
        Float value = V::mul(sum, V::set(target.alpha));
        if (target.previous != nullptr) {
            value = V::add(value, V::load(target.previous + offset, lanes));
        }
        if (target.bias != nullptr) value = V::add(value, V::load(target.bias + column, lanes));
        return value;
    }

    /// Tiles that C ends inside of, and activations that are long: from sums in memory.
    [[gnu::noinline]] static void write_slowly(const PackedBlock& block, const PackedTarget& target,
                                               const Place& place, const float* sums,
                                               std::int64_t rows) {
        const std::int64_t columns =
            std::min<std::int64_t>(Tile::columns, target.columns - place.column);
        rows = std::min(rows, target.rows - place.row);
        for (std::int64_t i = 0; i < rows; ++i) {
            const std::int64_t offset = (place.row + i) * block.c_stride + place.column;
            const auto write = [&](std::int64_t j, auto lanes) {
                const Float sum = V::load(sums + i * Tile::columns + j, All{});
                const Float value = finish(target, sum, offset + j, place.column + j, lanes);
                V::store(target.c + offset + j, activate<V>(value, target.activation), lanes);
            };
            std::int64_t j = 0;
            for (; j + V::width <= columns; j += V::width) write(j, All{});
            if (j < columns) write(j, First{columns - j});
        }
    }

    template <int rows>
    static void write(const PackedBlock& block, const PackedTarget& target, const Place& place,
                      const Float (&sums)[rows][Tile::vectors]) {
        const bool whole =
            place.column + Tile::columns <= target.columns && place.row + rows <= target.rows;
        const bool short_activation =
            target.activation == Activation::None || target.activation == Activation::relu;
        if (!whole || !short_activation) {
            alignas(kAlignment) float memory[rows * Tile::columns];
#pragma GCC unroll 16
            for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
                for (int j = 0; j < Tile::vectors; ++j) {
                    V::store(memory + i * Tile::columns + j * V::width, sums[i][j], All{});
                }
            }
            return write_slowly(block, target, place, memory, rows);
        }
        // max(lowest, x) keeps x, and NaN.
        const Float lowest =
            V::set(target.activation == Activation::relu ? 0.0F : -__builtin_inff());
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            const std::int64_t offset = (place.row + i) * block.c_stride + place.column;
#pragma GCC unroll 8
            for (int j = 0; j < Tile::vectors; ++j) {
                const std::int64_t shift = j * V::width;
                const Float value =
                    finish(target, sums[i][j], offset + shift, place.column + shift, All{});
                V::store(target.c + offset + shift, V::max(lowest, value), All{});
            }
        }
    }

    template <int rows>
    static void multiply_tile(const PackedBlock& block, const Place& place) {
        Float sums[rows][Tile::vectors];
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < Tile::vectors; ++j) sums[i][j] = V::set(0.0F);
        }
        const PlainA a{block.a + place.row * block.a_stride, block.a_stride};
        // C is needed at the end only, but its rows lie too far apart for a hardware prefetch.
        const PackedTarget& first = block.targets.front();
        const PackedTarget& last = block.targets.back();
        const std::int64_t offset = place.row * block.c_stride + place.column;
        const float* other =
            first.previous != nullptr && first.previous != first.c ? first.previous : last.c;
        const Ahead ahead{place.panel,
                          place.next_a,
                          {first.c + offset, block.c_stride},
                          {other + offset, block.c_stride}};
        multiply_accumulate<V>(sums, a, place.b, Tile::columns, block.depth, ahead);
        for (const PackedTarget& target : block.targets) write<rows>(block, target, place, sums);
    }

    template <std::size_t... rows>
    static constexpr auto tile_table(std::index_sequence<rows...>) {
        struct Table {
            TileFunction of_rows[sizeof...(rows) + 1];
        };
        return Table{{nullptr, multiply_tile<static_cast<int>(rows) + 1>...}};
    }

    static void multiply(const PackedBlock& block) {
        static constexpr auto kTiles = tile_table(std::make_index_sequence<Tile::rows>{});
        // Tiles of equal height where the rows do not fill the last one: a low tile has too few
        // independent sums to hide the latency of a multiply-add.
        const std::int64_t tiles = (block.rows + Tile::rows - 1) / Tile::rows;
        const float* panel = block.b;
        const Stream nothing{block.b, 0};
        // The last tiles ask for the next range of A, a row each.
        const std::int64_t panels = (block.columns + Tile::columns - 1) / Tile::columns;
        std::int64_t next_row = block.rows - panels * tiles;
        for (std::int64_t column = 0; column < block.columns; column += Tile::columns) {
            const bool last = column + Tile::columns >= block.columns;
            const float* next = last ? block.next_b : panel + block.panel_stride;
            std::int64_t ahead = 0;  // floats of the next panel that are asked for
            std::int64_t row = 0;
            for (std::int64_t tile = 0; tile < tiles; ++tile) {
                const std::int64_t end = block.rows * (tile + 1) / tiles;
                const bool fetches = next != nullptr && ahead < block.depth * Tile::columns;
                const bool fetches_a = block.next_a != nullptr && next_row >= 0;
                const Place place{
                    .row = row,
                    .column = column,
                    .b = panel,
                    .panel = fetches ? Stream{next + ahead, kLineFloats} : nothing,
                    .next_a = fetches_a ? Stream{block.next_a + next_row * block.next_a_stride,
                                                 kStepsPerLine}
                                        : nothing,
                };
                kTiles.of_rows[end - row](block, place);
                ++next_row;
                ahead += block.depth / kStepsPerLine * kLineFloats;
                row = end;
            }
            panel += block.panel_stride;
        }
    }

    static constexpr PackedProvider provider() {
        return {.rows = Tile::rows, .columns = Tile::columns, .multiply = multiply};
    }
};

}  // namespace ablation::body

// matmul_blas: the product is one sgemm. bias and addend are written into the output first and
// sgemm adds to them (beta = 1), so that they cost one write and no pass of their own; the
// activation follows in place.
//
// matmul_blas_parallel: the output is cut into a grid of tiles, one single-threaded sgemm and one
// thread per tile. sgemm packs its operands anew for every tile, so the grid is the one with the
// least packing: it cuts the longer of M and N, and products of a batch are dealt out whole before
// any is cut.
//
// Cost: 2 M N K FLOPs; a cut into p x q tiles packs a q times and b p times.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/blas.h"
#include "core/parallel.h"
#include "core/table.h"
#include "isa/simd.h"
#include "matmul/matmul.h"

namespace ablation {

namespace {

// Tile boundaries are multiples of this: whole micro-tiles of every library in use (at most 48
// wide, 16 high).
constexpr std::int64_t kTileGrain = 48;

// A thread that gets less work than this costs more than it brings.
constexpr double kMinimumTileNs = 2000.0;

// Nanoseconds per multiply-add and per packed element on one core. Only ratios and the order of
// magnitude matter; measured on a 3.7 GHz AVX-512 core with 118 GFLOP/s in FMA.
constexpr double kNsPerMultiplyAdd = 0.02;
constexpr double kNsPerPackedElement = 0.3;

/// Rows [m_begin, m_end) and columns [n_begin, n_end) of product `item` of the batch.
struct Tile {
    std::int64_t item, m_begin, m_end, n_begin, n_end;
};

void write_addends(const Call& call, const MatmulSizes& sizes, const Tile& tile) {
    const auto& bias = call.inputs[2];
    const auto& addend = call.inputs[3];
    if (addend.present && !bias.present && addend.data == call.output.data) return;
    const std::int64_t width = tile.n_end - tile.n_begin;
    for (std::int64_t row = tile.m_begin; row < tile.m_end; ++row) {
        const std::int64_t offset = (tile.item * sizes.m + row) * sizes.n + tile.n_begin;
        float* output = call.output.data + offset;
        if (bias.present && addend.present) {
            simd().add(output, addend.data + offset, 1, bias.data + tile.n_begin, 1, width);
        } else {
            const float* source = bias.present ? bias.data + tile.n_begin : addend.data + offset;
            std::memcpy(output, source, static_cast<std::size_t>(width) * sizeof(float));
        }
    }
}

SimdProvider::Unary function_of(Activation activation) {
    const SimdProvider& provider = simd();
    switch (activation) {
        case Activation::None:
            return nullptr;
        case Activation::relu:
            return provider.relu;
        case Activation::gelu:
            return provider.gelu;
        case Activation::gelu_tanh:
            return provider.gelu_tanh;
        case Activation::gelu_sigmoid:
            return provider.gelu_sigmoid;
        case Activation::silu:
            return provider.silu;
    }
    return nullptr;
}

void activate(const Call& call, const MatmulSizes& sizes, const Tile& tile) {
    const auto function = function_of(call.attributes.activation);
    if (function == nullptr) return;
    for (std::int64_t row = tile.m_begin; row < tile.m_end; ++row) {
        float* output = call.output.data + (tile.item * sizes.m + row) * sizes.n + tile.n_begin;
        function(output, output, tile.n_end - tile.n_begin);
    }
}

void multiply_tile(const Call& call, const MatmulSizes& sizes, const Tile& tile) {
    const auto [a, b, bias, addend] = matmul_inputs(call);
    const auto& attributes = call.attributes;
    const bool accumulate = bias.present || addend.present;
    if (accumulate) write_addends(call, sizes, tile);

    const std::int64_t ldb = attributes.transpose_b ? sizes.k : sizes.n;
    const std::int64_t b_offset = attributes.transpose_b ? tile.n_begin * sizes.k : tile.n_begin;
    sgemm(attributes.transpose_b, tile.m_end - tile.m_begin, tile.n_end - tile.n_begin, sizes.k,
          attributes.alpha, a.data + (tile.item * sizes.m + tile.m_begin) * sizes.k, sizes.k,
          b.data + tile.item * sizes.k * sizes.n + b_offset, ldb, accumulate ? 1.0F : 0.0F,
          call.output.data + (tile.item * sizes.m + tile.m_begin) * sizes.n + tile.n_begin,
          sizes.n);
    activate(call, sizes, tile);
}

double tile_ns(std::int64_t m, std::int64_t n, std::int64_t k) {
    const auto m_real = static_cast<double>(m);
    const auto n_real = static_cast<double>(n);
    return static_cast<double>(k) *
           (m_real * n_real * kNsPerMultiplyAdd + (m_real + n_real) * kNsPerPackedElement);
}

/// How each product of the batch is cut: `rows` x `columns` tiles of (tile_m, tile_n).
struct Grid {
    std::int64_t rows = 1;
    std::int64_t columns = 1;
    std::int64_t tile_m = 0;
    std::int64_t tile_n = 0;
};

std::int64_t tile_size(std::int64_t size, std::int64_t parts) {
    const std::int64_t even = (size + parts - 1) / parts;
    return std::min(size, (even + kTileGrain - 1) / kTileGrain * kTileGrain);
}

Grid choose_grid(const MatmulSizes& sizes, std::int64_t threads) {
    Grid best{1, 1, sizes.m, sizes.n};
    double best_ns = 0.0;
    for (std::int64_t row_parts = 1; row_parts <= threads; ++row_parts) {
        for (std::int64_t column_parts = 1; row_parts * column_parts <= threads; ++column_parts) {
            Grid grid;
            grid.tile_m = tile_size(sizes.m, row_parts);
            grid.tile_n = tile_size(sizes.n, column_parts);
            grid.rows = (sizes.m + grid.tile_m - 1) / grid.tile_m;
            grid.columns = (sizes.n + grid.tile_n - 1) / grid.tile_n;
            const std::int64_t tiles = sizes.batch * grid.rows * grid.columns;
            const auto waves = static_cast<double>((tiles + threads - 1) / threads);
            const double ns = waves * tile_ns(grid.tile_m, grid.tile_n, sizes.k);
            if (best_ns == 0.0 || ns < best_ns) {
                best = grid;
                best_ns = ns;
            }
        }
    }
    return best;
}

}  // namespace

void matmul_blas(const Call& call) {
    const MatmulSizes sizes = matmul_sizes(call);
    for (std::int64_t item = 0; item < sizes.batch; ++item) {
        multiply_tile(call, sizes, {item, 0, sizes.m, 0, sizes.n});
    }
}

void matmul_blas_parallel(const Call& call) {
    const MatmulSizes sizes = matmul_sizes(call);
    const double serial_ns = static_cast<double>(sizes.batch) * tile_ns(sizes.m, sizes.n, sizes.k);
    const int threads = static_cast<int>(
        std::min<double>(worthwhile_threads(serial_ns), std::ceil(serial_ns / kMinimumTileNs)));
    if (threads == 1) return matmul_blas(call);

    const Grid grid = choose_grid(sizes, threads);
    const std::int64_t tiles = grid.rows * grid.columns;
    parallel_items(sizes.batch * tiles, threads, [&](std::int64_t index, int) {
        const std::int64_t m_begin = index % tiles / grid.columns * grid.tile_m;
        const std::int64_t n_begin = index % grid.columns * grid.tile_n;
        multiply_tile(call, sizes,
                      {index / tiles, m_begin, std::min(sizes.m, m_begin + grid.tile_m), n_begin,
                       std::min(sizes.n, n_begin + grid.tile_n)});
    });
}

}  // namespace ablation

// Flash attention of bfloat16 by AMX: products of tiles of 16 rows and 16 columns.
//
// The instruction tdpbf16ps adds the product of 16 rows of 32 bfloat16 with 32 rows of 16, in
// pairs, to 16 rows of 16 float32. It rounds to nearest even and takes denormals for 0, in and out,
// whatever MXCSR says, and raises no flag. Eight tiles are there: two of a by two of b are
// multiplied into four of c, each being read once for two products.
//
// Cost of a score: a core begins a product of tiles every 16 cycles, 512 multiply-adds a cycle, so
// that both products take D / 256 cycles, and the softmax of flash_bf16_body 14 vector
// instructions / 16, of which two begin a cycle: 0.25 and 0.44 at D = 64. Measured on an Emerald
// Rapids at some 2.7 GHz while its neighbors were quiet: 1.5, of them 0.7 for the products, whose
// tiles come and go through the first-level cache, and 0.8 for the softmax.
//
// Tried and of no help: the products of one block between the rows of the softmax of another (a
// second buffer of scores costs what the overlap gains); 128 keys a tile (12 % slower), 512 and
// 1024 (no faster beyond noise).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "attention/flash_bf16_body.h"

namespace ablation {

namespace {

constexpr int kTileRows = 16;
constexpr int kTileBytes = 64;                      ///< of a row
constexpr std::int64_t kStep = kBf16Panel;          ///< elements of a row of a that a product takes
constexpr std::int64_t kPanelRow = 2 * kBf16Panel;  ///< elements of a panel's pair, all columns

// Tiles by number: the instructions have it in them.
#define C00 0
#define C01 1
#define C10 2
#define C11 3
#define A0 4
#define A1 5
#define B0 6
#define B1 7

/// One panel, `steps` products of tiles long; with one tile of rows of a, or two, and of columns.
template <bool two_rows, bool two_columns>
void multiply_panel(const Product& product, const Bf16* b, float* c, std::int64_t steps) {
    const std::int64_t c_bytes = product.c_stride * static_cast<std::int64_t>(sizeof(float));
    float* const c_below = c + kTileRows * product.c_stride;
    if (product.before == nullptr) {
        _tile_zero(C00);
        if constexpr (two_columns) _tile_zero(C01);
        if constexpr (two_rows) _tile_zero(C10);
        if constexpr (two_rows && two_columns) _tile_zero(C11);
    } else {
        _tile_loadd(C00, c, c_bytes);
        if constexpr (two_columns) _tile_loadd(C01, c + kWidth, c_bytes);
        if constexpr (two_rows) _tile_loadd(C10, c_below, c_bytes);
        if constexpr (two_rows && two_columns) _tile_loadd(C11, c_below + kWidth, c_bytes);
    }
    const Bf16* a = product.a;
    const std::int64_t a_bytes = product.a_stride * static_cast<std::int64_t>(sizeof(Bf16));
    constexpr std::int64_t b_bytes = kPanelRow * static_cast<std::int64_t>(sizeof(Bf16));
    for (std::int64_t step = 0; step < steps; ++step) {
        _tile_loadd(B0, b, b_bytes);
        _tile_loadd(A0, a, a_bytes);
        _tile_dpbf16ps(C00, A0, B0);
        if constexpr (two_columns) {
            _tile_loadd(B1, b + 2 * kWidth, b_bytes);
            _tile_dpbf16ps(C01, A0, B1);
        }
        if constexpr (two_rows) {
            _tile_loadd(A1, a + kTileRows * product.a_stride, a_bytes);
            _tile_dpbf16ps(C10, A1, B0);
            if constexpr (two_columns) _tile_dpbf16ps(C11, A1, B1);
        }
        a += kStep;
        b += kStep / 2 * kPanelRow;
    }
    _tile_stored(C00, c, c_bytes);
    if constexpr (two_columns) _tile_stored(C01, c + kWidth, c_bytes);
    if constexpr (two_rows) _tile_stored(C10, c_below, c_bytes);
    if constexpr (two_rows && two_columns) _tile_stored(C11, c_below + kWidth, c_bytes);
}

/// The operand of ldtilecfg.
struct alignas(64) TileShapes {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
};

constexpr TileShapes shapes_of(int rows) {
    TileShapes shapes;
    const auto set = [&](int tile, int tile_rows) {
        shapes.rows[tile] = static_cast<std::uint8_t>(tile_rows);
        shapes.row_bytes[tile] = tile_rows == 0 ? 0 : kTileBytes;
    };
    for (const int tile : {C00, C01, A0}) set(tile, rows < kTileRows ? rows : kTileRows);
    for (const int tile : {C10, C11, A1}) set(tile, rows < kTileRows ? 0 : rows - kTileRows);
    for (const int tile : {B0, B1}) set(tile, kTileRows);
    return shapes;
}

#undef C00
#undef C01
#undef C10
#undef C11
#undef A0
#undef A1
#undef B0
#undef B1

/// Shapes for each number of rows of a block. A table, since gcc 12 takes ldtilecfg to read the
/// first eight bytes alone and may leave out what sets the others.
constexpr auto kShapes = [] {
    std::array<TileShapes, 2 * kTileRows + 1> shapes;
    for (int rows = 0; rows <= 2 * kTileRows; ++rows) shapes[rows] = shapes_of(rows);
    return shapes;
}();

/// The tiles of this thread, shaped for the rows of a block, while the object lives.
class TileProducts {
  public:
    static constexpr int rows = 2 * kTileRows;

    TileProducts() = default;
    ~TileProducts() { _tile_release(); }
    TileProducts(const TileProducts&) = delete;
    TileProducts& operator=(const TileProducts&) = delete;

    /// The sums in c go on from one tile of keys to the next: what float32 rounds there is of no
    /// matter beside the weights, which have eight bits.
    void multiply(const Product& product) {
        shape(product.rows);
        if (product.before != nullptr) shrink(product);
        // gcc 12 does not know that a tile load reads memory.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        const std::int64_t steps = divide_up(2 * product.pairs, kStep);
        const bool two_rows = product.rows > kTileRows;
        const Bf16* b = product.b;
        for (std::int64_t column = 0; column < product.columns; column += kBf16Panel) {
            const bool two_columns = product.columns - column > kWidth;
            const auto panel =
                two_rows
                    ? (two_columns ? multiply_panel<true, true> : multiply_panel<true, false>)
                    : (two_columns ? multiply_panel<false, true> : multiply_panel<false, false>);
            panel(product, b, product.c + column, steps);
            b += product.b_stride;
        }
    }

  private:
    void shape(std::int64_t block_rows) {
        if (block_rows != shaped_rows_) _tile_loadconfig(&kShapes[block_rows]);
        shaped_rows_ = block_rows;
    }

    static void shrink(const Product& product) {
        for (std::int64_t row = 0; row < product.rows; ++row) {
            if (product.before[row] == 1.0F) continue;
            const __m512 factor = _mm512_set1_ps(product.before[row]);
            float* c = product.c + row * product.c_stride;
            for (std::int64_t column = 0; column < product.columns; column += kWidth) {
                _mm512_storeu_ps(c + column, _mm512_mul_ps(_mm512_loadu_ps(c + column), factor));
            }
        }
    }

    std::int64_t shaped_rows_ = 0;
};

constexpr FlashBf16Provider kFlashAmx = {
    .rows = TileProducts::rows,
    .pack = pack_bf16_avx512,
    .attend = attend<TileProducts>,
};

}  // namespace

}  // namespace ablation

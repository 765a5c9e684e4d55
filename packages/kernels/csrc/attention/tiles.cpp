#include "attention/tiles.h"
#include "attention/flash_packed.h"

#include <algorithm>
#include <cmath>

#include "core/cache_sizes.h"
#include "core/parallel.h"
#include "isa/simd.h"

namespace ablation {

namespace {

// Multiply-adds of both products and the exponential, per element of the scores. Order of magnitude
// only: it decides whether a split pays.
constexpr double kNsPerMultiplyAdd = 0.02;
constexpr double kNsPerScore = 0.5;

// Measured with S = 512, 1024, 4096 and D = 64, 128 on one core with 1 MiB of L2 (OpenBLAS with its
// SkylakeX kernels), GFLOP/s at D = 128, S = 4096 unless said otherwise:
// - sgemm packs k and v anew for each tile of query rows, at the cost of some kPackingRows further
//   rows. Flash gives 83 with 32 rows, 84 with 64, 89 with 128, 89 with 256, 92 with 512.
// - Keys per tile hardly matter from 192 on; 256 keys by 512 rows are half of the L2 cache.
// - Fused with few rows loses more than it gains by staying in L2: 66 with 16 rows, 78 with 32,
//   86 with 64, 88 with 128, although their 2 MiB of scores lie in L3.
// - Causal computes half a tile too much on the diagonal. At S = 512, D = 64 flash gives 78 with 64
//   rows, 69 with 128, 60 with 256; from S = 1024 on an eighth of the rows is as good as any.
constexpr std::int64_t kPackingRows = 6;
constexpr std::int64_t kLeastRows = 32;
constexpr std::int64_t kFusedRows = 128;
constexpr std::int64_t kFlashRows = 512;
constexpr std::int64_t kFlashKeys = 256;

std::int64_t causal_rows(std::int64_t sq) {
    return std::clamp<std::int64_t>(sq / 8, kLeastRows, 128);
}

/// The size near `wanted` that cuts `size` into even tiles of whole 16s.
std::int64_t even_tile(std::int64_t size, std::int64_t wanted) {
    const std::int64_t even = divide_up(size, divide_up(size, wanted));
    return std::min(size, divide_up(even, 16) * 16);
}

double sum_of_squares(const TensorView& x) {
    const float* data = x.data;
    return static_cast<double>(simd().sum_squared_difference(data, 0.0F, x.shape.count()));
}

/// Whether |q k| and |scale q k| stay below 1e30 for every query and key, by Cauchy and Schwarz on
/// the norms of the whole arrays. False for NaN.
bool has_moderate_scores(const Call& call) {
    constexpr double kLargest = 1e30;
    const TensorView &q = call.inputs[0], &k = call.inputs[1];
    const double scale = std::max(1.0, std::abs(static_cast<double>(attention_scale(call))));
    const double squares = sum_of_squares(q);
    const double product = squares * (k.present ? sum_of_squares(k) : squares);
    return product * scale * scale < kLargest * kLargest;
}

/// Of one (batch, head) item.
void add_hidden_values(const ItemRows& rows, const AttentionSizes& sizes) {
    if (sizes.sk <= sizes.sq) {
        // The last query sees every key: what its weights leave finite was finite.
        const float* last = rows.output + (sizes.sq - 1) * rows.output_stride;
        if (std::all_of(last, last + sizes.d, [](float x) { return std::isfinite(x); })) return;
    }
    constexpr std::int64_t kColumns = 16;
    for (std::int64_t first = 0; first < sizes.d; first += kColumns) {
        const std::int64_t columns = std::min(kColumns, sizes.d - first);
        float hidden[kColumns] = {};
        for (std::int64_t key = sizes.sk - 1; key > 0; --key) {
            const float* v = rows.v + key * rows.kv_stride + first;
            for (std::int64_t i = 0; i < columns; ++i) hidden[i] += 0.0F * v[i];
            if (key > sizes.sq) continue;
            float* output = rows.output + (key - 1) * rows.output_stride + first;
            for (std::int64_t i = 0; i < columns; ++i) output[i] += hidden[i];
        }
    }
}

}  // namespace

Call without_hidden_keys(const Call& call) {
    Call seen = call;
    auto& attributes = seen.attributes;
    const bool is_causal = attributes.mask_is_causal && call.inputs[3].present;
    attributes.mask_is_causal = false;
    if (!is_causal || !has_moderate_scores(call)) return seen;
    attributes.causal = true;
    attributes.mask_replaces = false;
    seen.inputs[3] = TensorView{};
    return seen;
}

void replace_scores(float* scores, const float* mask, std::int64_t mask_step, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
        const float value = mask[i * mask_step];
        scores[i] = value == 0.0F ? scores[i] : value;
    }
}

void add_hidden_values(const Call& call) {
    const auto& attributes = call.attributes;
    if (!attributes.causal || !attributes.strict) return;
    const AttentionSizes sizes = attention_sizes(call);
    for (std::int64_t item = 0; item < sizes.items(); ++item) {
        add_hidden_values(item_rows(call, sizes, item), sizes);
    }
}

std::int64_t half_l2_floats() {
    return cache_sizes().l2 / 2 / static_cast<std::int64_t>(sizeof(float));
}

AttentionSizes attention_sizes(const Call& call) {
    const Shape& q = call.inputs[0].shape;
    switch (call.attributes.layout) {
        case Layout::bhsd:
            break;
        case Layout::bshd:
            return {q[0], q[2], q[1], call.inputs[1].shape[1], q[3]};
        case Layout::qkv:
            return {q[0], q[3], q[1], q[1], q[4]};
    }
    return {q[0], q[1], q[2], call.inputs[1].shape[2], q[3]};
}

float attention_scale(const Call& call) {
    const auto head_dim = static_cast<float>(call.inputs[0].shape[-1]);
    return call.attributes.scale.value_or(1.0F / std::sqrt(head_dim));
}

ItemRows item_rows(const Call& call, const AttentionSizes& sizes, std::int64_t item) {
    const float* q = call.inputs[0].data;
    float* output = call.output.data;
    const Layout layout = call.attributes.layout;
    if (layout == Layout::bhsd) {
        const std::int64_t query = item * sizes.sq * sizes.d;
        const std::int64_t key = item * sizes.sk * sizes.d;
        return {q + query,
                call.inputs[1].data + key,
                call.inputs[2].data + key,
                output + query,
                sizes.d,
                sizes.d,
                sizes.d};
    }
    const std::int64_t width = sizes.heads * sizes.d;
    const std::int64_t column = item % sizes.heads * sizes.d;
    const std::int64_t query = item / sizes.heads * sizes.sq * width;
    output += query + column;
    if (layout == Layout::qkv) {
        q += 3 * query + column;
        return {q, q + width, q + 2 * width, output, 3 * width, 3 * width, width};
    }
    const std::int64_t key = item / sizes.heads * sizes.sk * width + column;
    return {q + query + column,
            call.inputs[1].data + key,
            call.inputs[2].data + key,
            output,
            width,
            width,
            width};
}

double AttentionSizes::serial_ns(bool causal) const {
    // Causal: the first queries see a triangle, those beyond the keys all of them.
    const double hidden = causal ? 0.5 * static_cast<double>(std::min(sq, sk)) : 0.0;
    const double seen =
        static_cast<double>(visible(causal).sk) * (static_cast<double>(sq) - hidden);
    const double scores = static_cast<double>(items()) * seen;
    return scores * (2.0 * static_cast<double>(d) * kNsPerMultiplyAdd + kNsPerScore);
}

MaskView mask_view(const Call& call) {
    const TensorView& mask = call.inputs[3];
    MaskView view;
    if (!mask.present) return view;
    view.data = mask.data;
    std::int64_t* const strides[] = {&view.key_stride, &view.query_stride, &view.head_stride,
                                     &view.batch_stride};
    std::int64_t stride = 1;
    for (int axis = 0; axis < mask.shape.rank; ++axis) {
        const std::int64_t size = mask.shape[-1 - axis];
        if (size != 1) *strides[axis] = stride;
        stride *= size;
    }
    return view;
}

std::int64_t fused_tile_q(const Call& call) {
    const AttentionSizes sizes = attention_sizes(call);
    const auto& attributes = call.attributes;
    if (attributes.tile_q > 0) return std::min(attributes.tile_q, sizes.sq);
    std::int64_t wanted = std::max(half_l2_floats() / sizes.sk, kFusedRows);
    if (attributes.causal) wanted = std::min(wanted, causal_rows(sizes.sq));
    return even_tile(sizes.sq, wanted);
}

FlashTile flash_tile(const Call& call) {
    static const std::int64_t cores = available_cores();
    const AttentionSizes sizes = attention_sizes(call);
    const auto& attributes = call.attributes;
    std::int64_t wanted = std::min(half_l2_floats() / kFlashKeys, kFlashRows);
    if (attributes.causal) wanted = std::min(wanted, causal_rows(sizes.sq));

    FlashTile tile{0, even_tile(sizes.sk, kFlashKeys)};
    std::int64_t least = 0;
    for (; wanted >= kLeastRows; wanted /= 2) {
        const std::int64_t rows = even_tile(sizes.sq, wanted);
        const std::int64_t tiles = sizes.items() * divide_up(sizes.sq, rows);
        const std::int64_t cost = divide_up(tiles, cores) * (rows + kPackingRows);
        if (tile.q == 0 || cost < least) {
            tile.q = rows;
            least = cost;
        }
    }
    if (attributes.tile_q > 0) tile.q = std::min(attributes.tile_q, sizes.sq);
    if (attributes.tile_k > 0) tile.k = std::min(attributes.tile_k, sizes.sk);
    return tile;
}

std::int64_t flash_worker_bytes(FlashTile tile) {
    const std::int64_t floats = tile.q * (padded_row(tile.k) + 2);
    return align_up(floats * static_cast<std::int64_t>(sizeof(float)));
}

}  // namespace ablation

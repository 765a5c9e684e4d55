#include "attention/tiles.h"
#include "attention/flash_packed.h"

#include <algorithm>
#include <cmath>
#include <limits>

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
/// Rows of heads that are joined: with more of them a product no longer waits for the keys.
constexpr std::int64_t kJoinedRows = 64;

/// With a window w, rows R cost (R + kPackingRows) (R + w) / R each: least where R^2 is
/// kPackingRows w.
std::int64_t causal_rows(std::int64_t sq, std::int64_t window) {
    const std::int64_t rows = std::clamp<std::int64_t>(sq / 8, kLeastRows, 128);
    if (window == 0) return rows;
    const double best = std::sqrt(static_cast<double>(kPackingRows) * static_cast<double>(window));
    return std::min(rows, std::max(kLeastRows, static_cast<std::int64_t>(std::min(best, 128.0))));
}

/// The size near `wanted` that cuts `size` into even tiles of whole 16s.
std::int64_t even_tile(std::int64_t size, std::int64_t wanted) {
    const std::int64_t even = divide_up(size, divide_up(size, wanted));
    return std::min(size, divide_up(even, 16) * 16);
}

/// The mask's strides as if no heads were joined.
MaskView plain_mask_view(const TensorView& mask) {
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

}  // namespace

void cap_scores(float* scores, float softcap, std::int64_t n) {
    const SimdProvider& provider = simd();
    provider.scale(scores, scores, 1.0F / softcap, n);
    provider.tanh(scores, scores, n);
    provider.scale(scores, scores, softcap, n);
}

void replace_scores(float* scores, const float* mask, std::int64_t mask_step, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
        const float value = mask[i * mask_step];
        scores[i] = value == 0.0F ? scores[i] : value;
    }
}

std::int64_t half_l2_floats() {
    return cache_sizes().l2 / 2 / static_cast<std::int64_t>(sizeof(float));
}

AttentionSizes attention_sizes(const Call& call) {
    const Shape &q = call.inputs[0].shape, &k = call.inputs[1].shape, &v = call.inputs[2].shape;
    switch (call.attributes.layout) {
        case Layout::bhsd:
            break;
        case Layout::bshd:
            return {q[0], q[2], q[1], k[1], q[3], k[2], v[3]};
        case Layout::qkv: {
            if (q.rank == 5) return {q[0], q[3], q[1], q[1], q[4], q[3], q[4]};
            const std::int64_t heads = call.attributes.n_heads;
            return {q[0], heads, q[1], q[1], q[3], (q[2] - heads) / 2, q[3]};
        }
    }
    return {q[0], q[1], q[2], k[2], q[3], k[1], v[3]};
}

AttentionSizes joined_sizes(const Call& call) {
    static const std::int64_t cores = available_cores();
    AttentionSizes sizes = attention_sizes(call);
    if (sizes.sharing() == 1 || call.attributes.causal) return sizes;
    if (call.attributes.layout == Layout::qkv) return sizes;
    // The heads of one query lie one behind another in layout bshd too.
    if (call.attributes.layout == Layout::bshd && sizes.sq > 1) return sizes;
    const MaskView mask = plain_mask_view(call.inputs[3]);
    if (sizes.sq > 1 && mask.head_stride != sizes.sq * mask.query_stride) return sizes;
    std::int64_t joined = std::min(sizes.sharing(), kJoinedRows / sizes.sq);
    const auto fits = [&] {
        return sizes.sharing() % joined == 0 && sizes.items() / joined >= cores;
    };
    while (joined > 1 && !fits()) --joined;
    if (joined < 2) return sizes;
    sizes.heads /= joined;
    sizes.sq *= joined;
    return sizes;
}

VisibleKeys visible_keys(const Call& call, const AttentionSizes& sizes) {
    const auto& attributes = call.attributes;
    return {sizes.sk, attributes.causal, attributes.causal ? attributes.window : 0};
}

float attention_scale(const Call& call) {
    const auto head_dim = static_cast<float>(call.inputs[0].shape[-1]);
    return call.attributes.scale.value_or(1.0F / std::sqrt(head_dim));
}

ItemRows item_rows(const Call& call, const AttentionSizes& sizes, std::int64_t item) {
    const TensorView &q = call.inputs[0], &k = call.inputs[1], &v = call.inputs[2];
    const auto [batch, heads, sq, sk, d, kv_heads, dv] = sizes;
    const std::int64_t first = item / heads * sq * heads + item % heads;
    const std::int64_t kv_item = item / sizes.sharing();
    ItemRows rows{};
    if (call.attributes.layout == Layout::qkv) {
        const std::int64_t stride = (heads + 2 * kv_heads) * d;
        const float* row = q.data + item / heads * sq * stride;
        rows.q = row + item % heads * d;
        rows.k = row + (heads + kv_item % kv_heads) * d;
        rows.v = rows.k + kv_heads * d;
        rows.q_stride = rows.k_stride = rows.v_stride = stride;
        rows.output = call.output.data + first * d;
        rows.output_stride = heads * d;
        return rows;
    }
    if (call.attributes.layout == Layout::bhsd || q.shape[1] == 1) {
        rows.q = q.data + item * sq * d;
        rows.output = call.output.data + item * sq * dv;
        rows.q_stride = d;
        rows.output_stride = dv;
    } else {
        rows.q = q.data + first * d;
        rows.output = call.output.data + first * dv;
        rows.q_stride = heads * d;
        rows.output_stride = heads * dv;
    }
    if (call.attributes.layout == Layout::bhsd) {
        rows.k = k.data + kv_item * sk * d;
        rows.v = v.data + kv_item * sk * dv;
        rows.k_stride = d;
        rows.v_stride = dv;
    } else {
        const std::int64_t first_key = kv_item / kv_heads * sk * kv_heads + kv_item % kv_heads;
        rows.k = k.data + first_key * d;
        rows.v = v.data + first_key * dv;
        rows.k_stride = kv_heads * d;
        rows.v_stride = kv_heads * dv;
    }
    return rows;
}

double AttentionSizes::serial_ns(bool causal, std::int64_t window) const {
    const auto keys = static_cast<double>(sk);
    // Causal: the first n queries see a triangle, those beyond the keys all of them. A window hides
    // what the queries so much earlier saw.
    const auto seen_by = [&](std::int64_t n) {
        const auto queries = static_cast<double>(std::max<std::int64_t>(n, 0));
        const double triangle = std::min(queries, keys);
        return triangle * (queries - 0.5 * triangle);
    };
    double seen = keys * static_cast<double>(sq);
    if (causal) seen = seen_by(sq) - (window > 0 ? seen_by(sq - window) : 0.0);
    const double scores = static_cast<double>(items()) * seen;
    return scores * (static_cast<double>(d + dv) * kNsPerMultiplyAdd + kNsPerScore);
}

bool MaskView::hides(std::int64_t item, std::int64_t heads, std::int64_t query,
                     std::int64_t queries, std::int64_t key, std::int64_t keys) const {
    const std::int64_t n = key_stride == 0 ? 1 : keys;
    for (std::int64_t i = 0; i < (query_stride == 0 ? 1 : queries); ++i) {
        const float* values = row(item, heads, query + i, key);
        if (!std::all_of(values, values + n,
                         [](float x) { return x == -std::numeric_limits<float>::infinity(); })) {
            return false;
        }
    }
    return true;
}

MaskView mask_view(const Call& call, const AttentionSizes& sizes) {
    MaskView view = plain_mask_view(call.inputs[3]);
    const AttentionSizes given = attention_sizes(call);
    if (given.sq == 1) view.query_stride = view.head_stride;
    view.head_stride *= given.heads / sizes.heads;
    return view;
}

std::int64_t fused_tile_q(const Call& call) {
    const AttentionSizes sizes = joined_sizes(call);
    const auto& attributes = call.attributes;
    if (attributes.tile_q > 0) return std::min(attributes.tile_q, sizes.sq);
    std::int64_t wanted = std::max(half_l2_floats() / sizes.sk, kFusedRows);
    if (attributes.causal) wanted = std::min(wanted, causal_rows(sizes.sq, attributes.window));
    return even_tile(sizes.sq, wanted);
}

FlashTile flash_tile(const Call& call) {
    static const std::int64_t cores = available_cores();
    const AttentionSizes sizes = joined_sizes(call);
    const auto& attributes = call.attributes;
    std::int64_t wanted = std::min(half_l2_floats() / kFlashKeys, kFlashRows);
    if (attributes.causal) wanted = std::min(wanted, causal_rows(sizes.sq, attributes.window));

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

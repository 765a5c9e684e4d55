// What the attention kernels share: sizes, the mask's strides, tile sizes, the body of the fused
// form.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/types.h"

namespace ablation {

struct AttentionSizes {
    std::int64_t batch, heads, sq, sk, d;
    std::int64_t kv_heads;  ///< of k and v; divides heads
    std::int64_t dv;        ///< head size of v and the output

    std::int64_t items() const { return batch * heads; }
    std::int64_t kv_items() const { return batch * kv_heads; }
    /// Consecutive query heads that read one head of k and v.
    std::int64_t sharing() const { return heads / kv_heads; }
    /// Without the keys that no query sees under a causal mask.
    AttentionSizes visible(bool causal) const {
        AttentionSizes seen = *this;
        if (causal) seen.sk = std::min(sq, sk);
        return seen;
    }
    /// window: keys that a query sees at most, where causal; 0: no limit.
    double serial_ns(bool causal, std::int64_t window = 0) const;
};
/// Data pointers are not read.
AttentionSizes attention_sizes(const Call& call);
/// The same with fewer heads of more queries, where few queries share keys: query heads that lie
/// one behind another and read the same keys count as one head, so that its tiles read the keys
/// once for all. Not a matter of the threads in use. Data pointers are not read.
AttentionSizes joined_sizes(const Call& call);

/// The keys that a query sees but for the mask: [first, end), perhaps none.
struct VisibleKeys {
    std::int64_t sk;
    bool causal;
    std::int64_t window;  ///< 0: none

    std::int64_t first(std::int64_t query) const {
        return window == 0 ? 0 : std::clamp<std::int64_t>(query + 1 - window, 0, sk);
    }
    std::int64_t end(std::int64_t query) const { return causal ? std::min(sk, query + 1) : sk; }
};
VisibleKeys visible_keys(const Call& call, const AttentionSizes& sizes);

/// The factor of the scores: as given, or 1 / sqrt(head_dim).
float attention_scale(const Call& call);

/// The arrays of one (batch, head) item in any layout: element d of row r is at data[r * stride +
/// d]. `sizes` are attention_sizes or joined_sizes.
struct ItemRows {
    const float *q, *k, *v;
    float* output;
    std::int64_t q_stride, k_stride, v_stride, output_stride;
};
ItemRows item_rows(const Call& call, const AttentionSizes& sizes, std::int64_t item);

/// The mask as (B, H, Sq, Sk) with stride 0 along axes that broadcast.
struct MaskView {
    const float* data = nullptr;  ///< null: no mask
    std::int64_t batch_stride = 0, head_stride = 0, query_stride = 0, key_stride = 0;

    /// First mask element of a row of scores.
    const float* row(std::int64_t item, std::int64_t heads, std::int64_t query,
                     std::int64_t key) const {
        if (data == nullptr) return nullptr;
        return data + item / heads * batch_stride + item % heads * head_stride +
               query * query_stride + key * key_stride;
    }
    /// Whether it is -infinity for all of these queries and keys.
    bool hides(std::int64_t item, std::int64_t heads, std::int64_t query, std::int64_t queries,
               std::int64_t key, std::int64_t keys) const;
};
/// `sizes` are attention_sizes or joined_sizes.
MaskView mask_view(const Call& call, const AttentionSizes& sizes);

/// Floats that half of a core's L2 cache holds; the other half is for what passes through.
std::int64_t half_l2_floats();

/// Query rows per tile of the fused form: its scores take about half of the L2 cache, more where
/// that is too few rows for a good sgemm.
std::int64_t fused_tile_q(const Call& call);

struct FlashTile {
    std::int64_t q, k;
};
/// Query rows and keys per tile of the flash form: the scores take at most half of the L2 cache,
/// with enough tiles of rows to keep every core busy. The same for any number of threads, so that
/// results are too.
FlashTile flash_tile(const Call& call);
/// Bytes of scratch that one thread needs for such a tile.
std::int64_t flash_worker_bytes(FlashTile tile);

/// softcap tanh(score / softcap) for each score.
void cap_scores(float* scores, float softcap, std::int64_t n);

/// The mask in the place of the scores where it is not 0; NaN is not 0.
void replace_scores(float* scores, const float* mask, std::int64_t mask_step, std::int64_t n);

/// What a row of weighted values is multiplied by: 1 / sum, and of a query that sees no key 0, or
/// NaN if strict.
inline float row_factor(float sum, bool strict) {
    return sum == 0.0F && !strict ? 0.0F : 1.0F / sum;
}

/// Turns a row of n scores into exp(cap(score) + mask - maximum) in place and returns their sum; a
/// row without a key to see becomes zeros with sum 0. `mask` may be null; element i is at i *
/// mask_step. Of the attributes it reads softcap and mask_replaces.
using SoftmaxRow = float (*)(float* scores, const float* mask, std::int64_t mask_step,
                             const Attributes& attributes, std::int64_t n);

/// y = x * factor, as SimdProvider::scale.
using ScaleRow = void (*)(float* y, const float* x, float factor, std::int64_t n);

/// The fused form, all items on the calling thread.
void fused_serial(const Call& call, SoftmaxRow softmax_row, ScaleRow scale_row);

}  // namespace ablation

#include "attention/attention.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <variant>

#include "attention/tiles.h"
#include "core/check.h"
#include "core/parallel.h"

namespace ablation {

namespace {

void require_four_axes(const char* argument, const TensorView& view) {
    require_rank("attention", argument, view, 1);
    if (view.shape.rank != 4) {
        reject("attention", argument, "has shape " + view.shape.str(),
               "4 axes (batch, heads, seq_len, head_dim)");
    }
}

void require_mask(const TensorView& mask, const Shape& scores) {
    const std::string accepted = "a shape that broadcasts to (B, H, Sq, Sk) = " + scores.str();
    bool fits = mask.shape.rank <= 4;
    for (int axis = 1; fits && axis <= mask.shape.rank; ++axis) {
        fits = mask.shape[-axis] == 1 || mask.shape[-axis] == scores[-axis];
    }
    if (!fits) reject("attention", "mask", "has shape " + mask.shape.str(), accepted);
}

/// The BLAS interface counts rows, columns and strides in 32 bits.
void require_blas_sizes(const TensorView& q, const TensorView& k) {
    constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
    if (q.shape[2] > kLimit || q.shape[3] > kLimit) {
        reject("attention", "q", "has shape " + q.shape.str(),
               "a seq_len and a head_dim of at most 2147483647");
    }
    if (score_stride(k.shape[2]) > kLimit) {
        reject("attention", "k", "has shape " + k.shape.str(), "a seq_len of at most 2147483616");
    }
}

void require_tile(const char* argument, std::int64_t value) {
    if (value < 0) {
        reject("attention", argument, "is " + std::to_string(value),
               "a number of rows, or 0 for the kernel's own choice");
    }
}

}  // namespace

Shape infer_attention(const Call& call) {
    const auto& [q, k, v, mask] = call.inputs;
    require_four_axes("q", q);
    require_four_axes("k", k);
    require_four_axes("v", v);
    const Shape keys{q.shape[0], q.shape[1], k.shape[2], q.shape[3]};
    require_shape("attention", "k", k, keys, "(B, H, Sk, D) with B, H and D of q");
    require_shape("attention", "v", v, keys, "the shape of k");
    require_blas_sizes(q, k);
    if (mask.present) require_mask(mask, {q.shape[0], q.shape[1], q.shape[2], k.shape[2]});
    const auto& attributes = std::get<AttentionAttributes>(call.attributes);
    require_tile("tile_q", attributes.tile_q);
    require_tile("tile_k", attributes.tile_k);
    if (std::min(attributes.tile_q, q.shape[2]) * score_stride(k.shape[2]) > kMaxElements) {
        reject("attention", "tile_q", "is " + std::to_string(attributes.tile_q),
               "at most 2^46 scores in a tile of rows");
    }
    return q.shape;
}

std::int64_t attention_fused_scratch(const Call& call, int) {
    const std::int64_t floats = fused_tile_q(call) * score_stride(attention_sizes(call).sk);
    return align_up(floats * static_cast<std::int64_t>(sizeof(float)));
}

std::int64_t attention_fused_parallel_scratch(const Call& call, int threads) {
    return threads * attention_fused_scratch(call, threads);
}

std::int64_t attention_flash_scratch(const Call& call, int threads) {
    return threads * flash_worker_bytes(flash_tile(call));
}

bool attention_prefers_flash(const Call& call) {
    // Both run at the speed of sgemm while the scores of a fused tile stay in L2.
    return attention_sizes(call).items() < num_threads() ||
           flash_worker_bytes(flash_tile(call)) < attention_fused_scratch(call, 1);
}

}  // namespace ablation

// fused: the (Sq, Sk) matrix of scores never exists. A tile of query rows gets its scores in
// scratch by one sgemm, their softmax in place while they are in the cache, and its output by a
// second sgemm. Division by the row's sum is left to the D output elements instead of the Sk
// weights.
//
// attention_fused_simd: the softmax in vector registers.
// attention_fused_simd_parallel: (batch, head) items over the thread pool, each as above.
//
// Cost: 4 Sq Sk D FLOPs an item; sgemm packs k and v once per tile, which makes small tiles slow.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "attention/attention.h"
#include "attention/flash_packed.h"
#include "attention/tiles.h"
#include "core/blas.h"
#include "core/parallel.h"
#include "core/table.h"
#include "isa/simd.h"

namespace ablation {

namespace {

float softmax_row_simd(float* scores, const float* mask, std::int64_t mask_step, bool replaces,
                       std::int64_t n) {
    const SimdProvider& provider = simd();
    if (mask != nullptr && replaces) {
        replace_scores(scores, mask, mask_step, n);
    } else if (mask != nullptr) {
        provider.add(scores, scores, 1, mask, mask_step, n);
    }
    const float maximum = provider.max(scores, n);
    if (maximum == -std::numeric_limits<float>::infinity()) {
        std::fill_n(scores, n, 0.0F);
        return 0.0F;
    }
    return provider.exp_shifted(scores, scores, maximum, n);
}

/// Query rows of one (batch, head) item.
void fused_item(const Call& call, std::int64_t item, std::byte* scratch, SoftmaxRow softmax_row,
                ScaleRow scale_row) {
    const AttentionSizes sizes = attention_sizes(call);
    const auto& attributes = call.attributes;
    const MaskView mask = mask_view(call);
    const std::int64_t tile_q = fused_tile_q(call);
    const std::int64_t stride = padded_row(sizes.sk);
    const ItemRows arrays = item_rows(call, sizes, item);
    auto* scores = reinterpret_cast<float*>(scratch);

    for (std::int64_t begin = 0; begin < sizes.sq; begin += tile_q) {
        const std::int64_t rows = std::min(tile_q, sizes.sq - begin);
        const std::int64_t visible =
            attributes.causal ? std::min(sizes.sk, begin + rows) : sizes.sk;
        sgemm(true, rows, visible, sizes.d, attention_scale(call),
              arrays.q + begin * arrays.q_stride, arrays.q_stride, arrays.k, arrays.kv_stride, 0.0F,
              scores, stride);
        // The sums wait in the pad at the end of the rows.
        for (std::int64_t row = 0; row < rows; ++row) {
            float* row_scores = scores + row * stride;
            const std::int64_t n = attributes.causal ? std::min(visible, begin + row + 1) : visible;
            const float* row_mask = mask.row(item, sizes.heads, begin + row, 0);
            row_scores[stride - 1] =
                softmax_row(row_scores, row_mask, mask.key_stride, attributes.mask_replaces, n);
            std::fill(row_scores + n, row_scores + visible, 0.0F);
        }
        float* output = arrays.output + begin * arrays.output_stride;
        sgemm(false, rows, sizes.d, visible, 1.0F, scores, stride, arrays.v, arrays.kv_stride, 0.0F,
              output, arrays.output_stride);
        for (std::int64_t row = 0; row < rows; ++row) {
            const float sum = scores[row * stride + stride - 1];
            float* output_row = output + row * arrays.output_stride;
            scale_row(output_row, output_row, row_factor(sum, attributes.strict), sizes.d);
        }
    }
}

}  // namespace

void fused_serial(const Call& given, SoftmaxRow softmax_row, ScaleRow scale_row) {
    const Call call = without_hidden_keys(given);
    const std::int64_t items = attention_sizes(call).items();
    for (std::int64_t item = 0; item < items; ++item) {
        fused_item(call, item, call.scratch, softmax_row, scale_row);
    }
    add_hidden_values(call);
}

void attention_fused_simd(const Call& call) { fused_serial(call, softmax_row_simd, simd().scale); }

void attention_fused_simd_parallel(const Call& given) {
    const Call call = without_hidden_keys(given);
    const AttentionSizes sizes = attention_sizes(call);
    const bool causal = call.attributes.causal;
    const std::int64_t worker_bytes = attention_fused_scratch(call, 1);
    parallel_items(sizes.items(),
                   std::min(call.threads, worthwhile_threads(sizes.serial_ns(causal))),
                   [&](std::int64_t item, int worker) {
                       fused_item(call, item, call.scratch + worker * worker_bytes,
                                  softmax_row_simd, simd().scale);
                   });
    add_hidden_values(call);
}

}  // namespace ablation

// fused: the (Sq, Sk) matrix of scores never exists. A tile of query rows gets its scores in
// scratch by one sgemm, their softmax in place while they are in the cache, and its output by a
// second sgemm. Division by the row's sum is left to the D output elements instead of the Sk
// weights.
//
// attention_fused_simd: the softmax in vector registers.
// attention_fused_simd_parallel: (batch, head) items over the thread pool, each as above.
//
// Cost: 4 Sq Sk D FLOPs an item; sgemm packs k and v once per tile, which makes small tiles slow.
// Of a window, a tile takes the keys that its rows see.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "attention/attention.h"
#include "attention/flash_packed.h"
#include "attention/hidden_keys.h"
#include "attention/tiles.h"
#include "core/blas.h"
#include "core/parallel.h"
#include "core/table.h"
#include "isa/simd.h"

namespace ablation {

namespace {

float softmax_row_simd(float* scores, const float* mask, std::int64_t mask_step,
                       const Attributes& attributes, std::int64_t n) {
    const SimdProvider& provider = simd();
    if (attributes.softcap > 0.0F) cap_scores(scores, attributes.softcap, n);
    if (mask != nullptr && attributes.mask_replaces) {
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
void fused_item(const Call& call, const AttentionSizes& sizes, std::int64_t item,
                std::byte* scratch, SoftmaxRow softmax_row, ScaleRow scale_row) {
    const auto& attributes = call.attributes;
    const MaskView mask = mask_view(call, sizes);
    const VisibleKeys visible = visible_keys(call, sizes);
    const std::int64_t tile_q = fused_tile_q(call);
    const std::int64_t stride = padded_row(sizes.sk);
    const ItemRows arrays = item_rows(call, sizes, item);
    auto* scores = reinterpret_cast<float*>(scratch);

    for (std::int64_t begin = 0; begin < sizes.sq; begin += tile_q) {
        const std::int64_t rows = std::min(tile_q, sizes.sq - begin);
        const std::int64_t first = visible.first(begin);
        const std::int64_t keys = visible.end(begin + rows - 1) - first;
        if (keys > 0) {
            sgemm(true, rows, keys, sizes.d, attention_scale(call),
                  arrays.q + begin * arrays.q_stride, arrays.q_stride,
                  arrays.k + first * arrays.k_stride, arrays.k_stride, 0.0F, scores, stride);
        }
        // The sums wait in the pad at the end of the rows.
        for (std::int64_t row = 0; row < rows; ++row) {
            const std::int64_t query = begin + row;
            float* row_scores = scores + row * stride;
            const std::int64_t from = visible.first(query) - first;
            const std::int64_t to = visible.end(query) - first;
            const float* row_mask = mask.row(item, sizes.heads, query, first + from);
            row_scores[stride - 1] = from == to
                                         ? 0.0F
                                         : softmax_row(row_scores + from, row_mask, mask.key_stride,
                                                       attributes, to - from);
            std::fill(row_scores, row_scores + from, 0.0F);
            std::fill(row_scores + to, row_scores + keys, 0.0F);
        }
        float* output = arrays.output + begin * arrays.output_stride;
        if (keys > 0) {
            sgemm(false, rows, sizes.dv, keys, 1.0F, scores, stride,
                  arrays.v + first * arrays.v_stride, arrays.v_stride, 0.0F, output,
                  arrays.output_stride);
        }
        for (std::int64_t row = 0; row < rows; ++row) {
            const float sum = scores[row * stride + stride - 1];
            float* output_row = output + row * arrays.output_stride;
            if (keys == 0) std::fill_n(output_row, sizes.dv, 0.0F);
            scale_row(output_row, output_row, row_factor(sum, attributes.strict), sizes.dv);
        }
    }
}

}  // namespace

void fused_serial(const Call& given, SoftmaxRow softmax_row, ScaleRow scale_row) {
    const Call call = without_hidden_keys(given);
    const AttentionSizes sizes = joined_sizes(call);
    for (std::int64_t item = 0; item < sizes.items(); ++item) {
        fused_item(call, sizes, item, call.scratch, softmax_row, scale_row);
    }
    add_hidden_values(call);
}

void attention_fused_simd(const Call& call) { fused_serial(call, softmax_row_simd, simd().scale); }

void attention_fused_simd_parallel(const Call& given) {
    const Call call = without_hidden_keys(given);
    const AttentionSizes sizes = joined_sizes(call);
    const auto& attributes = call.attributes;
    const double serial_ns = sizes.serial_ns(attributes.causal, attributes.window);
    const std::int64_t worker_bytes = attention_fused_scratch(call, 1);
    parallel_items(sizes.items(), std::min(call.threads, worthwhile_threads(serial_ns)),
                   [&](std::int64_t item, int worker) {
                       fused_item(call, sizes, item, call.scratch + worker * worker_bytes,
                                  softmax_row_simd, simd().scale);
                   });
    add_hidden_values(call);
}

}  // namespace ablation

#include "attention/attention.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "attention/bf16.h"
#include "attention/flash_packed.h"
#include "attention/hidden_keys.h"
#include "attention/tiles.h"
#include "core/blas.h"
#include "core/check.h"
#include "core/parallel.h"

namespace ablation {

namespace {

/// The axes of q in a layout, as its errors name them.
const char* axes_of(Layout layout) {
    switch (layout) {
        case Layout::bhsd:
            break;
        case Layout::bshd:
            return "4 axes (batch, seq_len, heads, head_dim) in layout 'bshd'";
        case Layout::qkv:
            return "5 axes (batch, seq_len, 3, heads, head_dim) in layout 'qkv', or with n_heads 4 "
                   "axes (batch, seq_len, heads of q, k and v, head_dim)";
    }
    return "4 axes (batch, heads, seq_len, head_dim)";
}

void require_axes(const char* op, const char* argument, const TensorView& view, Layout layout) {
    require_rank(op, argument, view, 1);
    const bool is_stack = layout == Layout::qkv && view.shape.rank == 5 && view.shape[2] == 3;
    if (view.shape.rank != 4 && !is_stack) {
        reject(op, argument, "has shape " + view.shape.str(), axes_of(layout));
    }
}

/// k and v: both given with the axes of the layout.
void require_given_keys(const char* op, const Call& call, Layout layout) {
    const TensorView &k = call.inputs[1], &v = call.inputs[2];
    if (!k.present) reject(op, "k", "is missing", axes_of(layout));
    if (!v.present) reject(op, "v", "is missing", axes_of(layout));
    require_axes(op, "k", k, layout);
    require_axes(op, "v", v, layout);
}

/// k and v with the heads and head_dim of q.
void require_equal_keys(const char* op, const Call& call) {
    const TensorView &q = call.inputs[0], &k = call.inputs[1], &v = call.inputs[2];
    require_given_keys(op, call, Layout::bhsd);
    Shape keys = q.shape;
    keys[2] = k.shape[2];
    require_shape(op, "k", k, keys, "the shape of q but for seq_len, its heads included");
    require_shape(op, "v", v, keys, "the shape of k");
}

/// The heads of q among those of one array with 4 axes.
void require_n_heads(const Call& call, Layout layout) {
    const Shape& q = call.inputs[0].shape;
    const std::int64_t heads = call.attributes.n_heads;
    const std::string given = "is " + std::to_string(heads);
    if (layout != Layout::qkv || q.rank == 5) {
        if (heads != 0) reject("attention", "n_heads", given, "0, but for 4 axes in layout 'qkv'");
        return;
    }
    const bool leaves_pairs = heads > 0 && heads <= q[2] - 2 && (q[2] - heads) % 2 == 0;
    if (!leaves_pairs || heads % ((q[2] - heads) / 2) != 0) {
        reject("attention", "n_heads", given + " of " + std::to_string(q[2]) + " heads",
               "the heads of q, so that half of the others, those of k, divides them");
    }
}

/// k and v, whose heads may be fewer than those of q, and v with a head_dim of its own; or both
/// inside q.
void require_keys(const Call& call, Layout layout) {
    constexpr const char* kOp = "attention";
    const TensorView &q = call.inputs[0], &k = call.inputs[1], &v = call.inputs[2];
    if (layout == Layout::qkv) {
        if (k.present) reject(kOp, "k", "is given", "None in layout 'qkv', q holds it");
        if (v.present) reject(kOp, "v", "is given", "None in layout 'qkv', q holds it");
        return;
    }
    require_given_keys(kOp, call, layout);
    const int sequence = layout == Layout::bshd ? 1 : 2;
    const int heads = 3 - sequence;
    Shape keys = q.shape;
    keys[sequence] = k.shape[sequence];
    if (q.shape[heads] % k.shape[heads] == 0) keys[heads] = k.shape[heads];
    require_shape(kOp, "k", k, keys,
                  "the shape of q but for seq_len and heads, which divide those of q");
    Shape values = k.shape;
    values[3] = v.shape[3];
    require_shape(kOp, "v", v, values, "the shape of k but for head_dim");
}

void require_window(const Call& call) {
    const auto& attributes = call.attributes;
    const std::string given = "is " + std::to_string(attributes.window);
    if (attributes.window < 0) {
        reject("attention", "window", given, "a number of keys, or 0 for no window");
    }
    const bool has_order =
        attributes.causal || (attributes.mask_is_causal && call.inputs[3].present);
    if (attributes.window > 0 && !has_order) {
        reject("attention", "window", given + " without causal",
               "0, or causal as well, or a mask with mask_is_causal");
    }
}

/// A cap and its reciprocal are normal numbers.
void require_softcap(float softcap) {
    if (softcap == 0.0F || (softcap >= 0x1p-126F && softcap <= 0x1p126F)) return;
    reject("attention", "softcap", "is " + std::to_string(softcap),
           "a number from 2^-126 to 2^126, or 0 for no cap");
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
void require_blas_sizes(const char* op, const Call& call, const AttentionSizes& sizes) {
    constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
    const TensorView &q = call.inputs[0], &k = call.inputs[1];
    const Layout layout = call.attributes.layout;
    const std::int64_t between_rows = layout == Layout::qkv
                                          ? (sizes.heads + 2 * sizes.kv_heads) * sizes.d
                                      : layout == Layout::bshd ? sizes.heads * sizes.d
                                                               : sizes.d;
    if (sizes.sq > kLimit || between_rows > kLimit) {
        reject(op, "q", "has shape " + q.shape.str(),
               "a seq_len and a head_dim of at most 2147483647, the heads of a row together");
    }
    if ((layout == Layout::bshd ? sizes.heads : 1) * sizes.dv > kLimit) {
        reject(op, "v", "has shape " + call.inputs[2].shape.str(),
               "a head_dim of at most 2147483647, times the heads of q in layout 'bshd'");
    }
    if (padded_row(sizes.sk) > kLimit) {
        const bool own = k.present;
        reject(op, own ? "k" : "q", "has shape " + (own ? k : q).shape.str(),
               "a seq_len of at most 2147483616");
    }
}

void require_tile(const char* argument, std::int64_t value) {
    if (value < 0 || value > std::numeric_limits<std::int32_t>::max()) {
        reject("attention", argument, "is " + std::to_string(value),
               "a number of rows, or 0 for the kernel's own choice");
    }
}

}  // namespace

Shape infer_attention(const Call& call) {
    const TensorView &q = call.inputs[0], &mask = call.inputs[3];
    const auto& attributes = call.attributes;
    require_axes("attention", "q", q, attributes.layout);
    require_n_heads(call, attributes.layout);
    require_keys(call, attributes.layout);
    const AttentionSizes sizes = attention_sizes(call);
    require_blas_sizes("attention", call, sizes);
    if (mask.present) require_mask(mask, {sizes.batch, sizes.heads, sizes.sq, sizes.sk});
    require_window(call);
    require_softcap(attributes.softcap);
    require_tile("tile_q", attributes.tile_q);
    require_tile("tile_k", attributes.tile_k);
    if (std::min(attributes.tile_q, sizes.sq) * padded_row(sizes.sk) > kMaxElements) {
        reject("attention", "tile_q", "is " + std::to_string(attributes.tile_q),
               "at most 2^46 scores in a tile of rows");
    }
    if (attributes.layout == Layout::bhsd) return {sizes.batch, sizes.heads, sizes.sq, sizes.dv};
    return {sizes.batch, sizes.sq, sizes.heads, sizes.dv};
}

Shape infer_attention_lse(const Call& call) {
    constexpr const char* kOp = "attention_lse";
    const Shape& q = call.inputs[0].shape;
    require_axes(kOp, "q", call.inputs[0], Layout::bhsd);
    require_equal_keys(kOp, call);
    require_blas_sizes(kOp, call, attention_sizes(call));
    return {q.count() + q.count() / q[-1]};
}

AttentionSizes attention_bf16_sizes(const TensorView& q, const TensorView& k, const TensorView& v) {
    constexpr const char* kOp = "attention_bf16";
    Call call;
    call.inputs[0] = q;
    call.inputs[1] = k;
    call.inputs[2] = v;
    require_axes(kOp, "q", q, Layout::bhsd);
    require_equal_keys(kOp, call);
    require_blas_sizes(kOp, call, attention_sizes(call));
    return attention_sizes(call);
}

Shape infer_attention_backward(const Call& call) {
    constexpr const char* kOp = "attention_backward";
    const TensorView &q = call.inputs[0], &k = call.inputs[1], &v = call.inputs[2];
    const TensorView &output = call.inputs[3], &lse = call.inputs[4];
    const TensorView& grad_output = call.inputs[5];
    require_axes(kOp, "q", q, Layout::bhsd);
    require_equal_keys(kOp, call);
    require_blas_sizes(kOp, call, attention_sizes(call));
    require_shape(kOp, "output", output, q.shape, "the shape of q");
    require_shape(kOp, "lse", lse, {q.shape[0], q.shape[1], q.shape[2]},
                  "the shape of q without head_dim");
    require_shape(kOp, "grad_output", grad_output, q.shape, "the shape of q");
    return {q.shape.count() + k.shape.count() + v.shape.count()};
}

std::int64_t attention_fused_scratch(const Call& call, int) {
    return larger_of_both(call, [](const Call& either) {
        const std::int64_t floats = fused_tile_q(either) * padded_row(attention_sizes(either).sk);
        return align_up(floats * static_cast<std::int64_t>(sizeof(float)));
    });
}

std::int64_t attention_fused_parallel_scratch(const Call& call, int threads) {
    return threads * attention_fused_scratch(call, threads);
}

std::int64_t attention_flash_scratch(const Call& call, int threads) {
    return larger_of_both(
        call, [&](const Call& either) { return threads * flash_worker_bytes(flash_tile(either)); });
}

// flash_packed, but where the BLAS is Accelerate or fewer than 8 queries share keys (a decoder's
// step: on an Emerald Rapids flash_simd_parallel is 1.5 to 3.8 times as fast with 1 to 4 on 512 keys and
// more). Measured on one thread of a Zen 4 server with AVX-512, the fastest of many calls in turns,
// its speed over that of the better of fused_simd_parallel and flash_simd_parallel (full, causal):
// 1.28, 1.36 at (B, H, S, D) = (1, 4, 32, 16); 1.09, 1.33 at (1, 4, 128, 64); 1.06, 1.28 at
// (1, 12, 256, 64); 1.11, 1.22 at (1, 1, 1024, 64); 1.13, 1.16 at (1, 1, 4096, 64); 1.05, 1.17 at
// (1, 1, 1024, 128); 1.08, 1.14 at (1, 1, 2048, 128).
const char* best_attention(const Call& call) {
    // Accelerate multiplies matrices in units of their own, which no vector code can reach.
    const bool own_products = std::string_view(blas_info().provider) != "accelerate";
    // So few queries don't earn what packing the keys costs, which BLAS leaves where they are.
    constexpr std::int64_t kPackingQueries = 8;
    const AttentionSizes sizes = joined_sizes(call);
    const bool packs = own_products && sizes.sharing() * sizes.sq >= kPackingQueries;
    if (packs) return "attention_flash_packed_simd_parallel";
    // Both run at the speed of sgemm while the scores of a fused tile stay in L2.
    const bool flash = sizes.items() < num_threads() ||
                       flash_worker_bytes(flash_tile(call)) < attention_fused_scratch(call, 1);
    return flash ? "attention_flash_simd_parallel" : "attention_fused_simd_parallel";
}

}  // namespace ablation

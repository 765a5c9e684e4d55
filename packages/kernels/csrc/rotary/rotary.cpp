// Shape rule of rotary.
#include "rotary/rotary.h"

#include "core/check.h"

namespace ablation {

Shape infer_rotary(const Call& call) {
    const TensorView &x = call.inputs[0], &cos = call.inputs[1];
    require_rank("rotary", "x", x, 1);
    if (call.attributes.layout == Layout::qkv) {
        reject("rotary", "layout", "is 'qkv'", "'bhsd', 'bshd'");
    }
    const bool heads_last = call.attributes.layout == Layout::bshd;
    if (x.shape.rank != 4 || x.shape[3] < 2) {
        reject("rotary", "x", "has shape " + x.shape.str(),
               heads_last ? "4 axes (batch, seq_len, heads, head_dim), head_dim at least 2"
                          : "4 axes (batch, heads, seq_len, head_dim), head_dim at least 2");
    }
    const std::int64_t seq_len = x.shape[heads_last ? 1 : 2], most = x.shape[3] / 2;
    const bool fits =
        cos.shape.rank == 2 && cos.shape[0] == seq_len && cos.shape[1] >= 1 && cos.shape[1] <= most;
    if (!fits) {
        reject("rotary", "cos", "has shape " + cos.shape.str(),
               "(" + std::to_string(seq_len) + ", 1 to " + std::to_string(most) +
                   "): seq_len and half of the elements of x that are turned");
    }
    const std::int64_t heads = x.shape[heads_last ? 2 : 1], turned = call.attributes.n_heads;
    if (turned < 0 || turned > heads) {
        reject("rotary", "n_heads", "is " + std::to_string(turned),
               "0 for all heads of x, up to " + std::to_string(heads));
    }
    require_shape("rotary", "sin", call.inputs[2], cos.shape, "the shape of cos");
    return x.shape;
}

}  // namespace ablation

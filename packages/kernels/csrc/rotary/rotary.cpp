// Shape rule of rotary.
#include "rotary/rotary.h"

#include "core/check.h"

namespace ablation {

Shape infer_rotary(const Call& call) {
    const TensorView& x = call.inputs[0];
    require_rank("rotary", "x", x, 1);
    if (call.attributes.layout == Layout::qkv) {
        reject("rotary", "layout", "is 'qkv'", "'bhsd', 'bshd'");
    }
    const bool heads_last = call.attributes.layout == Layout::bshd;
    const char* accepted = heads_last ? "4 axes (batch, seq_len, heads, head_dim), head_dim even"
                                      : "4 axes (batch, heads, seq_len, head_dim), head_dim even";
    if (x.shape.rank != 4 || x.shape[3] % 2 != 0) {
        reject("rotary", "x", "has shape " + x.shape.str(), accepted);
    }
    const Shape table{x.shape[heads_last ? 1 : 2], x.shape[3] / 2};
    require_shape("rotary", "cos", call.inputs[1], table, "seq_len and half of head_dim of x");
    require_shape("rotary", "sin", call.inputs[2], table, "seq_len and half of head_dim of x");
    return x.shape;
}

}  // namespace ablation

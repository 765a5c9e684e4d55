// Shape rule of rms_norm.
#include "rms_norm/rms_norm.h"

#include "core/check.h"

namespace ablation {

bool has_one_weight(const Call& call) { return call.inputs[1].shape.rank == 1; }

Shape infer_rms_norm(const Call& call) {
    const TensorView &x = call.inputs[0], &weight = call.inputs[1];
    require_rank("rms_norm", "x", x, 1);
    const bool has_heads = x.shape.rank >= 2 && weight.shape.rank == 2 && weight.shape[0] >= 1 &&
                           weight.shape[0] <= x.shape[-2];
    Shape expected{x.shape[-1]};
    if (has_heads) expected = Shape{weight.shape[0], x.shape[-1]};
    require_shape(
        "rms_norm", "weight", weight, expected,
        "the last axis of x, or a row of it for each of the first heads of x (..., heads, "
        "D)");
    const TensorView& addend = call.inputs[2];
    if (addend.present) require_shape("rms_norm", "addend", addend, x.shape, "the shape of x");
    require_not_negative("rms_norm", "eps", call.attributes.eps);
    return x.shape;
}

}  // namespace ablation

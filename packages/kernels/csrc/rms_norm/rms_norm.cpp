// Shape rule of rms_norm.
#include "rms_norm/rms_norm.h"

#include "core/check.h"

namespace ablation {

Shape infer_rms_norm(const Call& call) {
    const TensorView& x = call.inputs[0];
    require_rank("rms_norm", "x", x, 1);
    require_shape("rms_norm", "weight", call.inputs[1], Shape{x.shape[-1]}, "the last axis of x");
    require_not_negative("rms_norm", "eps", call.attributes.eps);
    return x.shape;
}

}  // namespace ablation

// Shape rule of layer_norm.
#include "layer_norm/layer_norm.h"

#include "core/check.h"

namespace ablation {

Shape infer_layer_norm(const Call& call) {
    const TensorView& x = call.inputs[0];
    require_rank("layer_norm", "x", x, 1);
    const Shape row{x.shape[-1]};
    require_shape("layer_norm", "weight", call.inputs[1], row, "the last axis of x");
    require_shape("layer_norm", "bias", call.inputs[2], row, "the last axis of x");
    return x.shape;
}

}  // namespace ablation

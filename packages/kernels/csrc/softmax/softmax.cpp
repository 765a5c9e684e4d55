// Shape rule of softmax.
#include "softmax/softmax.h"

#include "core/check.h"

namespace ablation {

Shape infer_softmax(const Call& call) {
    require_rank("softmax", "x", call.inputs[0], 1);
    return call.inputs[0].shape;
}

}  // namespace ablation

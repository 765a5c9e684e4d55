// Shape rules of the reductions.
#include "reduce/reduce.h"

#include "core/check.h"

namespace ablation {

namespace {

Shape infer_reduced(const char* op, const Call& call) {
    require_rank(op, "x", call.inputs[0], 1);
    Shape output = call.inputs[0].shape;
    output[-1] = 1;
    return output;
}

}  // namespace

Shape infer_sum(const Call& call) { return infer_reduced("sum", call); }
Shape infer_amax(const Call& call) { return infer_reduced("amax", call); }

Shape infer_cumsum(const Call& call) {
    require_rank("cumsum", "x", call.inputs[0], 1);
    return call.inputs[0].shape;
}

}  // namespace ablation

// Shape rule of concat, and its runs.
#include "concat/concat.h"

#include "core/check.h"

namespace ablation {

Shape infer_concat(const Call& call) {
    const TensorView& a = call.inputs[0];
    require_rank("concat", "a", a, 1);
    const int axis = require_axis("concat", call, a.shape);
    Shape output = a.shape;
    for (std::size_t slot = 1; slot < kMaxInputs; ++slot) {
        const TensorView& input = call.inputs[slot];
        if (!input.present) continue;
        const char name[] = {static_cast<char>('a' + slot), '\0'};
        require_rank("concat", name, input, 0);
        Shape expected = a.shape;
        if (input.shape.rank == a.shape.rank) expected[axis] = input.shape[axis];
        require_shape("concat", name, input, expected,
                      "the shape of a, but for axis " + std::to_string(axis));
        output[axis] += input.shape[axis];
    }
    return output;
}

ConcatRuns::ConcatRuns(const Call& call) {
    const Shape& a = call.inputs[0].shape;
    const int axis = a.from_first(call.attributes.axis);
    for (int i = 0; i < axis; ++i) rows *= a[i];
    for (const TensorView& input : call.inputs) {
        if (!input.present) continue;
        const std::int64_t length = input.shape.count() / rows;
        runs[count++] = {input.data, length};
        row_length += length;
    }
}

}  // namespace ablation

// take, one row after the other, element by element. Built with auto-vectorization off. Cost: see
// take.h.
#include "take/take.h"

namespace ablation {

void take_scalar(const Call& call) {
    const TakeRows take(call);
    float* y = call.output.data;
    for (std::int64_t row = 0; row < take.rows; ++row) {
        const std::int64_t place = row % take.count;
        const std::int64_t source = row_of_id(take, call.inputs[1].data[place], place);
        const float* x = call.inputs[0].data + (row / take.count * take.n + source) * take.length;
        for (std::int64_t i = 0; i < take.length; ++i) *y++ = x[i];
    }
}

}  // namespace ablation

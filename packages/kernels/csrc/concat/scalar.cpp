// concat, one run after the other, element by element. Built with auto-vectorization off. Cost: see
// concat.h.
#include "concat/concat.h"

namespace ablation {

void concat_scalar(const Call& call) {
    const ConcatRuns concat(call);
    float* y = call.output.data;
    for (std::int64_t row = 0; row < concat.rows; ++row) {
        for (std::size_t index = 0; index < concat.count; ++index) {
            const auto [data, length] = concat.runs[index];
            for (std::int64_t i = 0; i < length; ++i) *y++ = data[row * length + i];
        }
    }
}

}  // namespace ablation

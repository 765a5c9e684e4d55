// The baselines. permute: the output is written in order, each element read from where it lies in
// x. slice: one contiguous run after the other, element by element. Cost: each output element is
// read and written once; strided reads use one element of every cache line they touch.
#include <cstdint>

#include "core/table.h"
#include "permute/permute.h"

namespace ablation {

void permute_scalar(const Call& call) {
    const PermuteLoops loops = permute_loops(call);
    const float* x = call.inputs[0].data;
    const std::int64_t count = call.output.shape.count();
    std::array<std::int64_t, kMaxRank> index{};
    std::int64_t offset = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        call.output.data[i] = x[offset];
        for (int axis = loops.rank - 1; axis >= 0; --axis) {
            const auto loop = static_cast<std::size_t>(axis);
            offset += loops.strides[loop];
            if (++index[loop] < loops.sizes[loop]) break;
            offset -= loops.sizes[loop] * loops.strides[loop];
            index[loop] = 0;
        }
    }
}

void slice_scalar(const Call& call) {
    const SliceRuns slice = slice_runs(call);
    float* output = call.output.data;
    for (std::int64_t run = 0; run < slice.runs; ++run) {
        const float* x = call.inputs[0].data + slice.offset + run * slice.stride;
        for (std::int64_t i = 0; i < slice.length; ++i) *output++ = x[i];
    }
}

}  // namespace ablation

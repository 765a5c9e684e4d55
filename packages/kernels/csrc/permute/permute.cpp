#include "permute/permute.h"

#include <string>

#include "core/check.h"
#include "core/table.h"

namespace ablation {

namespace {

std::string text(const Axes& perm) {
    std::string result = "(";
    for (int index = 0; index < perm.rank; ++index) {
        if (index > 0) result += ", ";
        result += std::to_string(perm[index]);
    }
    return result + ")";
}

bool is_axis(std::int64_t axis, const Shape& x) { return axis >= -x.rank && axis < x.rank; }

}  // namespace

Shape infer_permute(const Call& call) {
    const TensorView& x = call.inputs[0];
    const Axes& perm = call.attributes.perm;
    require_rank("permute", "x", x, 0);
    std::array<bool, kMaxRank> seen{};
    bool is_permutation = perm.rank == x.shape.rank;
    Shape output;
    for (int index = 0; is_permutation && index < perm.rank; ++index) {
        is_permutation = is_axis(perm[index], x.shape);
        if (!is_permutation) break;
        const int source = x.shape.from_first(perm[index]);
        is_permutation = !seen[static_cast<std::size_t>(source)];
        seen[static_cast<std::size_t>(source)] = true;
        output.append(x.shape[source]);
    }
    if (!is_permutation) {
        reject("permute", "perm", "is " + text(perm),
               "each of the " + std::to_string(x.shape.rank) + " axes of x once, for x of shape " +
                   x.shape.str());
    }
    return output;
}

Shape infer_slice(const Call& call) {
    const TensorView& x = call.inputs[0];
    const std::int64_t start = call.attributes.start, stop = call.attributes.stop;
    require_rank("slice", "x", x, 1);
    const int axis = require_axis("slice", call, x.shape);
    const std::string size = std::to_string(x.shape[axis]);
    if (start < 0 || start >= x.shape[axis]) {
        reject("slice", "start", "is " + std::to_string(start),
               "0 <= start < " + size + ", the size of axis " + std::to_string(axis));
    }
    if (stop <= start || stop > x.shape[axis]) {
        reject("slice", "stop", "is " + std::to_string(stop),
               std::to_string(start) + " < stop <= " + size + ", after start and within axis " +
                   std::to_string(axis));
    }
    Shape output = x.shape;
    output[axis] = stop - start;
    return output;
}

PermuteLoops permute_loops(const Call& call) {
    const Shape& x = call.inputs[0].shape;
    const Axes& perm = call.attributes.perm;
    std::array<std::int64_t, kMaxRank> x_strides{};
    std::int64_t stride = 1;
    for (int axis = x.rank - 1; axis >= 0; --axis) {
        x_strides[static_cast<std::size_t>(axis)] = stride;
        stride *= x[axis];
    }
    PermuteLoops loops;
    for (int index = 0; index < perm.rank; ++index) {
        const int source = x.from_first(perm[index]);
        const std::int64_t size = x[source];
        const std::int64_t step = x_strides[static_cast<std::size_t>(source)];
        if (size == 1) continue;
        const auto next = static_cast<std::size_t>(loops.rank);
        if (loops.rank > 0 && loops.strides[next - 1] == size * step) {
            loops.sizes[next - 1] *= size;
            loops.strides[next - 1] = step;
        } else {
            loops.sizes[next] = size;
            loops.strides[next] = step;
            ++loops.rank;
        }
    }
    if (loops.rank == 0) {
        loops.sizes[0] = loops.strides[0] = 1;
        loops.rank = 1;
    }
    return loops;
}

SliceRuns slice_runs(const Call& call) {
    const Shape& x = call.inputs[0].shape;
    const std::int64_t start = call.attributes.start, stop = call.attributes.stop;
    const int axis = x.from_first(call.attributes.axis);
    std::int64_t runs = 1;
    for (int i = 0; i < axis; ++i) runs *= x[i];
    std::int64_t step = 1;
    for (int i = axis + 1; i < x.rank; ++i) step *= x[i];
    return {runs, (stop - start) * step, start * step, x[axis] * step};
}

}  // namespace ablation

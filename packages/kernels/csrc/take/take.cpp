// Shape rule of take, and what an id may be.
#include "take/take.h"

#include <cstdio>
#include <string>

#include "core/check.h"

namespace ablation {

Shape infer_take(const Call& call) {
    const TensorView& x = call.inputs[0];
    const TensorView& ids = call.inputs[1];
    require_rank("take", "x", x, 1);
    require_rank("take", "ids", ids, 0);
    const int axis = require_axis("take", call, x.shape);
    if (x.shape.rank - 1 + ids.shape.rank > kMaxRank) {
        reject("take", "ids", "has shape " + ids.shape.str(),
               "at most " + std::to_string(kMaxRank + 1 - x.shape.rank) + " axes, for x of shape " +
                   x.shape.str());
    }
    Shape output;
    for (int i = 0; i < axis; ++i) output.append(x.shape[i]);
    for (int i = 0; i < ids.shape.rank; ++i) output.append(ids.shape[i]);
    for (int i = axis + 1; i < x.shape.rank; ++i) output.append(x.shape[i]);
    return output;
}

TakeRows::TakeRows(const Call& call) : rows(1), length(1) {
    const Shape& x = call.inputs[0].shape;
    const int axis = x.from_first(call.attributes.axis);
    count = call.inputs[1].shape.count();
    n = x[axis];
    for (int i = 0; i < axis; ++i) rows *= x[i];
    rows *= count;
    for (int i = axis + 1; i < x.rank; ++i) length *= x[i];
}

std::int64_t row_of_id(const TakeRows& take, float id, std::int64_t place) {
    // Below 2^46, so that the conversion is defined.
    if (id >= 0.0F && id < 0x1p46F) {
        const auto row = static_cast<std::int64_t>(id);
        if (row < take.n && static_cast<float>(row) == id) return row;
    }
    char given[32];
    std::snprintf(given, sizeof given, "%.9g", static_cast<double>(id));
    const std::string n = std::to_string(take.n);
    throw IndexError("take: argument 'ids' has the element " + std::string(given) + " at place " +
                     std::to_string(place) + "; accepted: whole numbers in [0, " + n +
                     "), as x has " + n + " rows along the axis");
}

}  // namespace ablation

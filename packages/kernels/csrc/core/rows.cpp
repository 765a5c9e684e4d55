#include "rows.h"

#include <string>
#include <string_view>

namespace ablation {

namespace {

TensorView cut(const TensorView& view, std::int64_t begin, std::int64_t end) {
    TensorView part = view;
    part.shape = Shape{end - begin, view.shape[-1]};
    if (part.data != nullptr) part.data += begin * view.shape[-1];
    return part;
}

}  // namespace

std::int64_t row_count(const TensorView& view) {
    return view.shape.rank == 0 ? 1 : view.shape.count() / view.shape[-1];
}

Call slice_rows(const OpInfo& op, const Call& call, std::int64_t rows, std::int64_t begin,
                std::int64_t end) {
    const RowInfo* info = find_rows(op);
    if (info == nullptr || !info->condition(call)) {
        throw ValueError("has rows that depend on one another");
    }
    if (call.output.shape.rank == 0 || row_count(call.output) != rows) {
        throw ValueError("writes shape " + call.output.shape.str() +
                         "; accepted: " + std::to_string(rows) + " rows");
    }
    Call part = call;
    part.threads = 1;
    part.output = cut(call.output, begin, end);
    const Slots slots = parse_slots(op);
    for (int slot = 0; slot < slots.count; ++slot) {
        const auto index = static_cast<std::size_t>(slot);
        const TensorView& input = call.inputs[index];
        if (!input.present || !has_word(info->slots, slots.names[index])) continue;
        if (row_count(input) == rows && input.shape.rank > 0) {
            part.inputs[index] = cut(input, begin, end);
        } else if (row_count(input) != 1) {
            throw ValueError("reads '" + std::string(slots.names[index]) + "' of shape " +
                             input.shape.str() + "; accepted: " + std::to_string(rows) +
                             " rows, or one for all");
        }
    }
    const Shape inferred = op.infer(part);
    if (!(inferred == part.output.shape)) {
        throw ValueError("cannot be cut into rows: rows of its inputs give shape " +
                         inferred.str());
    }
    return part;
}

std::int64_t row_offset(const TensorView& whole, const TensorView& part, std::int64_t begin) {
    return whole.shape == part.shape ? 0 : begin * whole.shape[-1];
}

}  // namespace ablation

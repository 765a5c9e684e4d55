#include "check.h"

#include <cstdio>

namespace ablation {

namespace {

[[noreturn]] void reject_overlap(const OpInfo& op, std::string_view slot) {
    std::string accepted = "memory of its own";
    if (*op.in_place != 0) {
        accepted += std::string(", or exactly the array given for ") + op.in_place +
                    " if it has the output's shape";
    }
    reject(op.name, "out", "overlaps argument '" + std::string(slot) + "'", accepted);
}

}  // namespace

std::string Shape::str() const {
    std::string text = "(";
    for (int axis = 0; axis < rank; ++axis) {
        text += std::to_string((*this)[axis]);
        if (axis + 1 < rank) text += ", ";
    }
    return text + (rank == 1 ? ",)" : ")");
}

void reject(const char* op, const char* argument, const std::string& given,
            const std::string& accepted) {
    throw ValueError(std::string(op) + ": argument '" + argument + "' " + given +
                     "; accepted: " + accepted);
}

void require_rank(const char* op, const char* argument, const TensorView& view, int rank) {
    if (view.shape.rank < rank) {
        reject(op, argument, "has shape " + view.shape.str(),
               "at least " + std::to_string(rank) + (rank == 1 ? " axis" : " axes"));
    }
    if (view.shape.count() == 0) {
        reject(op, argument, "has shape " + view.shape.str(), "no axis of size 0");
    }
}

void require_shape(const char* op, const char* argument, const TensorView& view, const Shape& shape,
                   const std::string& accepted) {
    if (!(view.shape == shape)) {
        reject(op, argument, "has shape " + view.shape.str(), shape.str() + " (" + accepted + ")");
    }
}

int require_axis(const char* op, const Call& call, const Shape& x) {
    const std::int64_t axis = call.attributes.axis;
    if (axis < -x.rank || axis >= x.rank) {
        reject(op, "axis", "is " + std::to_string(axis),
               "an axis of x, which has shape " + x.str());
    }
    return x.from_first(axis);
}

void require_not_negative(const char* op, const char* argument, float value) {
    if (value >= 0.0F) return;
    char given[32];
    std::snprintf(given, sizeof given, "is %g", static_cast<double>(value));
    reject(op, argument, given, "a number >= 0");
}

void require_in_place(const OpInfo& op, std::string_view slot) {
    if (!has_word(op.in_place, slot)) reject_overlap(op, slot);
}

void require_no_overlap(const OpInfo& op, const Slots& slots, const Call& call) {
    const float* out = call.output.data;
    const std::int64_t out_count = call.output.shape.count();
    for (int slot = 0; slot < slots.count; ++slot) {
        const auto index = static_cast<std::size_t>(slot);
        const TensorView& input = call.inputs[index];
        if (!input.present || input.data == nullptr || out == nullptr) continue;
        const std::int64_t count = input.shape.count();
        if (input.data + count <= out || out + out_count <= input.data) continue;
        if (input.data != out || count != out_count) reject_overlap(op, slots.names[index]);
        require_in_place(op, slots.names[index]);
    }
}

}  // namespace ablation

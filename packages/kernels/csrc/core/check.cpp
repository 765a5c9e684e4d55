#include "check.h"

#include <algorithm>

namespace ablation {

namespace {

bool names_slot(std::string_view slots, std::string_view name) {
    std::size_t begin = 0;
    while (begin < slots.size()) {
        const std::size_t end = std::min(slots.find(' ', begin), slots.size());
        if (slots.substr(begin, end - begin) == name) return true;
        begin = end + 1;
    }
    return false;
}

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

void require_in_place(const OpInfo& op, std::string_view slot) {
    if (!names_slot(op.in_place, slot)) reject_overlap(op, slot);
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

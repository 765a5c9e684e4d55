#include "check.h"

namespace ablation {

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

}  // namespace ablation

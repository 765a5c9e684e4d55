// Errors of the shape rules: each names the op, the argument, what was given and what is accepted.
#pragma once

#include <string>

#include "types.h"

namespace ablation {

/// Throws ValueError "<op>: argument '<argument>' <given>; accepted: <accepted>".
[[noreturn]] void reject(const char* op, const char* argument, const std::string& given,
                         const std::string& accepted);

/// Throws unless the view has at least `rank` axes and no axis of size zero.
void require_rank(const char* op, const char* argument, const TensorView& view, int rank);

/// Throws unless the view has exactly this shape.
void require_shape(const char* op, const char* argument, const TensorView& view, const Shape& shape,
                   const std::string& accepted);

}  // namespace ablation

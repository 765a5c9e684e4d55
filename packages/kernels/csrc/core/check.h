// Errors of the shape rules: each names the op, the argument, what was given and what is accepted.
#pragma once

#include <string>
#include <string_view>

#include "table.h"
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

/// The attribute 'axis' counted from the first axis of x; throws unless x has it. A negative one
/// counts from the end.
int require_axis(const char* op, const Call& call, const Shape& x);

/// Throws for a negative number and for NaN.
void require_not_negative(const char* op, const char* argument, float value);

/// Throws unless the op may write its output over the input of this slot.
void require_in_place(const OpInfo& op, std::string_view slot);

/// Throws unless the output lies apart from every input, or takes the whole place of one in a slot
/// in which the op works in place: same start, same number of elements (their shapes differ in
/// leading axes of size 1 at most, as the shape rule holds). Views without memory are left out.
void require_no_overlap(const OpInfo& op, const Slots& slots, const Call& call);

}  // namespace ablation

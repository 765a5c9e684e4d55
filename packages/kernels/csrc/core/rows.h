// Calls cut into rows: what lets several calls share one fork-join, each thread with rows of its
// own.
#pragma once

#include <cstdint>

#include "table.h"

namespace ablation {

/// Rows of a view along its last axis.
std::int64_t row_count(const TensorView& view);

/// The rows [begin, end) of a call's output, as a call of its own with views of rank 2: inputs of
/// the slots that ROWS names are cut likewise, the others stay whole. `rows` is the number of rows
/// of the whole output. Offsets of views without data are kept by the caller: see row_offset.
/// Throws ValueError if the op's rows depend on one another or an input has other rows.
Call slice_rows(const OpInfo& op, const Call& call, std::int64_t rows, std::int64_t begin,
                std::int64_t end);

/// Elements from the start of the whole view to the start of the cut one; 0 for one left whole.
std::int64_t row_offset(const TensorView& whole, const TensorView& cut, std::int64_t begin);

}  // namespace ablation

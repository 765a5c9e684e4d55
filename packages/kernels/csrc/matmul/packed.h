// The packed matrix product: what the instruction sets provide and how packed B lies.
//
// Packed B is a row of panels of `columns` columns, the last one filled up with zeros. A panel is
// (K, columns), k after k, so that any range of k is one contiguous run.
#pragma once

#include <cstdint>
#include <span>

#include "core/types.h"

namespace ablation {

/// Where a product is written: C = activation(alpha * A B + previous + bias).
struct PackedTarget {
    float* c;               ///< row stride c_stride of the block
    std::int64_t rows;      ///< of the block that exist in C, from the first on; none: 0 or less
    std::int64_t columns;   ///< likewise
    const float* previous;  ///< null, or what lies as C does: C itself, or an addend
    const float* bias;      ///< null, or (columns,)
    float alpha;
    Activation activation;
};

/// A B for a block of rows and columns, A and B cut to a range of k, into each of its targets.
struct PackedBlock {
    const float* a;  ///< (rows, depth), row stride a_stride
    std::int64_t a_stride;
    std::int64_t rows;
    std::int64_t depth;
    const float* b;  ///< the first panel, at the block's first k
    std::int64_t panel_stride;
    const float* next_b;  ///< null, or what is read after the block's last panel
    const float* next_a;  ///< null, or the same rows of A where the next range of k begins
    std::int64_t next_a_stride;
    std::int64_t columns;
    std::int64_t c_stride;
    std::span<const PackedTarget> targets;  ///< one at least
};

/// The packed product of one instruction set.
struct PackedProvider {
    std::int64_t rows;     ///< of a register tile, at most
    std::int64_t columns;  ///< of a panel
    void (*multiply)(const PackedBlock& block);
};

}  // namespace ablation

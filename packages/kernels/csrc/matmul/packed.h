// The packed matrix product: what the instruction sets provide and how packed B lies.
//
// Packed B is a row of panels of `columns` columns, the last one filled up with zeros. A panel is
// (K, columns), k after k, so that any range of k is one contiguous run.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace ablation {

/// C = activation(alpha * A B + previous + bias) for a block of C; A and B are cut to a range of k.
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
    float* c;  ///< (rows, columns), row stride c_stride
    std::int64_t c_stride;
    const float* previous;  ///< null, or (rows, columns) with c_stride: C itself, or an addend
    const float* bias;      ///< null, or (columns,)
    float alpha;
    Activation activation;
};

/// The packed product of one instruction set.
struct PackedProvider {
    std::int64_t rows;     ///< of a register tile, at most
    std::int64_t columns;  ///< of a panel
    void (*multiply)(const PackedBlock& block);
};

}  // namespace ablation

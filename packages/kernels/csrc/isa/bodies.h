// All that is written once over a vector type, for one of them: to be included by the file of an
// instruction set alone. A new body is a line here and a field of InstructionSet.
#pragma once

#include "attention/flash_backward_body.h"
#include "attention/flash_packed_body.h"
#include "isa/simd_body.h"
#include "matmul/packed_body.h"

namespace ablation::body {

template <class Body>
inline constexpr auto provider = Body::provider();

template <class V>
inline constexpr InstructionSet bodies = {
    .simd = &provider<Rows<V>>,
    .packed = &provider<Packed<V>>,
    .flash_packed = &provider<FlashPacked<V>>,
    .flash_backward = &provider<FlashBackward<V>>,
};

}  // namespace ablation::body

// The instruction set avx512; see vector_avx512.h.
#if defined(__x86_64__)

#include "attention/flash_bf16_packing.h"
#include "isa/bodies.h"
#include "isa/vector_avx512.h"

namespace ablation {

constinit const InstructionSet avx512_set = body::bodies<Avx512>;

}  // namespace ablation

#endif

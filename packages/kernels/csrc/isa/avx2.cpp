// The instruction set avx2; see vector_avx2.h.
#if defined(__x86_64__)

#include "isa/bodies.h"
#include "isa/vector_avx2.h"

namespace ablation {

constinit const InstructionSet avx2_set = body::bodies<Avx2>;

}  // namespace ablation

#endif

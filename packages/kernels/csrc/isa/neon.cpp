// The instruction set neon; see vector_neon.h.
#if defined(__aarch64__)

#include "isa/bodies.h"
#include "isa/vector_neon.h"

namespace ablation {

constinit const InstructionSet neon_set = body::bodies<Neon>;

}  // namespace ablation

#endif

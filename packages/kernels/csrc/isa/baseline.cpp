// The instruction set baseline; see vector_baseline.h.
#include "isa/bodies.h"
#include "isa/vector_baseline.h"

namespace ablation {

constinit const InstructionSet baseline_set = body::bodies<Baseline>;

}  // namespace ablation

// Packed product: baseline; see vector_baseline.h.
#include "core/vector_baseline.h"
#include "matmul/packed_body.h"

namespace ablation {

extern const PackedProvider baseline_packed_provider;
constinit const PackedProvider baseline_packed_provider =
    body::Packed<Baseline>::provider("baseline");

}  // namespace ablation

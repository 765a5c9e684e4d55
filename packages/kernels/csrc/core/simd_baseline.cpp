// SIMD provider: baseline; see vector_baseline.h.
#include "simd_body.h"
#include "vector_baseline.h"

namespace ablation {

extern const SimdProvider baseline_provider;
constinit const SimdProvider baseline_provider = body::Rows<Baseline>::provider("baseline");

}  // namespace ablation

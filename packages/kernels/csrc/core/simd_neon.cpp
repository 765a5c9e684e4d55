// SIMD provider: neon; see vector_neon.h.
#if defined(__aarch64__)

#include "simd_body.h"
#include "vector_neon.h"

namespace ablation {

extern const SimdProvider neon_provider;
constinit const SimdProvider neon_provider = body::Rows<Neon>::provider("neon");

}  // namespace ablation

#endif

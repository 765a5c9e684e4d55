// SIMD provider: avx2; see vector_avx2.h.
#if defined(__x86_64__)

#include "simd_body.h"
#include "vector_avx2.h"

namespace ablation {

extern const SimdProvider avx2_provider;
constinit const SimdProvider avx2_provider = body::Rows<Avx2>::provider("avx2");

}  // namespace ablation

#endif

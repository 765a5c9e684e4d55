// SIMD provider: avx512; see vector_avx512.h.
#if defined(__x86_64__)

#include "simd_body.h"
#include "vector_avx512.h"

namespace ablation {

extern const SimdProvider avx512_provider;
constinit const SimdProvider avx512_provider = body::Rows<Avx512>::provider("avx512");

}  // namespace ablation

#endif

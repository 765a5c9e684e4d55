// Packed product: avx512; see vector_avx512.h.
#if defined(__x86_64__)

#include "core/vector_avx512.h"
#include "matmul/packed_body.h"

namespace ablation {

extern const PackedProvider avx512_packed_provider;
constinit const PackedProvider avx512_packed_provider = body::Packed<Avx512>::provider("avx512");

}  // namespace ablation

#endif

// Packed product: avx2; see vector_avx2.h.
#if defined(__x86_64__)

#include "core/vector_avx2.h"
#include "matmul/packed_body.h"

namespace ablation {

extern const PackedProvider avx2_packed_provider;
constinit const PackedProvider avx2_packed_provider = body::Packed<Avx2>::provider("avx2");

}  // namespace ablation

#endif

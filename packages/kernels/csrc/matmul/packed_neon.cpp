// Packed product: neon; see vector_neon.h.
#if defined(__aarch64__)

#include "core/vector_neon.h"
#include "matmul/packed_body.h"

namespace ablation {

extern const PackedProvider neon_packed_provider;
constinit const PackedProvider neon_packed_provider = body::Packed<Neon>::provider("neon");

}  // namespace ablation

#endif

// The packed flash kernel: neon; see vector_neon.h.
#if defined(__aarch64__)

#include "attention/flash_packed_body.h"
#include "core/vector_neon.h"

namespace ablation {

extern const FlashPackedProvider neon_flash_packed_provider;
constinit const FlashPackedProvider neon_flash_packed_provider =
    body::FlashPacked<Neon>::provider("neon");

}  // namespace ablation

#endif

// The packed flash kernel: avx2; see vector_avx2.h.
#if defined(__x86_64__)

#include "attention/flash_packed_body.h"
#include "core/vector_avx2.h"

namespace ablation {

extern const FlashPackedProvider avx2_flash_packed_provider;
constinit const FlashPackedProvider avx2_flash_packed_provider =
    body::FlashPacked<Avx2>::provider("avx2");

}  // namespace ablation

#endif

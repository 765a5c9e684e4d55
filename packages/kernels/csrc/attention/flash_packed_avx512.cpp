// The packed flash kernel: avx512; see vector_avx512.h.
#if defined(__x86_64__)

#include "attention/flash_packed_body.h"
#include "core/vector_avx512.h"

namespace ablation {

extern const FlashPackedProvider avx512_flash_packed_provider;
constinit const FlashPackedProvider avx512_flash_packed_provider =
    body::FlashPacked<Avx512>::provider("avx512");

}  // namespace ablation

#endif

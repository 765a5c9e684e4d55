// Which instruction set's packed product is used: that of simd().
#include <array>

#include "core/simd.h"
#include "matmul/packed.h"

namespace ablation {

#if defined(__x86_64__)
extern const PackedProvider avx512_packed_provider;
extern const PackedProvider avx2_packed_provider;
#endif
#if defined(__aarch64__)
extern const PackedProvider neon_packed_provider;
#endif
extern const PackedProvider baseline_packed_provider;

const PackedProvider& packed_provider() {
    static const PackedProvider& chosen = provider_in_use(std::array{
#if defined(__x86_64__)
        &avx512_packed_provider,
        &avx2_packed_provider,
#endif
#if defined(__aarch64__)
        &neon_packed_provider,
#endif
        &baseline_packed_provider,
    });
    return chosen;
}

}  // namespace ablation

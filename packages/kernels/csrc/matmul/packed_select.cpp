// Which instruction set's packed product is used: that of simd().
#include <array>
#include <string_view>

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
    static const PackedProvider& chosen = []() -> const PackedProvider& {
        constexpr std::array kBuilt = {
#if defined(__x86_64__)
            &avx512_packed_provider,
            &avx2_packed_provider,
#endif
#if defined(__aarch64__)
            &neon_packed_provider,
#endif
        };
        for (const PackedProvider* provider : kBuilt) {
            if (vector_instruction_set() == provider->name) return *provider;
        }
        return baseline_packed_provider;
    }();
    return chosen;
}

}  // namespace ablation

// The exponential of the flash kernels with products of their own, written once over a vector type
// V (see vector_math.h).
#pragma once

#include "isa/vector_math.h"

namespace ablation::body {

/// exp(x) for x <= 0, or slightly above. exp(x) = 2^n 2^r with n = round(x log2 e), |r| <= 1/2 and
/// 2^r a minimax polynomial (relative error 1.1e-7, with its rounding 1.6e-7). Below kLeast, where
/// weights lie under the normal range, the result is 0; NaN stays NaN.
template <class V>
inline typename V::Float weight(typename V::Float x) {
    constexpr float kLeast = -87.0F;
    constexpr float kLog2E = 0x1.715476p+0F;
    const auto keep = V::not_less(x, V::set(kLeast));
    const auto t = V::max(V::set(kLeast), x);
    const auto n = V::round(V::mul(t, V::set(kLog2E)));
    const auto r = V::fma(t, V::set(kLog2E), V::sub(V::set(0.0F), n));
    const auto p = polynomial<V>(r, 1.0F, 0x1.62e42ap-1F, 0x1.ebf9bcp-3F, 0x1.c6b752p-5F,
                                 0x1.3cea88p-7F, 0x1.5bba14p-10F);
    return V::zero_unless(keep, V::multiply_by_power_of_two(p, n));
}

}  // namespace ablation::body

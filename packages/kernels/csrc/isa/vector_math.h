// Functions of one vector, written once over a vector type V: exp, gelu, silu, and the lanes that
// loads and stores cover.
//
// V (vector_<instruction set>.h) has `width` lanes of float in V::Float and `registers` of them,
// the loads and stores for All or the First n lanes, and the operations used below. load_twice
// reads half as many numbers and has each in two neighbouring lanes. min(a, b) and max(a, b) give b
// where b is NaN. V lives in an anonymous namespace, so every instantiation is local to its file:
// no code built for one instruction set can be linked into another's place.
#pragma once

#include <cstdint>

namespace ablation::body {

/// Which lanes of a vector a load, store or sum covers.
struct All {};
struct First {
    std::int64_t n;  ///< in [1, width)
};

/// Calls function(i, lanes) for each vector of [0, n).
template <class V, class Function>
inline void for_vectors(std::int64_t n, Function&& function) {
    std::int64_t i = 0;
    for (; i + V::width <= n; i += V::width) function(i, All{});
    if (i < n) function(i, First{n - i});
}

/// c0 + c1 x + c2 x^2 + ...
template <class V, class... Rest>
inline typename V::Float polynomial(typename V::Float x, float c, Rest... rest) {
    if constexpr (sizeof...(Rest) == 0) {
        return V::set(c);
    } else {
        return V::fma(polynomial<V>(x, rest...), x, V::set(c));
    }
}

/// exp(x) = 2^n exp(r) with n = round(x / ln 2), |r| <= ln 2 / 2 and exp(r) = 1 + r + r^2 P(r); P
/// is the minimax polynomial for the relative error of exp (3.1e-9). ln 2 is subtracted in two
/// parts: the upper one has 9 bits, so its product with n is exact with or without fma. Results
/// below the normal range are rounded to denormals, not flushed; below kExpZero, where the result
/// rounds to 0, the lanes are cleared without arithmetic that underflows.
template <class V>
inline typename V::Float exp(typename V::Float x) {
    constexpr float kExpZero = -104.0F;
    constexpr float kExpInfinity = 89.0F;
    const auto keep = V::not_less(x, V::set(kExpZero));
    const auto t = V::min(V::set(kExpInfinity), V::zero_unless(keep, x));
    const auto n = V::round(V::mul(t, V::set(0x1.715476p+0F)));
    auto r = V::fma(n, V::set(-0x1.63p-1F), t);
    r = V::fma(n, V::set(0x1.bd0106p-13F), r);
    const auto p = polynomial<V>(r, 0x1.fffffcp-2F, 0x1.555492p-3F, 0x1.5558f2p-5F, 0x1.123a2p-7F,
                                 0x1.6a23dp-10F);
    const auto y = V::add(V::fma(p, V::mul(r, r), r), V::set(1.0F));
    return V::zero_unless(keep, V::multiply_by_power_of_two(y, n));
}

/// x Phi(x), Phi the normal distribution function. With z = |x| and u = (z - 2.5) / (z + 2.5),
/// Phi(-z) = exp(-z^2 / 2) P(u) / (z + 2.5); P is the minimax polynomial for the relative error
/// (1.6e-8) on 0 <= z <= 15, beyond which Phi(-z) is 0 in float32. No 1 + erf cancels, so the
/// relative error stays small for negative x as well.
template <class V>
inline typename V::Float gelu(typename V::Float x) {
    const auto z = V::min(V::abs(x), V::set(15.0F));
    const auto square = V::mul(z, z);
    // rest is the rounding error of the square:
    // exp(-(square + rest) / 2) ~ exp(-square / 2) (1 - rest / 2).
    const auto rest = V::square_remainder(z, square);
    auto gauss = exp<V>(V::mul(square, V::set(-0.5F)));
    gauss = V::fma(V::mul(gauss, V::set(-0.5F)), rest, gauss);
    const auto reciprocal = V::div(V::set(1.0F), V::add(z, V::set(2.5F)));
    const auto u = V::mul(V::sub(z, V::set(2.5F)), reciprocal);
    const auto p = polynomial<V>(u, 0.7066566599F, -0.4336920123F, 0.1319869788F, 0.009235875739F,
                                 -0.01638618545F, -0.001600830031F, 0.002523932633F,
                                 0.0006844126639F, -0.0003116227678F, -0.0001577022907F);
    const auto tail = V::mul(V::mul(gauss, reciprocal), p);
    const auto phi = V::select(V::not_less(x, V::set(0.0F)), V::sub(V::set(1.0F), tail), tail);
    return V::mul(x, phi);
}

/// 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
template <class V>
inline typename V::Float gelu_tanh(typename V::Float x) {
    constexpr float kTwiceRoot = 1.5957691216F;  // 2 sqrt(2 / pi)
    const auto factor = V::fma(V::mul(x, x), V::set(-kTwiceRoot * 0.044715F), V::set(-kTwiceRoot));
    return V::div(x, V::add(V::set(1.0F), exp<V>(V::mul(x, factor))));
}

/// x / (1 + exp(-x)), for x < 0 as x e / (1 + e) with e = exp(x): the exponential of a magnitude
/// never overflows, and the relative error stays small on both sides.
template <class V>
inline typename V::Float silu(typename V::Float x) {
    const auto e = exp<V>(V::sub(V::set(0.0F), V::abs(x)));
    const auto upper = V::select(V::not_less(x, V::set(0.0F)), x, V::mul(x, e));
    return V::div(upper, V::add(V::set(1.0F), e));
}

}  // namespace ablation::body

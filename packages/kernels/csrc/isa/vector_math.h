// Functions of one vector, written once over a vector type V: exp, tanh, sigmoid, erf, gelu, silu,
// and the lanes that loads and stores cover.
//
// V (vector_<instruction set>.h) has `width` lanes of float in V::Float and `registers` of them,
// the loads and stores for All or the First n lanes, and the operations used below. load_twice
// reads half as many numbers and has each in two neighbouring lanes. min(a, b) and max(a, b) give b
// where b is NaN. with_sign_of(a, b) gives a, whose sign is +, the sign of b. V lives in an
// anonymous namespace, so every instantiation is local to its file: no code built for one
// instruction set can be linked into another's place.
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

/// Phi(-z) of the normal distribution function Phi, for 0 <= z <= 15, beyond which it is 0 in
/// float32. With u = (z - 2.5) / (z + 2.5), Phi(-z) = exp(-z^2 / 2) P(u) / (z + 2.5); P is the
/// minimax polynomial for the relative error (1.6e-8).
template <class V>
inline typename V::Float normal_tail(typename V::Float z) {
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
    return V::mul(V::mul(gauss, reciprocal), p);
}

/// x Phi(x). No 1 + erf cancels, so the relative error stays small for negative x as well.
template <class V>
inline typename V::Float gelu(typename V::Float x) {
    const auto tail = normal_tail<V>(V::min(V::abs(x), V::set(15.0F)));
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

/// erf(x) = 1 - 2 Phi(-sqrt(2) |x|) with the sign of x; for |x| < 1, where that cancels,
/// x + x P(x^2) with the minimax polynomial P for the relative error of erf (1.2e-9).
template <class V>
inline typename V::Float erf(typename V::Float x) {
    const auto z = V::abs(x);
    const auto square = V::mul(z, z);
    const auto p = polynomial<V>(square, 0.128379166F, -0.37612626F, 0.112835854F, -0.026853811F,
                                 0.00518832728F, -0.000801019021F, 7.85384982e-05F);
    // min keeps a NaN that is its second argument.
    const auto tail = normal_tail<V>(V::min(V::set(15.0F), V::mul(z, V::set(1.41421356F))));
    const auto large = V::fma(V::set(-2.0F), tail, V::set(1.0F));
    const auto magnitude = V::select(V::not_less(z, V::set(1.0F)), large, V::fma(p, z, z));
    return V::with_sign_of(magnitude, x);
}

/// tanh(x) = 1 - 2 / (exp(2 |x|) + 1) with the sign of x; for |x| < 0.625, where that cancels,
/// x + x^3 P(x^2) with the minimax polynomial P for the relative error of tanh (4.4e-9).
template <class V>
inline typename V::Float tanh(typename V::Float x) {
    const auto z = V::abs(x);
    const auto square = V::mul(z, z);
    const auto p = polynomial<V>(square, -0.333332807F, 0.133314416F, -0.0537397079F, 0.0206390675F,
                                 -0.00570496777F);
    const auto small = V::fma(V::mul(p, square), z, z);
    const auto power = exp<V>(V::add(z, z));
    const auto large = V::sub(V::set(1.0F), V::div(V::set(2.0F), V::add(power, V::set(1.0F))));
    const auto magnitude = V::select(V::not_less(z, V::set(0.625F)), large, small);
    return V::with_sign_of(magnitude, x);
}

/// exp(-|x|): the exponential of a magnitude never overflows.
template <class V>
inline typename V::Float exp_of_magnitude(typename V::Float x) {
    return exp<V>(V::sub(V::set(0.0F), V::abs(x)));
}

/// 1 / (1 + exp(-x)), for x < 0 as e / (1 + e) with e = exp(x): the relative error stays small on
/// both sides.
template <class V>
inline typename V::Float sigmoid(typename V::Float x) {
    const auto e = exp_of_magnitude<V>(x);
    const auto upper = V::select(V::not_less(x, V::set(0.0F)), V::set(1.0F), e);
    return V::div(upper, V::add(V::set(1.0F), e));
}

/// x times the sigmoid whose e = exp(-|slope x|) is given, likewise.
template <class V>
inline typename V::Float sigmoid_gated(typename V::Float x, typename V::Float e) {
    const auto upper = V::select(V::not_less(x, V::set(0.0F)), x, V::mul(x, e));
    return V::div(upper, V::add(V::set(1.0F), e));
}

/// x / (1 + exp(-x)).
template <class V>
inline typename V::Float silu(typename V::Float x) {
    return sigmoid_gated<V>(x, exp_of_magnitude<V>(x));
}

/// x / (1 + exp(-1.702 x)).
template <class V>
inline typename V::Float gelu_sigmoid(typename V::Float x) {
    return sigmoid_gated<V>(x, exp_of_magnitude<V>(V::mul(x, V::set(1.702F))));
}

}  // namespace ablation::body

// The row primitives of simd.h, written once over a vector type V (see vector_math.h); each
// provider file has its own.
#pragma once

#include <cstdint>

#include "isa/simd.h"
#include "isa/vector_math.h"

namespace ablation::body {

/// Sum of term(i, lanes) over [0, n). Four accumulators hide the latency of an addition; blocks of
/// 64 vectors are added up in double, so the error doesn't grow with n: at most about 22 roundings
/// lie between a term and the sum.
template <class V, class Term>
inline float sum_terms(std::int64_t n, Term term) {
    constexpr std::int64_t kStep = 4 * V::width;
    constexpr std::int64_t kBlock = 16 * kStep;
    double total = 0.0;
    std::int64_t i = 0;
    while (i + kStep <= n) {
        const std::int64_t end = n - i < kBlock ? n : i + kBlock;
        auto s0 = V::set(0.0F), s1 = s0, s2 = s0, s3 = s0;
        for (; i + kStep <= end; i += kStep) {
            s0 = V::add(s0, term(i, All{}));
            s1 = V::add(s1, term(i + V::width, All{}));
            s2 = V::add(s2, term(i + 2 * V::width, All{}));
            s3 = V::add(s3, term(i + 3 * V::width, All{}));
        }
        total += static_cast<double>(V::sum(V::add(V::add(s0, s1), V::add(s2, s3))));
    }
    if (i < n) {
        auto s0 = V::set(0.0F);
        for (; i + V::width <= n; i += V::width) s0 = V::add(s0, term(i, All{}));
        if (i < n) s0 = V::add(s0, V::keep(term(i, First{n - i}), First{n - i}));
        total += static_cast<double>(V::sum(s0));
    }
    return static_cast<float>(total);
}

template <class V>
struct Rows {
    /// max drops a NaN that it meets, so NaNs are looked for besides, two vectors a comparison.
    static float max(const float* x, std::int64_t n) {
        constexpr float kLowest = -__builtin_inff();
        auto m0 = V::set(kLowest), m1 = m0, m2 = m0, m3 = m0;
        auto nan = V::unordered(m0, m0);
        std::int64_t i = 0;
        for (; i + 4 * V::width <= n; i += 4 * V::width) {
            const auto x0 = V::load(x + i, All{}), x1 = V::load(x + i + V::width, All{});
            const auto x2 = V::load(x + i + 2 * V::width, All{});
            const auto x3 = V::load(x + i + 3 * V::width, All{});
            nan = V::either(nan, V::either(V::unordered(x0, x1), V::unordered(x2, x3)));
            m0 = V::max(m0, x0);
            m1 = V::max(m1, x1);
            m2 = V::max(m2, x2);
            m3 = V::max(m3, x3);
        }
        for_vectors<V>(n - i, [&](std::int64_t j, auto lanes) {
            const auto v = V::load(x + i + j, lanes, kLowest);
            nan = V::either(nan, V::unordered(v, v));
            m0 = V::max(m0, v);
        });
        if (V::any(nan)) return __builtin_nanf("");
        return V::largest(V::max(V::max(m0, m1), V::max(m2, m3)));
    }

    static float sum(const float* x, std::int64_t n) {
        return sum_terms<V>(n, [=](std::int64_t i, auto lanes) { return V::load(x + i, lanes); });
    }

    static float sum_squared_difference(const float* x, float mean, std::int64_t n) {
        const auto center = V::set(mean);
        return sum_terms<V>(n, [=](std::int64_t i, auto lanes) {
            const auto difference = V::sub(V::load(x + i, lanes), center);
            return V::mul(difference, difference);
        });
    }

    static float exp_shifted(float* y, const float* x, float shift, std::int64_t n) {
        const auto offset = V::set(shift);
        return sum_terms<V>(n, [=](std::int64_t i, auto lanes) {
            const auto v = body::exp<V>(V::sub(V::load(x + i, lanes), offset));
            V::store(y + i, v, lanes);
            return v;
        });
    }

    static void scale(float* y, const float* x, float factor, std::int64_t n) {
        const auto f = V::set(factor);
        for_vectors<V>(n, [=](std::int64_t i, auto lanes) {
            V::store(y + i, V::mul(V::load(x + i, lanes), f), lanes);
        });
    }

    static void scale_add(float* y, const float* x, float factor, const float* addend,
                          std::int64_t n) {
        const auto f = V::set(factor);
        for_vectors<V>(n, [=](std::int64_t i, auto lanes) {
            V::store(y + i, V::fma(V::load(x + i, lanes), f, V::load(addend + i, lanes)), lanes);
        });
    }

    static void normalize(float* y, const float* x, float mean, float inverse_deviation,
                          const float* weight, const float* bias, std::int64_t n) {
        const auto center = V::set(mean), factor = V::set(inverse_deviation);
        for_vectors<V>(n, [=](std::int64_t i, auto lanes) {
            const auto v = V::mul(V::sub(V::load(x + i, lanes), center), factor);
            V::store(y + i, V::fma(v, V::load(weight + i, lanes), V::load(bias + i, lanes)), lanes);
        });
    }

    static void scale_by(float* y, const float* x, float factor, const float* weight,
                         std::int64_t n) {
        const auto f = V::set(factor);
        for_vectors<V>(n, [=](std::int64_t i, auto lanes) {
            const auto scaled = V::mul(V::load(x + i, lanes), f);
            V::store(y + i, V::mul(scaled, V::load(weight + i, lanes)), lanes);
        });
    }

    static void rotate_pairs(float* y, const float* x, const float* cos, const float* sin,
                             std::int64_t n) {
        alignas(64) static constexpr float kSigns[16] = {-1, 1, -1, 1, -1, 1, -1, 1,
                                                         -1, 1, -1, 1, -1, 1, -1, 1};
        const auto signs = V::load(kSigns, All{});
        for_vectors<V>(n, [=](std::int64_t i, auto lanes) {
            const auto v = V::load(x + i, lanes);
            const auto turned = V::mul(V::swap_pairs(v), V::load_twice(sin + i / 2, lanes));
            const auto straight = V::mul(v, V::load_twice(cos + i / 2, lanes));
            V::store(y + i, V::fma(turned, signs, straight), lanes);
        });
    }

    static void rotate_halves(float* y, const float* x, const float* cos, const float* sin,
                              std::int64_t n) {
        const std::int64_t half = n / 2;
        for_vectors<V>(half, [=](std::int64_t i, auto lanes) {
            const auto a = V::load(x + i, lanes), b = V::load(x + half + i, lanes);
            const auto c = V::load(cos + i, lanes), s = V::load(sin + i, lanes);
            V::store(y + i, V::sub(V::mul(a, c), V::mul(b, s)), lanes);
            V::store(y + half + i, V::add(V::mul(a, s), V::mul(b, c)), lanes);
        });
    }

    /// operation(a, b) along a row; an operand of step 0 stays in a register.
    template <class Operation>
    static void binary(float* y, const float* a, std::int64_t a_step, const float* b,
                       std::int64_t b_step, std::int64_t n, Operation operation) {
        if (n == 0) return;
        const auto a0 = V::set(*a), b0 = V::set(*b);
        const auto run = [=](auto left, auto right) {
            for_vectors<V>(n, [=](std::int64_t i, auto lanes) {
                V::store(y + i, operation(left(i, lanes), right(i, lanes)), lanes);
            });
        };
        const auto a_row = [=](std::int64_t i, auto lanes) { return V::load(a + i, lanes); };
        const auto b_row = [=](std::int64_t i, auto lanes) { return V::load(b + i, lanes); };
        const auto a_one = [=](std::int64_t, auto) { return a0; };
        const auto b_one = [=](std::int64_t, auto) { return b0; };
        if (a_step != 0 && b_step != 0) {
            run(a_row, b_row);
        } else if (a_step != 0) {
            run(a_row, b_one);
        } else if (b_step != 0) {
            run(a_one, b_row);
        } else {
            run(a_one, b_one);
        }
    }

    static void add(float* y, const float* a, std::int64_t a_step, const float* b,
                    std::int64_t b_step, std::int64_t n) {
        binary(y, a, a_step, b, b_step, n, [](auto u, auto v) { return V::add(u, v); });
    }
    static void sub(float* y, const float* a, std::int64_t a_step, const float* b,
                    std::int64_t b_step, std::int64_t n) {
        binary(y, a, a_step, b, b_step, n, [](auto u, auto v) { return V::sub(u, v); });
    }
    static void mul(float* y, const float* a, std::int64_t a_step, const float* b,
                    std::int64_t b_step, std::int64_t n) {
        binary(y, a, a_step, b, b_step, n, [](auto u, auto v) { return V::mul(u, v); });
    }
    static void div(float* y, const float* a, std::int64_t a_step, const float* b,
                    std::int64_t b_step, std::int64_t n) {
        binary(y, a, a_step, b, b_step, n, [](auto u, auto v) { return V::div(u, v); });
    }

    /// max and min give v where v is NaN.
    static void maximum(float* y, const float* a, std::int64_t a_step, const float* b,
                        std::int64_t b_step, std::int64_t n) {
        binary(y, a, a_step, b, b_step, n,
               [](auto u, auto v) { return V::select(V::unordered(u, u), u, V::max(u, v)); });
    }
    static void minimum(float* y, const float* a, std::int64_t a_step, const float* b,
                        std::int64_t b_step, std::int64_t n) {
        binary(y, a, a_step, b, b_step, n,
               [](auto u, auto v) { return V::select(V::unordered(u, u), u, V::min(u, v)); });
    }

    static void equal(float* y, const float* a, std::int64_t a_step, const float* b,
                      std::int64_t b_step, std::int64_t n) {
        binary(y, a, a_step, b, b_step, n, [](auto u, auto v) {
            const auto one = V::zero_unless(V::not_less(v, u), V::set(1.0F));
            return V::select(V::unordered(u, v), V::set(0.0F),
                             V::zero_unless(V::not_less(u, v), one));
        });
    }
    static void less(float* y, const float* a, std::int64_t a_step, const float* b,
                     std::int64_t b_step, std::int64_t n) {
        binary(y, a, a_step, b, b_step, n, [](auto u, auto v) {
            return V::select(V::not_less(u, v), V::set(0.0F), V::set(1.0F));
        });
    }
    static void less_equal(float* y, const float* a, std::int64_t a_step, const float* b,
                           std::int64_t b_step, std::int64_t n) {
        binary(y, a, a_step, b, b_step, n, [](auto u, auto v) {
            const auto one = V::zero_unless(V::not_less(v, u), V::set(1.0F));
            return V::select(V::unordered(u, v), V::set(0.0F), one);
        });
    }

    /// y = function(x), a vector at a time.
    template <class Function>
    static void unary(float* y, const float* x, std::int64_t n, Function function) {
        for_vectors<V>(n, [=](std::int64_t i, auto lanes) {
            V::store(y + i, function(V::load(x + i, lanes)), lanes);
        });
    }

    static void exp(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return body::exp<V>(v); });
    }
    static void sqrt(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return V::sqrt(v); });
    }
    static void tanh(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return body::tanh<V>(v); });
    }
    static void erf(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return body::erf<V>(v); });
    }
    static void abs(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return V::abs(v); });
    }
    static void sigmoid(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return body::sigmoid<V>(v); });
    }
    static void relu(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return V::max(V::set(0.0F), v); });
    }

    static void bias_relu(float* y, const float* x, const float* bias, std::int64_t n) {
        for_vectors<V>(n, [=](std::int64_t i, auto lanes) {
            const auto v = V::add(V::load(x + i, lanes), V::load(bias + i, lanes));
            V::store(y + i, V::max(V::set(0.0F), v), lanes);
        });
    }

    static void gelu(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return body::gelu<V>(v); });
    }
    static void gelu_tanh(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return body::gelu_tanh<V>(v); });
    }
    static void gelu_sigmoid(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return body::gelu_sigmoid<V>(v); });
    }
    static void silu(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return body::silu<V>(v); });
    }

    static void silu_mul(float* y, const float* a, const float* b, std::int64_t n) {
        for_vectors<V>(n, [=](std::int64_t i, auto lanes) {
            const auto gate = body::silu<V>(V::load(a + i, lanes));
            V::store(y + i, V::mul(gate, V::load(b + i, lanes)), lanes);
        });
    }

    static void rsqrt(float* y, const float* x, std::int64_t n) {
        unary(y, x, n, [](auto v) { return V::div(V::set(1.0F), V::sqrt(v)); });
    }

    /// Two pipes of latency 4 need 8 chains; 12 leave room and still fit the 16 registers of AVX2.
    static std::int64_t multiply_add(std::int64_t rounds, float* sink) {
        constexpr int kChains = 12;
        typename V::Float chains[kChains];
        // Values that the compiler can't know: it would fold the chains. With *sink = 0 each chain
        // is x = x / 2 + 1 / 2 and settles at 1; one that tends to 0 would slow down as a denormal.
        for (int i = 0; i < kChains; ++i) chains[i] = V::set(*sink + static_cast<float>(i));
        const auto half = V::set(*sink * 0.5F + 0.5F);
        for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
            for (auto& chain : chains) chain = V::fma(chain, half, half);
        }
        for (auto& chain : chains) *sink += V::sum(chain);
        return 2 * rounds * kChains * V::width;
    }

    static constexpr SimdProvider provider() {
        return {.name = V::name,
                .max = max,
                .sum = sum,
                .sum_squared_difference = sum_squared_difference,
                .exp_shifted = exp_shifted,
                .scale = scale,
                .scale_add = scale_add,
                .normalize = normalize,
                .scale_by = scale_by,
                .rotate_pairs = rotate_pairs,
                .rotate_halves = rotate_halves,
                .add = add,
                .sub = sub,
                .mul = mul,
                .div = div,
                .maximum = maximum,
                .minimum = minimum,
                .equal = equal,
                .less = less,
                .less_equal = less_equal,
                .exp = exp,
                .sqrt = sqrt,
                .tanh = tanh,
                .erf = erf,
                .abs = abs,
                .sigmoid = sigmoid,
                .relu = relu,
                .bias_relu = bias_relu,
                .gelu = gelu,
                .gelu_tanh = gelu_tanh,
                .gelu_sigmoid = gelu_sigmoid,
                .silu = silu,
                .silu_mul = silu_mul,
                .rsqrt = rsqrt,
                .multiply_add = multiply_add};
    }
};

}  // namespace ablation::body

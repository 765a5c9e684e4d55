// Functions of the C library, one element at a time. log, sin, cos and pow have no vector form:
// their parallel kernels split the same loop over the pool. Built with auto-vectorization off.
// Cost: see elementwise.h.
#include <cmath>

#include "core/parallel_rows.h"
#include "elementwise/elementwise.h"
#include "elementwise/scalar_functions.h"
#include "elementwise/scalar_loops.h"

namespace ablation {

namespace {

/// Nanoseconds per element of one thread, measured with operands in the second-level cache.
constexpr double kLogNs = 4.2;
constexpr double kSinNs = 4.0;
constexpr double kPowNs = 6.4;

template <class Operation>
void unary_parallel(const Call& call, double element_ns, Operation operation) {
    parallel_rows(call.output.shape.count(), element_ns, [&](std::int64_t begin, std::int64_t end) {
        unary_scalar(call, begin, end, operation);
    });
}

constexpr auto log_of = [](float x) { return std::log(x); };
constexpr auto sin_of = [](float x) { return std::sin(x); };
constexpr auto cos_of = [](float x) { return std::cos(x); };
constexpr auto pow_of = [](float a, float b) { return std::pow(a, b); };

}  // namespace

void exp_scalar(const Call& call) {
    unary_scalar(call, [](float x) { return std::exp(x); });
}
void sqrt_scalar(const Call& call) {
    unary_scalar(call, [](float x) { return std::sqrt(x); });
}
void tanh_scalar(const Call& call) {
    unary_scalar(call, [](float x) { return std::tanh(x); });
}
void sigmoid_scalar(const Call& call) {
    unary_scalar(call, [](float x) { return sigmoid(x); });
}
void erf_scalar(const Call& call) {
    unary_scalar(call, [](float x) { return std::erf(x); });
}
void abs_scalar(const Call& call) {
    unary_scalar(call, [](float x) { return std::fabs(x); });
}

void log_scalar(const Call& call) { unary_scalar(call, log_of); }
void log_parallel(const Call& call) { unary_parallel(call, kLogNs, log_of); }
void sin_scalar(const Call& call) { unary_scalar(call, sin_of); }
void sin_parallel(const Call& call) { unary_parallel(call, kSinNs, sin_of); }
void cos_scalar(const Call& call) { unary_scalar(call, cos_of); }
void cos_parallel(const Call& call) { unary_parallel(call, kSinNs, cos_of); }

void pow_scalar(const Call& call) { binary_scalar(call, pow_of); }
void pow_parallel(const Call& call) {
    const Broadcast plan = plan_broadcast(call, 2);
    parallel_rows(call.output.shape.count(), kPowNs, [&](std::int64_t begin, std::int64_t end) {
        binary_scalar(call, plan, begin, end, pow_of);
    });
}

}  // namespace ablation

// sum and amax in vector registers, with several accumulators so that no operation waits for the
// one before; the parallel kernels split the rows over the pool. Cost: see reduce.h.
#include <cmath>

#include "core/parallel_rows.h"
#include "isa/simd.h"
#include "reduce/reduce.h"

namespace ablation {

namespace {

/// Nanoseconds of one thread per element, and per row for its call; measured.
constexpr double kElementNs = 0.037;
constexpr double kRowNs = 2.5;

/// As the scalar kernel has it, where a part of the sum is beyond float32 or no number.
float sum_in_double(const float* x, std::int64_t d) {
    double total = 0.0;
    for (std::int64_t i = 0; i < d; ++i) total += static_cast<double>(x[i]);
    return static_cast<float>(total);
}

void sum_rows(const Call& call, std::int64_t begin, std::int64_t end) {
    const SimdProvider& provider = simd();
    const std::int64_t d = call.inputs[0].shape[-1];
    for (std::int64_t row = begin; row < end; ++row) {
        const float* x = call.inputs[0].data + row * d;
        const float total = provider.sum(x, d);
        call.output.data[row] = std::isfinite(total) ? total : sum_in_double(x, d);
    }
}

void amax_rows(const Call& call, std::int64_t begin, std::int64_t end) {
    const SimdProvider& provider = simd();
    const std::int64_t d = call.inputs[0].shape[-1];
    for (std::int64_t row = begin; row < end; ++row) {
        call.output.data[row] = provider.max(call.inputs[0].data + row * d, d);
    }
}

template <class Function>
void reduce_parallel(const Call& call, Function function) {
    const auto d = static_cast<double>(call.inputs[0].shape[-1]);
    parallel_rows(call.output.shape.count(), kRowNs + kElementNs * d,
                  [&](std::int64_t begin, std::int64_t end) { function(call, begin, end); });
}

}  // namespace

void sum_simd(const Call& call) { sum_rows(call, 0, call.output.shape.count()); }
void sum_simd_parallel(const Call& call) { reduce_parallel(call, sum_rows); }

void amax_simd(const Call& call) { amax_rows(call, 0, call.output.shape.count()); }
void amax_simd_parallel(const Call& call) { reduce_parallel(call, amax_rows); }

}  // namespace ablation

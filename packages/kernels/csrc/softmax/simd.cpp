// softmax's three passes in vector registers, exp by range reduction and a polynomial; the parallel
// kernel splits the rows over the pool. Cost: see softmax.h.
#include "isa/simd.h"
#include "core/parallel_rows.h"
#include "softmax/softmax.h"

namespace ablation {

namespace {

/// Nanoseconds of one thread per element, and per row for its three calls and reductions; measured.
constexpr double kElementNs = 0.35;
constexpr double kRowNs = 20.0;

void softmax_rows(const Call& call, std::int64_t begin, std::int64_t end) {
    const SimdProvider& provider = simd();
    const std::int64_t n = call.output.shape[-1];
    for (std::int64_t row = begin; row < end; ++row) {
        const float* x = call.inputs[0].data + row * n;
        float* y = call.output.data + row * n;
        const float sum = provider.exp_shifted(y, x, provider.max(x, n), n);
        provider.scale(y, y, 1.0F / sum, n);
    }
}

}  // namespace

void softmax_simd(const Call& call) {
    softmax_rows(call, 0, call.output.shape.count() / call.output.shape[-1]);
}

void softmax_simd_parallel(const Call& call) {
    const std::int64_t n = call.output.shape[-1];
    parallel_rows(call.output.shape.count() / n, kRowNs + kElementNs * static_cast<double>(n),
                  [&](std::int64_t begin, std::int64_t end) { softmax_rows(call, begin, end); });
}

}  // namespace ablation

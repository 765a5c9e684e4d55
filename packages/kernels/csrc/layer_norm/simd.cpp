// layer_norm's three passes in vector registers, each sum in several accumulators so that no
// addition waits for the one before; the parallel kernel splits the rows over the pool. Cost: see
// layer_norm.h.
#include <cmath>

#include "core/parallel_rows.h"
#include "isa/simd.h"
#include "layer_norm/layer_norm.h"

namespace ablation {

namespace {

/// Nanoseconds of one thread per element, and per row for its three calls and reductions; measured.
constexpr double kElementNs = 0.2;
constexpr double kRowNs = 20.0;

void layer_norm_rows(const Call& call, std::int64_t begin, std::int64_t end) {
    const SimdProvider& provider = simd();
    const float eps = call.attributes.eps;
    const std::int64_t d = call.output.shape[-1];
    const float size = static_cast<float>(d);
    for (std::int64_t row = begin; row < end; ++row) {
        const float* x = call.inputs[0].data + row * d;
        const float mean = provider.sum(x, d) / size;
        const float variance = provider.sum_squared_difference(x, mean, d) / size;
        float* y = call.output.data + row * d;
        if (!float_holds(mean, variance + eps)) {
            layer_norm_in_double(y, x, eps, call.inputs[1].data, call.inputs[2].data, d);
            continue;
        }
        provider.normalize(y, x, mean, 1.0F / std::sqrt(variance + eps), call.inputs[1].data,
                           call.inputs[2].data, d);
    }
}

}  // namespace

void layer_norm_simd(const Call& call) {
    layer_norm_rows(call, 0, call.output.shape.count() / call.output.shape[-1]);
}

void layer_norm_simd_parallel(const Call& call) {
    const std::int64_t d = call.output.shape[-1];
    parallel_rows(call.output.shape.count() / d, kRowNs + kElementNs * static_cast<double>(d),
                  [&](std::int64_t begin, std::int64_t end) { layer_norm_rows(call, begin, end); });
}

}  // namespace ablation

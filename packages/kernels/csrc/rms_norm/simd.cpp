// rms_norm's two passes in vector registers, the sum in several accumulators so that no addition
// waits for the one before; the parallel kernel splits the rows over the pool. Cost: see
// rms_norm.h.
#include <cmath>
#include <limits>

#include "core/parallel_rows.h"
#include "isa/simd.h"
#include "rms_norm/rms_norm.h"

namespace ablation {

namespace {

/// Nanoseconds of one thread per element, and per row for its two calls and the reduction;
/// measured.
constexpr double kElementNs = 0.12;
constexpr double kRowNs = 14.0;

/// As the scalar kernel has it, where the squares of a row are together beyond float32.
float mean_of_squares_in_double(const float* x, std::int64_t d) {
    double squares = 0.0;
    for (std::int64_t i = 0; i < d; ++i) squares += static_cast<double>(x[i] * x[i]);
    return static_cast<float>(squares / static_cast<double>(d));
}

void rms_norm_rows(const Call& call, std::int64_t begin, std::int64_t end) {
    const SimdProvider& provider = simd();
    const float eps = call.attributes.eps;
    const RmsNormRows rows(call);
    const std::int64_t d = rows.d;
    const float size = static_cast<float>(d);
    const auto add = [&](float* y, const float* addend) { provider.add(y, y, 1, addend, 1, d); };
    const auto norm = [&](float* y, const float* x, const float* weight) {
        // x - 0 is x, so this is the sum of squares.
        float mean = provider.sum_squared_difference(x, 0.0F, d) / size;
        if (mean > std::numeric_limits<float>::max()) mean = mean_of_squares_in_double(x, d);
        provider.scale_by(y, x, 1.0F / std::sqrt(mean + eps), weight, d);
    };
    rows.for_rows(call, begin, end, norm, add);
}

}  // namespace

void rms_norm_simd(const Call& call) {
    rms_norm_rows(call, 0, call.output.shape.count() / call.output.shape[-1]);
}

void rms_norm_simd_parallel(const Call& call) {
    const std::int64_t d = call.output.shape[-1];
    parallel_rows(call.output.shape.count() / d, kRowNs + kElementNs * static_cast<double>(d),
                  [&](std::int64_t begin, std::int64_t end) { rms_norm_rows(call, begin, end); });
}

}  // namespace ablation

// cumsum, one element at a time: each sum needs the one before. It is kept in double, which costs
// nothing here. cumsum_parallel splits the rows of the same loop over the pool. Built with
// auto-vectorization off. Cost: see reduce.h.
#include "core/parallel_rows.h"
#include "reduce/reduce.h"

namespace ablation {

namespace {

/// Nanoseconds per element of one thread: the latency of an addition; measured.
constexpr double kElementNs = 0.94;

void cumsum_rows(const Call& call, std::int64_t begin, std::int64_t end) {
    const std::int64_t d = call.output.shape[-1];
    for (std::int64_t row = begin; row < end; ++row) {
        const float* x = call.inputs[0].data + row * d;
        float* y = call.output.data + row * d;
        double total = 0.0;
        for (std::int64_t i = 0; i < d; ++i) {
            total += static_cast<double>(x[i]);
            y[i] = static_cast<float>(total);
        }
    }
}

std::int64_t rows_of(const Call& call) { return call.output.shape.count() / call.output.shape[-1]; }

}  // namespace

void cumsum_scalar(const Call& call) { cumsum_rows(call, 0, rows_of(call)); }

void cumsum_parallel(const Call& call) {
    parallel_rows(rows_of(call), kElementNs * static_cast<double>(call.output.shape[-1]),
                  [&](std::int64_t begin, std::int64_t end) { cumsum_rows(call, begin, end); });
}

}  // namespace ablation

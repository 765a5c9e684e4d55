// where, one element at a time; where_parallel splits the same loop over the pool. Built with
// auto-vectorization off, so that neither uses vector registers. Cost: see elementwise.h.
#include "core/parallel_rows.h"
#include "elementwise/broadcast.h"
#include "elementwise/elementwise.h"

namespace ablation {

namespace {

/// Nanoseconds per element of one thread, measured with operands in the second-level cache.
constexpr double kElementNs = 0.6;

void where_range(const Call& call, const Broadcast& plan, std::int64_t begin, std::int64_t end) {
    const std::int64_t condition_step = plan.row_steps()[0];
    const std::int64_t x_step = plan.row_steps()[1], y_step = plan.row_steps()[2];
    plan.for_rows(begin, end,
                  [&](std::int64_t offset, const Broadcast::Offsets& offsets, std::int64_t count) {
                      float* out = call.output.data + offset;
                      const float* condition = call.inputs[0].data + offsets[0];
                      const float* x = call.inputs[1].data + offsets[1];
                      const float* y = call.inputs[2].data + offsets[2];
                      for (std::int64_t i = 0; i < count; ++i) {
                          out[i] =
                              condition[i * condition_step] != 0.0F ? x[i * x_step] : y[i * y_step];
                      }
                  });
}

}  // namespace

void where_scalar(const Call& call) {
    where_range(call, plan_broadcast(call, 3), 0, call.output.shape.count());
}

void where_parallel(const Call& call) {
    const Broadcast plan = plan_broadcast(call, 3);
    parallel_rows(call.output.shape.count(), kElementNs, [&](std::int64_t begin, std::int64_t end) {
        where_range(call, plan, begin, end);
    });
}

}  // namespace ablation

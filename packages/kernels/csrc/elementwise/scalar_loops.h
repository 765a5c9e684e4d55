// Loops of one element at a time, for the files that are built without auto-vectorization
// (scalar.cpp and *_scalar.cpp) alone.
#pragma once

#include <cstdint>

#include "elementwise/broadcast.h"

namespace ablation {

/// Elements [begin, end) of operation(a, b), broadcast as planned.
template <class Operation>
void binary_scalar(const Call& call, const Broadcast& plan, std::int64_t begin, std::int64_t end,
                   Operation operation) {
    const std::int64_t a_step = plan.row_steps()[0], b_step = plan.row_steps()[1];
    plan.for_rows(begin, end,
                  [&](std::int64_t offset, const Broadcast::Offsets& offsets, std::int64_t count) {
                      float* y = call.output.data + offset;
                      const float* a = call.inputs[0].data + offsets[0];
                      const float* b = call.inputs[1].data + offsets[1];
                      for (std::int64_t i = 0; i < count; ++i) {
                          y[i] = operation(a[i * a_step], b[i * b_step]);
                      }
                  });
}

template <class Operation>
void binary_scalar(const Call& call, Operation operation) {
    binary_scalar(call, plan_broadcast(call, 2), 0, call.output.shape.count(), operation);
}

/// Elements [begin, end) of operation(x).
template <class Operation>
void unary_scalar(const Call& call, std::int64_t begin, std::int64_t end, Operation operation) {
    const float* x = call.inputs[0].data;
    float* y = call.output.data;
    for (std::int64_t i = begin; i < end; ++i) y[i] = operation(x[i]);
}

template <class Operation>
void unary_scalar(const Call& call, Operation operation) {
    unary_scalar(call, 0, call.output.shape.count(), operation);
}

}  // namespace ablation

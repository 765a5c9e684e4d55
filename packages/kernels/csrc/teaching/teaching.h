// The teaching set: attention written plainly in four forms, each with one idea more than its
// parent.
//
//   naive -> blocked            the products go tile by tile
//   naive -> fused_row          a row of scores is finished before the next one begins
//   fused_row -> flash          no row of scores is ever whole
//
// output = softmax(scale * q @ k^T) @ v for each batch item and head.
//
// Shapes
//   q, k, v and output (B, H, N, D): as many keys as queries, at most 2^24. No mask.
// Dtype
//   float32, one element after the other; a row's weights are summed in double.
// Code
//   Plain C++ at -O3 for the platform's baseline: no intrinsics, no library. Neither "scalar" nor
//   "simd" in the sense of kernels.def: the compiler may vectorize what it can, which is the sum
//   over keys in products.h, but not a dot product or exp.
// Softmax
//   safe subtracts the maximum of a row before exp. unsafe does not, as the course that the forms
//   come from (Stanford CS149, assignment 4): a score above 88.7 overflows and its row becomes NaN,
//   and so does a row whose scores are all below -104; a row whose sum alone overflows becomes 0 or
//   NaN.
// Values
//   NaN propagates: in q to its row, in k or v to its head. Infinite inputs are not provided for.
//   naive, blocked and fused_row do the same arithmetic in the same order: their results are equal
//   to the bit. No result depends on the number of threads.
// Scratch
//   Bytes for each worker, with Br = min(block_q, N) and Bc = min(block_k, N):
//     naive, blocked   4 N N
//     fused_row        4 N
//     flash            4 (3 Br D + 2 Bc D + 2 Br Bc + N + 3 Br)
//   Workers: the threads asked for, but no more than there is to share out: B H heads (naive,
//   blocked), B H N rows (fused_row), B H ceil(N / Br) blocks of rows (flash).
// Cost
//   4 B H N N D FLOPs in products and B H N N exponentials in every form.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/types.h"
#include "teaching/span_clock.h"

namespace ablation::teaching {

enum class Softmax : std::uint8_t { safe, unsafe };

/// One call. What is not said by the arrays' shape has been checked: blocks >= 1 and
/// 1 <= threads <= num_threads().
struct Problem {
    const float *q, *k, *v;
    float* output;
    std::int64_t heads;  ///< of all batch items
    std::int64_t seq_len, head_dim;
    std::int64_t block_q, block_k;  ///< rows of a tile of scores, and keys; blocked and flash
    float scale;
    Softmax softmax;
    int threads;
    bool measure_spans;

    std::int64_t head_size() const { return seq_len * head_dim; }
};

struct Outcome {
    std::int64_t scratch_bytes;  ///< peak of the call's arena
    std::optional<SpanTimes> spans;
};

Outcome naive(const Problem& problem);
Outcome blocked(const Problem& problem);
Outcome fused_row(const Problem& problem);
Outcome flash(const Problem& problem);

using Form = Outcome (*)(const Problem&);
/// Throws ValueError with the valid names.
Form find_form(std::string_view name);

/// Checks q, k and v and returns the output's shape. Throws ValueError.
Shape infer(const Call& call);

}  // namespace ablation::teaching

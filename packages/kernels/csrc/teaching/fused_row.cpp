// fused_row: the three steps of naive are done for one row of queries before the next row begins,
// so that a row of scores never leaves the near cache and scratch is N floats instead of N N. Rows
// do not depend on one another: each worker has a row of scores and takes rows of any head.
//
// Cost of a head: the parent's FLOPs and exponentials, and its 8 N N D bytes of k and v, which
// each row reads whole; none of its 28 N N bytes of scores beyond the cache that holds 4 N.
#include <algorithm>
#include <cstdint>

#include "teaching/products.h"
#include "teaching/workers.h"

namespace ablation::teaching {

namespace {

struct Scratch {
    ScratchArena::Tensor scores;
    Scratch(ScratchArena& arena, const Problem& problem) : scores(arena.tensor(problem.seq_len)) {}
};

}  // namespace

Outcome fused_row(const Problem& problem) {
    const std::int64_t n = problem.seq_len, d = problem.head_dim;
    const auto attend = [&](std::int64_t item, Scratch& scratch, SpanClock& clock) {
        const std::int64_t start = item / n * problem.head_size();
        float* scores = scratch.scores.get();
        float* output = problem.output + item * d;

        multiply_keys(problem.q + item * d, problem.k + start, d, 1, n, problem.scale, scores, n);
        clock.end_span(Span::qk);

        softmax_row(scores, n, problem.softmax);
        clock.end_span(Span::softmax);

        std::fill_n(output, d, 0.0F);
        add_weighted_values(scores, n, problem.v + start, d, 1, n, output);
        clock.end_span(Span::pv);
    };
    return share_out<Scratch>(problem, problem.heads * n, attend);
}

}  // namespace ablation::teaching

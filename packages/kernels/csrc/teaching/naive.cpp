// naive: the definition, with all scores of a head in memory. Three loops make the scores, a
// softmax goes over their rows, three loops multiply them with v. A worker takes whole heads.
//
// Cost of a head: 4 N N D FLOPs and N N exponentials. Scores: 4 N N bytes, written by the first
// product, read three times and written twice by the softmax (the maximum is one of these reads),
// read by the second product: 28 N N bytes that pass through memory where a cache does not hold
// them. Both products read all of k or v for each row: 8 N N D bytes, from the cache that holds
// 4 N D.
#include <algorithm>
#include <cstdint>

#include "teaching/products.h"
#include "teaching/workers.h"

namespace ablation::teaching {

namespace {

struct Scratch {
    ScratchArena::Tensor scores;
    Scratch(ScratchArena& arena, const Problem& problem)
        : scores(arena.tensor(problem.seq_len * problem.seq_len)) {}
};

}  // namespace

Outcome naive(const Problem& problem) {
    const std::int64_t n = problem.seq_len, d = problem.head_dim;
    const auto attend = [&](std::int64_t head, Scratch& scratch, SpanClock& clock) {
        const std::int64_t start = head * problem.head_size();
        float* scores = scratch.scores.get();
        float* output = problem.output + start;

        multiply_keys(problem.q + start, problem.k + start, d, n, n, problem.scale, scores, n);
        clock.end_span(Span::qk);

        for (std::int64_t row = 0; row < n; ++row) {
            softmax_row(scores + row * n, n, problem.softmax);
        }
        clock.end_span(Span::softmax);

        std::fill_n(output, problem.head_size(), 0.0F);
        add_weighted_values(scores, n, problem.v + start, d, n, n, output);
        clock.end_span(Span::pv);
    };
    return share_out<Scratch>(problem, problem.heads, attend);
}

}  // namespace ablation::teaching

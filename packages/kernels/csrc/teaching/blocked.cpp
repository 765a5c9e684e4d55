// blocked: both products of naive go over tiles of block_q rows and block_k keys, so that what a
// tile reads of k or v stays in a near cache until all rows of the tile have used it. The scores
// of a head are still whole, and the softmax between the products is the parent's.
//
// Cost of a head: the parent's FLOPs, exponentials and 28 N N bytes of scores. k and v are fetched
// once for each block of rows: 8 N N D / block_q bytes, where 4 block_k D fit into the near cache.
// Worth something only where k or v does not fit by itself: at N = 1024, D = 32 it is 128 KiB.
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

struct Tile {
    std::int64_t row, rows, key, keys;
};

/// function(tile) for each tile of scores of a head. Keys ascend for every row.
template <class Function>
void for_each_tile(const Problem& problem, Function&& function) {
    const std::int64_t n = problem.seq_len;
    const std::int64_t block_q = std::min(problem.block_q, n);
    const std::int64_t block_k = std::min(problem.block_k, n);
    for (std::int64_t row = 0; row < n; row += block_q) {
        for (std::int64_t key = 0; key < n; key += block_k) {
            function(Tile{row, std::min(block_q, n - row), key, std::min(block_k, n - key)});
        }
    }
}

}  // namespace

Outcome blocked(const Problem& problem) {
    const std::int64_t n = problem.seq_len, d = problem.head_dim;
    const auto attend = [&](std::int64_t head, Scratch& scratch, SpanClock& clock) {
        const std::int64_t start = head * problem.head_size();
        float* scores = scratch.scores.get();
        float* output = problem.output + start;

        for_each_tile(problem, [&](const Tile& tile) {
            multiply_keys(problem.q + start + tile.row * d, problem.k + start + tile.key * d, d,
                          tile.rows, tile.keys, problem.scale, scores + tile.row * n + tile.key, n);
        });
        clock.end_span(Span::qk);

        for (std::int64_t row = 0; row < n; ++row) {
            softmax_row(scores + row * n, n, problem.softmax);
        }
        clock.end_span(Span::softmax);

        std::fill_n(output, problem.head_size(), 0.0F);
        for_each_tile(problem, [&](const Tile& tile) {
            add_weighted_values(scores + tile.row * n + tile.key, n,
                                problem.v + start + tile.key * d, d, tile.rows, tile.keys,
                                output + tile.row * d);
        });
        clock.end_span(Span::pv);
    };
    return share_out<Scratch>(problem, problem.heads, attend);
}

}  // namespace ablation::teaching

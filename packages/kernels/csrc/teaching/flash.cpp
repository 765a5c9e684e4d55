// flash: no row of scores is ever whole. Blocks of keys are the outer loop, blocks of queries the
// inner one; what a pair of blocks needs is copied into eleven small tensors, and the output of a
// row, normalized by the keys seen so far, is mixed with what each block of keys adds. This is the
// algorithm of Dao et al., FlashAttention (2022), in the form of Stanford CS149's assignment 4,
// with one float a row (l) between two blocks of keys.
//
// unsafe: l is the sum of the row's exponentials so far, as in the course.
// safe: l is the logarithm of that sum, which no score overflows. Within a tile all weights are
// relative to the larger of l and the tile's maximum. Old and new weight of a row are divided by
// their sum, so that rounding l (|l| / 2^24 for each block of keys) shifts weight between blocks
// of keys and never changes what the weights sum to. Many blocks at large scores show it:
// N = 4096, D = 64, scale 1, unit normal inputs, 32 keys a block: errors up to 1e-5 of the largest
// output, where fused_row, or unsafe, or 256 keys a block are within 5e-6.
//
// A worker takes blocks of rows of a head: all of them on one thread, as the course does, and for
// each thread a share of every head otherwise, with k and v copied for each share.
//
// Cost of a head: 4 N N D FLOPs and N N exponentials as its parent, and for each block of keys
// 3 N D FLOPs to mix, 24 N D bytes to copy q and the output in and the output out again (each read
// and written), 16 block_k D for k and v. No N N bytes pass through memory, but where a row of
// scores fits into the near cache that is no gain over fused_row, which copies nothing.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "teaching/products.h"
#include "teaching/workers.h"

namespace ablation::teaching {

namespace {

std::int64_t rows_of_block(const Problem& p) { return std::min(p.block_q, p.seq_len); }
std::int64_t keys_of_block(const Problem& p) { return std::min(p.block_k, p.seq_len); }

/// The tensors of the course's handout, by its names.
struct Scratch {
    ScratchArena::Tensor q, o, pv;       ///< (Br, D)
    ScratchArena::Tensor k, v;           ///< (Bc, D)
    ScratchArena::Tensor s, p;           ///< (Br, Bc)
    ScratchArena::Tensor li, lij, lnew;  ///< (Br)
    ScratchArena::Tensor l;              ///< (N)

    Scratch(ScratchArena& arena, const Problem& problem)
        : Scratch(arena, rows_of_block(problem), keys_of_block(problem), problem.seq_len,
                  problem.head_dim) {}

  private:
    Scratch(ScratchArena& arena, std::int64_t rows, std::int64_t keys, std::int64_t n,
            std::int64_t d)
        : q(arena.tensor(rows * d)),
          o(arena.tensor(rows * d)),
          pv(arena.tensor(rows * d)),
          k(arena.tensor(keys * d)),
          v(arena.tensor(keys * d)),
          s(arena.tensor(rows * keys)),
          p(arena.tensor(rows * keys)),
          li(arena.tensor(rows)),
          lij(arena.tensor(rows)),
          lnew(arena.tensor(rows)),
          l(arena.tensor(n)) {}
};

/// Row r of s becomes weights p; li and lij, what the row has so far and what it has in this tile,
/// become relative to the same shift; l is what the row has after the tile.
void weigh_row(Scratch& tile, std::int64_t r, std::int64_t keys, Softmax softmax, float& l) {
    const bool is_safe = softmax == Softmax::safe;
    const float* s = tile.s.get() + r * keys;
    float* p = tile.p.get() + r * keys;
    const float shift = is_safe ? std::max(tile.li[r], *std::max_element(s, s + keys)) : 0.0F;
    double sum = 0.0;
    for (std::int64_t c = 0; c < keys; ++c) {
        p[c] = std::exp(s[c] - shift);
        sum += static_cast<double>(p[c]);
    }
    if (is_safe) tile.li[r] = std::exp(tile.li[r] - shift);
    tile.lij[r] = static_cast<float>(sum);
    tile.lnew[r] = tile.li[r] + tile.lij[r];
    l = is_safe ? shift + std::log(tile.lnew[r]) : tile.lnew[r];
}

/// One tile of scores: rows [row, row + rows) of a head and the keys that k and v hold. Arrays
/// begin at the head.
void attend_tile(const Problem& problem, const float* q, float* output, std::int64_t row,
                 std::int64_t rows, std::int64_t keys, Scratch& tile, SpanClock& clock) {
    const std::int64_t d = problem.head_dim;
    std::copy_n(q + row * d, rows * d, tile.q.get());
    std::copy_n(output + row * d, rows * d, tile.o.get());
    std::copy_n(tile.l.get() + row, rows, tile.li.get());
    clock.end_span(Span::copy);

    multiply_keys(tile.q.get(), tile.k.get(), d, rows, keys, problem.scale, tile.s.get(), keys);
    clock.end_span(Span::qk);

    for (std::int64_t r = 0; r < rows; ++r) {
        weigh_row(tile, r, keys, problem.softmax, tile.l[row + r]);
    }
    clock.end_span(Span::softmax);

    std::fill_n(tile.pv.get(), rows * d, 0.0F);
    add_weighted_values(tile.p.get(), keys, tile.v.get(), d, rows, keys, tile.pv.get());
    clock.end_span(Span::pv);

    for (std::int64_t r = 0; r < rows; ++r) {
        float* o = tile.o.get() + r * d;
        const float* pv = tile.pv.get() + r * d;
        for (std::int64_t e = 0; e < d; ++e) {
            o[e] = (tile.li[r] * o[e] + pv[e]) / tile.lnew[r];
        }
    }
    clock.end_span(Span::rescale);

    std::copy_n(tile.o.get(), rows * d, output + row * d);
    clock.end_span(Span::copy);
}

}  // namespace

Outcome flash(const Problem& problem) {
    const std::int64_t n = problem.seq_len, d = problem.head_dim;
    const std::int64_t block_q = rows_of_block(problem), block_k = keys_of_block(problem);
    const std::int64_t blocks = (n + block_q - 1) / block_q;
    const std::int64_t shares = std::min<std::int64_t>(blocks, problem.threads);
    const auto attend = [&](std::int64_t item, Scratch& scratch, SpanClock& clock) {
        const std::int64_t start = item / shares * problem.head_size(), share = item % shares;
        const std::int64_t begin = blocks * share / shares * block_q;
        const std::int64_t end = std::min(n, blocks * (share + 1) / shares * block_q);
        float* output = problem.output + start;
        const bool is_safe = problem.softmax == Softmax::safe;
        std::fill(scratch.l.get() + begin, scratch.l.get() + end,
                  is_safe ? -std::numeric_limits<float>::infinity() : 0.0F);
        std::fill(output + begin * d, output + end * d, 0.0F);
        for (std::int64_t key = 0; key < n; key += block_k) {
            const std::int64_t keys = std::min(block_k, n - key);
            std::copy_n(problem.k + start + key * d, keys * d, scratch.k.get());
            std::copy_n(problem.v + start + key * d, keys * d, scratch.v.get());
            clock.end_span(Span::copy);
            for (std::int64_t row = begin; row < end; row += block_q) {
                attend_tile(problem, problem.q + start, output, row, std::min(block_q, end - row),
                            keys, scratch, clock);
            }
        }
    };
    return share_out<Scratch>(problem, problem.heads * shares, attend);
}

}  // namespace ablation::teaching

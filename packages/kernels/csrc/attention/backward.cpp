// flash backward: scores are computed once more, tile by tile, from the log-sum-exp that the
// forward pass kept, so that no matrix of them is ever whole. Blocks of keys are the outer loop:
// their gradients are complete after one pass over the queries, and the gradient of q is summed
// over the blocks. Five products a score, where one pass by keys and one by queries, which need no
// sum over blocks, take seven. The inner work is flash_backward_body.h's.
//
// Scheduling: the blocks of keys of a (batch, head) item form one group, or several where there are
// too few items for the cores; a group is one piece of work. The first group of an item sums the
// gradient of q where it belongs, the others in scratch, added in their order at the end: no atomic
// additions, and the same result for any number of threads. Causal groups that see the most queries
// go first. Paper: Dao, FlashAttention-2 (2023), algorithm 2.
#include <algorithm>
#include <array>
#include <cstdint>

#include "attention/backward.h"
#include "attention/flash_backward.h"
#include "attention/tiles.h"
#include "core/parallel.h"
#include "core/parallel_rows.h"
#include "core/table.h"
#include "isa/simd.h"

namespace ablation {

namespace {

const FlashBackwardProvider& flash_backward_provider() { return *instruction_set().flash_backward; }

// Measured as CPU time of one Zen 4 core with AVX-512, D = 64 and 128: tiles of 36 queries cost 3
// %, of 144 or 216 gain at most 1 %. At N = 4096 blocks of 128 keys cost 4 %, of 96 keys 5 %, of
// 256 or 384 gain at most 1 %.

/// Queries of a tile: the products by key are this deep, and the rows divide into full register
/// tiles of every instruction set.
constexpr std::int64_t kTileQueries = 72;
constexpr std::int64_t kMostKeys = 256;   ///< of a block
constexpr std::int64_t kLeastKeys = 128;  ///< of a block that is cut only to share an item
constexpr std::int64_t kPiecesPerCore = 4;
constexpr std::int64_t kMostGroups = 32;
/// Products of the backward pass for each of the forward one.
constexpr double kWorkOfForward = 2.5;
/// Of a row element: delta, and one addition of a group's gradient.
constexpr double kStreamNs = 0.1;

std::int64_t bytes_of(std::int64_t floats) {
    return align_up(floats * static_cast<std::int64_t>(sizeof(float)));
}

struct Plan {
    AttentionSizes sizes;
    float scale;
    bool causal;
    std::int64_t tile_q, tile_k;
    std::int64_t blocks, groups;  ///< of an item's keys; of its blocks
    std::int64_t row_bytes;       ///< delta and shift of all queries
    std::int64_t partial_bytes;   ///< gradient of q of all groups but the first, of all items
    std::int64_t worker_bytes;

    std::int64_t query_floats() const { return sizes.sq * sizes.d; }
    std::int64_t key_floats() const { return sizes.sk * sizes.d; }
    /// First key of a group; that of `groups` is sk.
    std::int64_t first_key(std::int64_t group) const {
        return std::min(blocks * group / groups * tile_k, sizes.sk);
    }
    double serial_ns() const { return kWorkOfForward * sizes.serial_ns(causal); }
};

/// Keys of a block: packed keys and values, k and both gradients take at most a quarter of the L2
/// cache, as far as whole panels allow.
std::int64_t fitting_keys(const FlashBackwardProvider& provider, std::int64_t d) {
    const std::int64_t fitting = std::min(half_l2_floats() / 2 / (5 * d), kMostKeys);
    return std::max(fitting / provider.columns, std::int64_t{1}) * provider.columns;
}

/// Nothing here is a matter of the threads in use, so that results are not either.
Plan make_plan(const Call& call) {
    static const std::int64_t cores = available_cores();
    const FlashBackwardProvider& provider = flash_backward_provider();
    const auto& attributes = call.attributes;
    Plan plan{};
    plan.sizes = attention_sizes(call);
    plan.scale = attention_scale(call);
    plan.causal = attributes.causal;
    const std::int64_t sq = plan.sizes.sq, sk = plan.sizes.sk, d = plan.sizes.d;
    const bool splits = plan.serial_ns() >= kMinimumParallelNs;
    const std::int64_t pieces =
        splits ? std::min(divide_up(kPiecesPerCore * cores, plan.sizes.items()), kMostGroups) : 1;
    const std::int64_t share = std::max(divide_up(sk, pieces), kLeastKeys);
    const std::int64_t most =
        std::min(fitting_keys(provider, d), round_up(share, provider.columns));
    plan.tile_k = round_up(divide_up(sk, divide_up(sk, most)), provider.columns);
    plan.tile_q = std::min(kTileQueries, sq);
    plan.blocks = divide_up(sk, plan.tile_k);
    plan.groups = std::min(pieces, plan.blocks);
    plan.row_bytes = bytes_of(2 * plan.sizes.items() * sq);
    plan.partial_bytes = bytes_of((plan.groups - 1) * plan.sizes.items() * plan.query_floats());
    plan.worker_bytes = bytes_of(flash_backward_floats(provider, plan.tile_q, plan.tile_k, d));
    return plan;
}

/// The call's arrays. The gradients lie one after another in the output.
struct Arrays {
    const float *q, *k, *v, *grad_output;
    float *delta, *shift;  ///< (items, Sq), in scratch
    float *grad_q, *grad_k, *grad_v;
    float* partials;  ///< (groups - 1, items, Sq, D), in scratch
};

Arrays arrays_of(const Call& call, const Plan& plan) {
    const std::int64_t items = plan.sizes.items();
    auto* delta = reinterpret_cast<float*>(call.scratch);
    float* grad_q = call.output.data;
    float* grad_k = grad_q + items * plan.query_floats();
    return {call.inputs[0].data,
            call.inputs[1].data,
            call.inputs[2].data,
            call.inputs[5].data,
            delta,
            delta + items * plan.sizes.sq,
            grad_q,
            grad_k,
            grad_k + items * plan.key_floats(),
            reinterpret_cast<float*>(call.scratch + plan.row_bytes)};
}

void prepare_rows(const Call& call, const Plan& plan, const Arrays& arrays, std::int64_t begin,
                  std::int64_t end) {
    const std::int64_t d = plan.sizes.d;
    flash_backward_provider().prepare({.output = call.inputs[3].data + begin * d,
                                       .grad_output = arrays.grad_output + begin * d,
                                       .lse = call.inputs[4].data + begin,
                                       .rows = end - begin,
                                       .d = d,
                                       .delta = arrays.delta + begin,
                                       .shift = arrays.shift + begin});
}

/// One group of blocks of keys of one item.
void propagate_group(const Plan& plan, const Arrays& arrays, std::int64_t group, std::int64_t item,
                     float* scratch) {
    const std::int64_t queries = item * plan.query_floats(), keys = item * plan.key_floats();
    const std::int64_t partial = (group - 1) * plan.sizes.items() * plan.query_floats();
    float* grad_q = group == 0 ? arrays.grad_q : arrays.partials + partial;
    const std::int64_t first = plan.first_key(group), last = plan.first_key(group + 1);
    for (std::int64_t begin = first; begin < last; begin += plan.tile_k) {
        flash_backward_provider().propagate({.q = arrays.q + queries,
                                             .k = arrays.k + keys,
                                             .v = arrays.v + keys,
                                             .grad_output = arrays.grad_output + queries,
                                             .delta = arrays.delta + item * plan.sizes.sq,
                                             .shift = arrays.shift + item * plan.sizes.sq,
                                             .grad_q = grad_q + queries,
                                             .adds = begin > first,
                                             .grad_k = arrays.grad_k + keys,
                                             .grad_v = arrays.grad_v + keys,
                                             .begin = begin,
                                             .keys = std::min(plan.tile_k, last - begin),
                                             .sq = plan.sizes.sq,
                                             .d = plan.sizes.d,
                                             .tile_q = plan.tile_q,
                                             .tile_k = plan.tile_k,
                                             .scale = plan.scale,
                                             .causal = plan.causal,
                                             .scratch = scratch});
    }
}

/// Adds what the groups but the first have for the queries [begin, end) of an item, in their order.
void add_partials(const Plan& plan, const Arrays& arrays, std::int64_t item, std::int64_t begin,
                  std::int64_t end) {
    const std::int64_t d = plan.sizes.d, size = plan.sizes.items() * plan.query_floats();
    for (std::int64_t group = 1; group < plan.groups; ++group) {
        const std::int64_t written =
            first_query(plan.first_key(group), plan.sizes.sq, plan.tile_q, plan.causal);
        const std::int64_t from = std::max(begin, written);
        if (from >= end) continue;
        const std::int64_t offset = item * plan.query_floats() + from * d;
        float* grad_q = arrays.grad_q + offset;
        simd().add(grad_q, grad_q, 1, arrays.partials + (group - 1) * size + offset, 1,
                   (end - from) * d);
    }
}

}  // namespace

std::int64_t attention_backward_scratch(const Call& call, int threads) {
    const Plan plan = make_plan(call);
    return plan.row_bytes + plan.partial_bytes + threads * plan.worker_bytes;
}

void attention_backward_flash_simd_parallel(const Call& call) {
    const Plan plan = make_plan(call);
    const Arrays arrays = arrays_of(call, plan);
    const std::int64_t items = plan.sizes.items(), sq = plan.sizes.sq;
    const double row_ns = kStreamNs * static_cast<double>(plan.sizes.d);
    parallel_rows(items * sq, row_ns, [&](std::int64_t begin, std::int64_t end) {
        prepare_rows(call, plan, arrays, begin, end);
    });
    const int threads = std::min(call.threads, worthwhile_threads(plan.serial_ns()));
    std::byte* workers = call.scratch + plan.row_bytes + plan.partial_bytes;
    parallel_items(plan.groups * items, threads, [&](std::int64_t index, int worker) {
        auto* scratch = reinterpret_cast<float*>(workers + worker * plan.worker_bytes);
        propagate_group(plan, arrays, index / items, index % items, scratch);
    });
    if (plan.groups == 1) return;
    const std::int64_t tiles = divide_up(sq, plan.tile_q);
    parallel_items(items * tiles, threads, [&](std::int64_t index, int) {
        const std::int64_t begin = index % tiles * plan.tile_q;
        add_partials(plan, arrays, index / tiles, begin, std::min(begin + plan.tile_q, sq));
    });
}

}  // namespace ablation

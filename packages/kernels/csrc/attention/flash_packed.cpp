// flash with products of its own: keys and values are packed once per (batch, head) into the panels
// that the register tiles read, for all query heads that share them, all query tiles and threads,
// where a BLAS packs them anew for each call; and the softmax of a block of rows happens in L1
// between its two products. The inner work is flash_packed_body.h's.
//
// Scheduling is flash_schedule.h's. One item is enough to keep every thread busy.
//
// Cost: 4 Sq Sk D FLOPs an item; 2 Sk D elements packed for each head of k and v.
#include <algorithm>
#include <array>
#include <cstdint>

#include "attention/attention.h"
#include "attention/backward.h"
#include "attention/flash_packed.h"
#include "attention/flash_schedule.h"
#include "attention/hidden_keys.h"
#include "attention/tiles.h"
#include "core/parallel.h"
#include "core/table.h"
#include "isa/simd.h"

namespace ablation {

namespace {

const FlashPackedProvider& flash_packed_provider() { return *instruction_set().flash_packed; }

/// Keys of a tile: its packed keys and values take a quarter of the L2 cache, and the scores of a
/// block of rows stay about in L1. Half as many keys cost 1 to 2 % (the ends of rows weigh more),
/// twice as many gain nothing.
std::int64_t keys_of_tile(const FlashPackedProvider& provider, const AttentionSizes& sizes) {
    constexpr std::int64_t kScoreFloats = 8192;
    const std::int64_t fitting =
        std::min(half_l2_floats() / 2 / (sizes.d + sizes.dv), kScoreFloats / provider.rows);
    return std::max(fitting / provider.columns, std::int64_t{1}) * provider.columns;
}

struct Plan {
    AttentionSizes given;  ///< joined_sizes
    AttentionSizes sizes;  ///< visible of these
    std::int64_t tile_q, tile_k;
    std::int64_t key_floats, value_floats;  ///< packed, of a head of k and v
    std::int64_t group;                     ///< heads of k and v packed at a time
    std::int64_t worker_bytes;
    double serial_ns;
    float* lse;  ///< (B, H, Sq), or null

    std::int64_t item_bytes() const {
        return align_up((key_floats + value_floats) * static_cast<std::int64_t>(sizeof(float)));
    }
};

Plan make_plan(const Call& call, int threads) {
    const FlashPackedProvider& provider = flash_packed_provider();
    const auto& attributes = call.attributes;
    Plan plan{};
    plan.given = joined_sizes(call);
    plan.sizes = plan.given.visible(attributes.causal);
    const std::int64_t sk = plan.sizes.sk, d = plan.sizes.d;
    plan.serial_ns = plan.sizes.serial_ns(attributes.causal, attributes.window);
    plan.tile_q = attributes.tile_q > 0
                      ? std::min(attributes.tile_q, plan.sizes.sq)
                      : flash_query_rows(plan.sizes, plan.serial_ns, provider.rows);
    const std::int64_t tile_k =
        attributes.tile_k > 0 ? attributes.tile_k : keys_of_tile(provider, plan.sizes);
    plan.tile_k = round_up(std::min(tile_k, sk), provider.columns);
    plan.key_floats = round_up(sk, provider.columns) * d;
    plan.value_floats = round_up(plan.sizes.dv, provider.columns) * sk;
    plan.group = flash_group(plan.sizes, plan.item_bytes(), threads);
    plan.worker_bytes = align_up(flash_packed_floats(provider, plan.tile_q, plan.tile_k, d) *
                                 static_cast<std::int64_t>(sizeof(float)));
    return plan;
}

float* packed_keys(const Call& call, const Plan& plan, std::int64_t place) {
    return reinterpret_cast<float*>(call.scratch + place * plan.item_bytes());
}

void pack_piece(const Call& call, const Plan& plan, std::int64_t kv_item, std::int64_t place,
                std::int64_t begin) {
    const ItemRows arrays = item_rows(call, plan.given, kv_item * plan.given.sharing());
    float* keys = packed_keys(call, plan, place);
    flash_packed_provider().pack({.k = arrays.k,
                                  .v = arrays.v,
                                  .k_stride = arrays.k_stride,
                                  .v_stride = arrays.v_stride,
                                  .begin = begin,
                                  .end = std::min(begin + kPackedKeys, plan.sizes.sk),
                                  .sk = plan.sizes.sk,
                                  .d = plan.sizes.d,
                                  .dv = plan.sizes.dv,
                                  .keys = keys,
                                  .values = keys + plan.key_floats});
}

void attend_tile(const Call& call, const Plan& plan, const MaskView& mask, bool skips_hidden,
                 std::int64_t item, std::int64_t place, std::int64_t begin, int worker) {
    const auto& attributes = call.attributes;
    const ItemRows arrays = item_rows(call, plan.given, item);
    const float* keys = packed_keys(call, plan, place);
    float* lse = plan.lse == nullptr ? nullptr : plan.lse + item * plan.sizes.sq + begin;
    std::byte* scratch = call.scratch + plan.group * plan.item_bytes() + worker * plan.worker_bytes;
    flash_packed_provider().attend({.q = arrays.q + begin * arrays.q_stride,
                                    .q_stride = arrays.q_stride,
                                    .keys = keys,
                                    .values = keys + plan.key_floats,
                                    .mask = mask.row(item, plan.sizes.heads, begin, 0),
                                    .mask_query_stride = mask.query_stride,
                                    .mask_key_stride = mask.key_stride,
                                    .output = arrays.output + begin * arrays.output_stride,
                                    .output_stride = arrays.output_stride,
                                    .lse = lse,
                                    .begin = begin,
                                    .rows = std::min(plan.tile_q, plan.sizes.sq - begin),
                                    .sk = plan.sizes.sk,
                                    .d = plan.sizes.d,
                                    .dv = plan.sizes.dv,
                                    .tile_k = plan.tile_k,
                                    .scale = attention_scale(call),
                                    .softcap = attributes.softcap,
                                    .causal = attributes.causal,
                                    .window = attributes.causal ? attributes.window : 0,
                                    .mask_replaces = attributes.mask_replaces,
                                    .skips_hidden = skips_hidden,
                                    .strict = attributes.strict,
                                    .scratch = reinterpret_cast<float*>(scratch)});
}

void run(const Call& call, const Plan& plan) {
    const MaskView mask = mask_view(call, plan.given);
    const bool skips_hidden = may_skip_hidden_tiles(call, plan.sizes, mask);
    const int threads = std::min(call.threads, worthwhile_threads(plan.serial_ns));
    // Of the scratch's places one thread uses the first alone.
    const std::int64_t group = threads == 1 ? 1 : plan.group;
    run_in_groups(
        plan.sizes, group, plan.tile_q, threads,
        [&](std::int64_t kv_item, std::int64_t place, std::int64_t key) {
            pack_piece(call, plan, kv_item, place, key);
        },
        [&](std::int64_t item, std::int64_t place, std::int64_t query, int worker) {
            attend_tile(call, plan, mask, skips_hidden, item, place, query, worker);
        });
    add_hidden_values(call);
}

}  // namespace

std::int64_t attention_flash_packed_scratch(const Call& call, int threads) {
    return larger_of_both(call, [&](const Call& either) {
        const Plan plan = make_plan(either, threads);
        return plan.group * plan.item_bytes() + threads * plan.worker_bytes;
    });
}

std::int64_t attention_lse_scratch(const Call& call, int threads) {
    return attention_flash_packed_scratch(call, threads);
}

void attention_flash_packed_simd_parallel(const Call& given) {
    const Call call = without_hidden_keys(given);
    run(call, make_plan(call, call.threads));
}

void attention_lse_flash_packed_simd_parallel(const Call& call) {
    Plan plan = make_plan(call, call.threads);
    plan.lse = call.output.data + call.inputs[0].shape.count();
    run(call, plan);
}

}  // namespace ablation

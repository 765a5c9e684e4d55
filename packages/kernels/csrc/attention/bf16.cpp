// Attention of bfloat16 arrays on the path that this CPU has; see bf16.h. The native
// work is that of a FlashBf16Provider, shared among the threads as flash_packed's.
#include "attention/bf16.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/attention.h"
#include "attention/flash_bf16.h"
#include "attention/flash_schedule.h"
#include "core/aligned_bytes.h"
#include "core/parallel.h"
#include "core/parallel_rows.h"
#include "core/table.h"
#include "isa/simd.h"

namespace ablation {

namespace {

/// Keys of a tile: as flash_packed's, packed keys and values take at most a quarter of the L2
/// cache and the scores of a block of rows stay about in L1.
std::int64_t keys_of_tile(const FlashBf16Provider& provider, std::int64_t d) {
    constexpr std::int64_t kScoreFloats = 8192;
    const std::int64_t fitting = std::min(half_l2_floats() / (2 * d), kScoreFloats / provider.rows);
    return std::max(fitting / kBf16Panel, std::int64_t{1}) * kBf16Panel;
}

/// Sizes of a native call.
struct Plan {
    std::int64_t tile_q, tile_k;
    std::int64_t item_bytes;  ///< packed, of an item: keys, then values
    std::int64_t group;       ///< items packed at a time
    std::int64_t worker_bytes;
    int threads;

    std::int64_t scratch_bytes() const { return group * item_bytes + threads * worker_bytes; }
};

Plan make_plan(const AttentionSizes& sizes, bool causal, const FlashBf16Provider& provider,
               int threads) {
    Plan plan{};
    plan.tile_q = flash_query_rows(sizes, sizes.serial_ns(causal), provider.rows);
    plan.tile_k = round_up(std::min(keys_of_tile(provider, sizes.d), sizes.sk), kBf16Panel);
    plan.item_bytes = 2 * packed_elements(sizes.sk, sizes.d) * std::int64_t{sizeof(Bf16)};
    plan.worker_bytes = flash_bf16_bytes(provider, plan.tile_q, plan.tile_k, sizes.d);
    plan.threads = sizes.serial_ns(causal) < kMinimumParallelNs ? 1 : threads;
    plan.group = flash_group(sizes, plan.item_bytes, plan.threads);
    return plan;
}

void attend_native(const AttentionBf16& problem, const FlashBf16Provider& provider) {
    const AttentionSizes sizes = problem.sizes.visible(problem.causal);
    const Plan plan = make_plan(sizes, problem.causal, provider, num_threads());
    const auto memory = aligned_bytes(plan.scratch_bytes());
    const auto keys = [&](std::int64_t place) {
        return reinterpret_cast<Bf16*>(memory.get() + place * plan.item_bytes);
    };
    const auto values = [&](std::int64_t place) {
        return keys(place) + packed_elements(sizes.sk, sizes.d);
    };
    std::byte* const workers = memory.get() + plan.group * plan.item_bytes;
    run_in_groups(
        sizes, plan.group, plan.tile_q, plan.threads,
        [&](std::int64_t item, std::int64_t place, std::int64_t key) {
            const std::int64_t first = item * problem.sizes.sk * sizes.d;
            provider.pack({.k = problem.k + first,
                           .v = problem.v + first,
                           .begin = key,
                           .end = std::min(key + kPackedKeys, sizes.sk),
                           .sk = sizes.sk,
                           .d = sizes.d,
                           .keys = keys(place),
                           .values = values(place)});
        },
        [&](std::int64_t item, std::int64_t place, std::int64_t query, int worker) {
            const std::int64_t row = item * sizes.sq + query;
            provider.attend({.q = problem.q + row * sizes.d,
                             .keys = keys(place),
                             .values = values(place),
                             .output = problem.output + row * sizes.d,
                             .lse = problem.lse == nullptr ? nullptr : problem.lse + row,
                             .begin = query,
                             .rows = std::min(plan.tile_q, sizes.sq - query),
                             .sk = sizes.sk,
                             .d = sizes.d,
                             .tile_k = plan.tile_k,
                             .scale = problem.scale,
                             .causal = problem.causal,
                             .scratch = workers + worker * plan.worker_bytes});
        });
}

float widened(Bf16 x) {
    const std::uint32_t bits = std::uint32_t{x} << 16U;
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

/// To nearest even. NaN stays NaN, quiet, with the upper bits of its payload.
Bf16 rounded(float x) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    const std::uint32_t nearest = bits + 0x7fffU + ((bits >> 16U) & 1U);
    const std::uint32_t quiet = bits | 0x400000U;
    return static_cast<Bf16>((x == x ? nearest : quiet) >> 16U);
}

constexpr double kConvertNs = 0.2;  ///< an element, order of magnitude

void widen(float* to, const Bf16* from, std::int64_t n) {
    parallel_rows(n, kConvertNs, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) to[i] = widened(from[i]);
    });
}

void round(Bf16* to, const float* from, std::int64_t n) {
    parallel_rows(n, kConvertNs, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) to[i] = rounded(from[i]);
    });
}

/// The float32 call of a widened one, without arrays and scratch.
Call widened_call(const AttentionSizes& sizes, float scale, bool causal, int threads) {
    Call call;
    call.attributes.scale = scale;
    call.attributes.causal = causal;
    call.threads = threads;
    call.inputs[0] = {.shape = {sizes.batch, sizes.heads, sizes.sq, sizes.d}, .present = true};
    call.inputs[1] = {.shape = {sizes.batch, sizes.heads, sizes.sk, sizes.d}, .present = true};
    call.inputs[2] = call.inputs[1];
    call.output = {.shape = call.inputs[0].shape, .present = true};
    return call;
}

/// Bytes of q, k, v, the output and lse in float32.
std::int64_t widened_bytes(const AttentionSizes& sizes) {
    const std::int64_t floats = sizes.items() * (2 * (sizes.sq + sizes.sk) * sizes.d + sizes.sq);
    return align_up(floats * static_cast<std::int64_t>(sizeof(float)));
}

void attend_widened(const AttentionBf16& problem) {
    const AttentionSizes& sizes = problem.sizes;
    const std::int64_t queries = sizes.items() * sizes.sq * sizes.d;
    const std::int64_t keys = sizes.items() * sizes.sk * sizes.d;
    Call call = widened_call(sizes, problem.scale, problem.causal, num_threads());
    const std::int64_t own = attention_flash_packed_scratch(call, call.threads);
    const auto memory = aligned_bytes(own + widened_bytes(sizes));
    call.scratch = memory.get();
    call.inputs[0].data = reinterpret_cast<float*>(memory.get() + own);
    call.inputs[1].data = call.inputs[0].data + queries;
    call.inputs[2].data = call.inputs[1].data + keys;
    call.output.data = call.inputs[2].data + keys;
    widen(call.inputs[0].data, problem.q, queries);
    widen(call.inputs[1].data, problem.k, keys);
    widen(call.inputs[2].data, problem.v, keys);
    if (problem.lse == nullptr) {
        attention_flash_packed_simd_parallel(call);
    } else {
        attention_lse_flash_packed_simd_parallel(call);
        std::copy_n(call.output.data + queries, sizes.items() * sizes.sq, problem.lse);
    }
    round(problem.output, call.output.data, queries);
}

}  // namespace

void attention_bf16(const AttentionBf16& problem) {
    if (const Bf16InstructionSet* set = bf16_instruction_set()) {
        attend_native(problem, *set->flash);
    } else {
        attend_widened(problem);
    }
}

std::int64_t attention_bf16_scratch(const AttentionSizes& sizes, bool causal, int threads) {
    if (const Bf16InstructionSet* set = bf16_instruction_set()) {
        return make_plan(sizes.visible(causal), causal, *set->flash, threads).scratch_bytes();
    }
    const Call call = widened_call(sizes, 1.0F, causal, threads);
    return attention_flash_packed_scratch(call, threads) + widened_bytes(sizes);
}

std::string_view attention_bf16_instruction_set() {
    const Bf16InstructionSet* native = bf16_instruction_set();
    return native == nullptr ? instruction_set().name() : native->name;
}

}  // namespace ablation

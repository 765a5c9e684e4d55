// Attention of bfloat16 arrays on the path that this CPU has; see attention_bf16.h. The native
// work is that of a FlashBf16Provider, shared among the threads as flash_packed's.
#include "attention/attention_bf16.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/attention.h"
#include "attention/attention_backward.h"
#include "attention/flash_bf16.h"
#include "attention/flash_schedule.h"
#include "core/aligned_bytes.h"
#include "core/parallel.h"
#include "core/parallel_rows.h"
#include "core/simd.h"
#include "core/table.h"

namespace ablation {

#if defined(__x86_64__)
extern const FlashBf16Provider avx512_bf16_flash_provider;
#endif

namespace {

/// Null where the CPU multiplies no bfloat16, or must not.
const FlashBf16Provider* native_provider() {
#if defined(__x86_64__)
    if (simd_multiplies_bf16()) return &avx512_bf16_flash_provider;
#endif
    return nullptr;
}

/// Keys of a tile: as flash_packed's, packed keys and values take at most a quarter of the L2
/// cache and the scores of a block of rows stay about in L1.
std::int64_t keys_of_tile(const FlashBf16Provider& provider, std::int64_t d) {
    constexpr std::int64_t kScoreFloats = 8192;
    const std::int64_t fitting = std::min(half_l2_floats() / (2 * d), kScoreFloats / provider.rows);
    return std::max(fitting / provider.columns, std::int64_t{1}) * provider.columns;
}

void attend_native(const AttentionBf16& problem, const FlashBf16Provider& provider) {
    const AttentionSizes& sizes = problem.sizes;
    const auto [batch, heads, sq, sk, d] = sizes;
    const std::int64_t tile_q = flash_query_rows(sizes, problem.causal, provider.rows);
    const std::int64_t tile_k = round_up(std::min(keys_of_tile(provider, d), sk), provider.columns);
    const std::int64_t key_elements = round_up(sk, provider.columns) * 2 * pairs_of(d);
    const std::int64_t value_elements = round_up(d, provider.columns) * 2 * pairs_of(sk);
    const std::int64_t item_bytes =
        align_up((key_elements + value_elements) * static_cast<std::int64_t>(sizeof(Bf16)));
    const std::int64_t worker_bytes = flash_bf16_bytes(provider, tile_q, tile_k, d);
    const int threads = worthwhile_threads(sizes.serial_ns(problem.causal));
    const std::int64_t group = flash_group(sizes, item_bytes, threads);

    const auto memory = aligned_bytes(group * item_bytes + threads * worker_bytes);
    const auto packed = [&](std::int64_t place) {
        return reinterpret_cast<Bf16*>(memory.get() + place * item_bytes);
    };
    run_in_groups(
        sizes, group, tile_q, threads,
        [&, sk = sk, d = d](std::int64_t item, std::int64_t place, std::int64_t key) {
            provider.pack({problem.k + item * sk * d, problem.v + item * sk * d, key,
                           std::min(key + kPackedKeys, sk), sk, d, packed(place),
                           packed(place) + key_elements});
        },
        [&, sq = sq, sk = sk, d = d](std::int64_t item, std::int64_t place, std::int64_t query,
                                     int worker) {
            const std::int64_t row = item * sq + query;
            provider.attend({.q = problem.q + row * d,
                             .keys = packed(place),
                             .values = packed(place) + key_elements,
                             .output = problem.output + row * d,
                             .lse = problem.lse == nullptr ? nullptr : problem.lse + row,
                             .begin = query,
                             .rows = std::min(tile_q, sq - query),
                             .sk = sk,
                             .d = d,
                             .tile_k = tile_k,
                             .scale = problem.scale,
                             .causal = problem.causal,
                             .scratch = memory.get() + group * item_bytes + worker * worker_bytes});
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

void attend_widened(const AttentionBf16& problem) {
    const auto [batch, heads, sq, sk, d] = problem.sizes;
    const std::int64_t queries = problem.sizes.items() * sq * d;
    const std::int64_t keys = problem.sizes.items() * sk * d;
    const std::int64_t rows = problem.sizes.items() * sq;
    const bool with_lse = problem.lse != nullptr;

    Call call;
    call.attributes = AttentionAttributes{.scale = problem.scale, .causal = problem.causal};
    call.threads = num_threads();
    const Shape q_shape{batch, heads, sq, d};
    const Shape kv_shape{batch, heads, sk, d};
    call.inputs[0] = {.shape = q_shape, .present = true};
    call.inputs[1] = {.shape = kv_shape, .present = true};
    call.inputs[2] = call.inputs[1];
    call.output.shape = with_lse ? infer_attention_lse(call) : q_shape;
    const std::int64_t scratch = with_lse ? attention_lse_scratch(call, call.threads)
                                          : attention_flash_packed_scratch(call, call.threads);

    const auto memory = aligned_bytes(
        align_up((2 * (queries + keys) + rows) * static_cast<std::int64_t>(sizeof(float))) +
        scratch);
    call.scratch = memory.get();
    call.inputs[0].data = reinterpret_cast<float*>(memory.get() + scratch);
    call.inputs[1].data = call.inputs[0].data + queries;
    call.inputs[2].data = call.inputs[1].data + keys;
    call.output.data = call.inputs[2].data + keys;
    call.output.present = true;
    widen(call.inputs[0].data, problem.q, queries);
    widen(call.inputs[1].data, problem.k, keys);
    widen(call.inputs[2].data, problem.v, keys);
    if (with_lse) {
        attention_lse_flash_packed_simd_parallel(call);
        std::copy_n(call.output.data + queries, rows, problem.lse);
    } else {
        attention_flash_packed_simd_parallel(call);
    }
    round(problem.output, call.output.data, queries);
}

}  // namespace

void attention_bf16(const AttentionBf16& problem) {
    if (const FlashBf16Provider* provider = native_provider()) {
        attend_native(problem, *provider);
    } else {
        attend_widened(problem);
    }
}

std::string_view attention_bf16_instruction_set() {
    const FlashBf16Provider* provider = native_provider();
    return provider == nullptr ? vector_instruction_set() : provider->name;
}

}  // namespace ablation

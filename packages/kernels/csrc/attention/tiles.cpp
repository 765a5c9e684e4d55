#include "attention/tiles.h"

#include <algorithm>
#include <cstddef>
#include <variant>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#else
#include <unistd.h>
#endif

#include "core/parallel.h"

namespace ablation {

namespace {

// Multiply-adds of both products and the exponential, per element of the scores. Order of magnitude
// only: it decides whether a split pays.
constexpr double kNsPerMultiplyAdd = 0.02;
constexpr double kNsPerScore = 0.5;

std::int64_t read_l2_bytes() {
    std::int64_t bytes = 0;
#if defined(__APPLE__)
    std::size_t size = sizeof(bytes);
    if (sysctlbyname("hw.perflevel0.l2cachesize", &bytes, &size, nullptr, 0) != 0) bytes = 0;
#elif defined(_SC_LEVEL2_CACHE_SIZE)
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    // Some machines tell nothing, and Apple's L2 is shared by a cluster of cores.
    if (bytes <= 0) bytes = std::int64_t{1} << 20;
    return std::clamp(bytes, std::int64_t{1} << 18, std::int64_t{1} << 21);
}

/// Floats that half of the L2 cache holds; the other half is for q, k, v and sgemm's packed copies.
std::int64_t half_l2_floats() {
    static const std::int64_t bytes = read_l2_bytes();
    return bytes / 2 / static_cast<std::int64_t>(sizeof(float));
}

/// The size near `wanted` that cuts `size` into even tiles of whole 16s.
std::int64_t even_tile(std::int64_t size, std::int64_t wanted) {
    const std::int64_t parts = (size + wanted - 1) / wanted;
    const std::int64_t even = (size + parts - 1) / parts;
    return std::min(size, (even + 15) / 16 * 16);
}

}  // namespace

AttentionSizes attention_sizes(const Call& call) {
    const Shape& q = call.inputs[0].shape;
    return {q[0], q[1], q[2], call.inputs[1].shape[2], q[3]};
}

double AttentionSizes::serial_ns(bool causal) const {
    const double scores = static_cast<double>(items()) * static_cast<double>(sq) *
                          static_cast<double>(sk) * (causal ? 0.5 : 1.0);
    return scores * (2.0 * static_cast<double>(d) * kNsPerMultiplyAdd + kNsPerScore);
}

MaskView mask_view(const Call& call) {
    const TensorView& mask = call.inputs[3];
    MaskView view;
    if (!mask.present) return view;
    view.data = mask.data;
    std::int64_t* const strides[] = {&view.key_stride, &view.query_stride, &view.head_stride,
                                     &view.batch_stride};
    std::int64_t stride = 1;
    for (int axis = 0; axis < mask.shape.rank; ++axis) {
        const std::int64_t size = mask.shape[-1 - axis];
        if (size != 1) *strides[axis] = stride;
        stride *= size;
    }
    return view;
}

std::int64_t score_stride(std::int64_t keys) { return (keys + 15) / 16 * 16 + 16; }

std::int64_t fused_tile_q(const Call& call) {
    const AttentionSizes sizes = attention_sizes(call);
    const std::int64_t asked = std::get<AttentionAttributes>(call.attributes).tile_q;
    if (asked > 0) return std::min(asked, sizes.sq);
    const std::int64_t fitting = half_l2_floats() / score_stride(sizes.sk);
    return even_tile(sizes.sq, std::max<std::int64_t>(fitting, 16));
}

FlashTile flash_tile(const Call& call) {
    static const int cores = available_cores();
    const AttentionSizes sizes = attention_sizes(call);
    const auto& attributes = std::get<AttentionAttributes>(call.attributes);
    FlashTile tile{even_tile(sizes.sq, 128), even_tile(sizes.sk, 512)};
    // Enough tiles to keep every core busy.
    while (tile.q > 32 && sizes.items() * ((sizes.sq + tile.q - 1) / tile.q) < 2 * cores) {
        tile.q = even_tile(sizes.sq, tile.q / 2);
    }
    if (attributes.tile_q > 0) tile.q = std::min(attributes.tile_q, sizes.sq);
    if (attributes.tile_k > 0) tile.k = std::min(attributes.tile_k, sizes.sk);
    return tile;
}

std::int64_t flash_worker_bytes(FlashTile tile) {
    const std::int64_t floats = tile.q * (score_stride(tile.k) + 2);
    return align_up(floats * static_cast<std::int64_t>(sizeof(float)));
}

}  // namespace ablation

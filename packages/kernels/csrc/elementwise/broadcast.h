// Broadcasting as loops over rows: axes that can be walked as one are merged, so most calls are a
// single row.
#pragma once

#include <array>
#include <cstdint>

#include "core/types.h"

namespace ablation {

inline constexpr int kMaxOperands = 3;

/// The output's axes after merging, outermost first, and each input's step per axis: 0 where it
/// repeats. The last axis is the row; its steps are 0 or 1.
struct Broadcast {
    using Offsets = std::array<std::int64_t, kMaxOperands>;

    int operands = 0;
    int rank = 0;
    std::array<std::int64_t, kMaxRank> sizes{};
    std::array<Offsets, kMaxRank> steps{};

    const Offsets& row_steps() const { return steps[static_cast<std::size_t>(rank - 1)]; }
    std::int64_t row_size() const { return sizes[static_cast<std::size_t>(rank - 1)]; }

    /// Where each input stands at element `row * row_size()` of the output.
    Offsets row_offsets(std::int64_t row) const {
        Offsets offsets{};
        for (int axis = rank - 2; axis >= 0; --axis) {
            const auto a = static_cast<std::size_t>(axis);
            const std::int64_t position = row % sizes[a];
            row /= sizes[a];
            for (std::size_t i = 0; i < kMaxOperands; ++i) offsets[i] += position * steps[a][i];
        }
        return offsets;
    }

    /// Calls function(output offset, input offsets, count) for each piece of a row in elements
    /// [begin, end) of the output.
    template <class Function>
    void for_rows(std::int64_t begin, std::int64_t end, Function&& function) const {
        const std::int64_t length = row_size();
        const Offsets& step = row_steps();
        while (begin < end) {
            const std::int64_t row = begin / length;
            const std::int64_t first = begin - row * length;
            const std::int64_t count = length - first < end - begin ? length - first : end - begin;
            Offsets offsets = row_offsets(row);
            for (std::size_t i = 0; i < kMaxOperands; ++i) offsets[i] += first * step[i];
            function(begin, offsets, count);
            begin += count;
        }
    }
};

/// The loops of a call whose first `operands` inputs broadcast to its output.
Broadcast plan_broadcast(const Call& call, int operands);

}  // namespace ablation

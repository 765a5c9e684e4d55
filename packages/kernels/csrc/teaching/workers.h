// What every form does around its loops: scratch for each worker, items shared out, spans summed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/parallel.h"
#include "teaching/scratch_arena.h"
#include "teaching/span_clock.h"
#include "teaching/teaching.h"

namespace ablation::teaching {

/// Runs attend(item, scratch, clock) for each item on at most problem.threads workers, each with a
/// Scratch(arena, problem) and a clock of its own.
template <class Scratch, class Function>
Outcome share_out(const Problem& problem, std::int64_t items, Function&& attend) {
    const auto workers = static_cast<std::size_t>(std::min<std::int64_t>(problem.threads, items));
    std::vector<SpanClock> clocks(workers, SpanClock(problem.measure_spans));
    ScratchArena arena;
    std::vector<Scratch> scratch;

    clocks[0].begin_range();
    scratch.reserve(workers);
    while (scratch.size() < workers) scratch.emplace_back(arena, problem);
    clocks[0].end_range();

    parallel_items(items, static_cast<int>(workers), [&](std::int64_t item, int worker) {
        const auto index = static_cast<std::size_t>(worker);
        clocks[index].begin_range();
        attend(item, scratch[index], clocks[index]);
        clocks[index].end_range();
    });

    Outcome outcome{arena.peak_bytes(), {}};
    if (problem.measure_spans) {
        outcome.spans.emplace();
        for (const SpanClock& clock : clocks) *outcome.spans += clock.times();
    }
    return outcome;
}

}  // namespace ablation::teaching

// The stages of a program: consecutive calls whose rows do not depend on one another share one
// fork-join. Between two calls of a stage no thread waits for another, and each finds its rows of
// the call before in its own cache.
#include <algorithm>
#include <string>

#include "clock.h"
#include "parallel.h"
#include "program.h"
#include "rows.h"

namespace ablation {

namespace {

constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));

std::int64_t part_begin(std::int64_t rows, std::size_t part, std::size_t parts) {
    return rows * static_cast<std::int64_t>(part) / static_cast<std::int64_t>(parts);
}

}  // namespace

void Program::add_stages(const std::vector<ValueSpec>& values, const std::vector<CallSpec>& calls,
                         const std::vector<StageSpec>& stages) {
    std::size_t next = 0;
    const auto add_single = [&](std::size_t end) {
        for (; next < end; ++next) {
            stages_.push_back({next, 1, {}});
            bind_call(values, calls[next], steps_[next].call, steps_[next].call, 0);
        }
    };
    for (const StageSpec& spec : stages) {
        if (spec.first < next || spec.count == 0 || spec.count > calls.size() ||
            spec.first > calls.size() - spec.count) {
            reject_program("stage of " + std::to_string(spec.count) + " calls from call " +
                               std::to_string(spec.first),
                           "accepted: calls of the program, in order and each in one stage");
        }
        add_single(spec.first);
        Stage& stage = stages_.emplace_back(make_stage(calls, spec));
        check_stage(values, calls, stage);
        next = spec.first + spec.count;
        for (std::size_t worker = 0; worker < stage.calls.size(); ++worker) {
            for (std::size_t step = 0; step < stage.count; ++step) {
                const Call& whole = steps_[stage.first + step].call;
                const std::int64_t rows = row_count(whole.output);
                bind_call(values, calls[stage.first + step], stage.calls[worker][step], whole,
                          part_begin(rows, worker, stage.calls.size()));
            }
        }
    }
    add_single(calls.size());
}

Program::Stage Program::make_stage(const std::vector<CallSpec>& calls,
                                   const StageSpec& spec) const {
    const std::int64_t rows = row_count(steps_[spec.first].call.output);
    const auto workers = static_cast<std::size_t>(std::min<std::int64_t>(threads_, rows));
    Stage stage{spec.first, spec.count, {}};
    stage.calls.resize(workers);
    for (std::size_t step = spec.first; step < spec.first + spec.count; ++step) {
        const KernelInfo& kernel = find_kernel(calls[step].kernel);
        const Call& whole = steps_[step].call;
        std::int64_t offset = calls[step].scratch_offset;
        for (std::size_t worker = 0; worker < workers; ++worker) {
            try {
                Call part =
                    slice_rows(find_op(kernel.op), whole, rows, part_begin(rows, worker, workers),
                               part_begin(rows, worker + 1, workers));
                const std::int64_t needs = kernel.scratch(part, 1);
                place_scratch(offset, needs, part);
                offset += align_up(needs);
                stage.calls[worker].push_back(part);
            } catch (const ValueError& error) {
                reject_program("call '" + calls[step].name + "' (" + kernel.name + ") in a stage",
                               error.what());
            }
        }
    }
    return stage;
}

std::vector<Program::Region> Program::regions(const std::vector<ValueSpec>& values,
                                              const CallSpec& spec, const Call& call,
                                              const Call& whole, std::int64_t scratch_bytes,
                                              std::int64_t first_row) const {
    std::vector<Region> result;
    const auto add = [&](int value, const TensorView& view, const TensorView& whole_view,
                         bool written) {
        const int root = root_of(values, value);
        const Storage storage = values[static_cast<std::size_t>(root)].storage;
        if (storage == Storage::constant) return;
        const bool bound = storage != Storage::arena;
        const std::int64_t begin = bound ? row_offset(whole_view, view, first_row) * kFloatBytes
                                         : reinterpret_cast<std::int64_t>(view.data);
        result.push_back(
            {bound ? root : -1, begin, begin + view.shape.count() * kFloatBytes, written});
    };
    for (std::size_t slot = 0; slot < spec.inputs.size(); ++slot) {
        if (spec.inputs[slot] == -1) continue;
        add(spec.inputs[slot], call.inputs[slot], whole.inputs[slot], false);
    }
    add(spec.output, call.output, whole.output, true);
    if (call.scratch != nullptr) {
        const auto begin = reinterpret_cast<std::int64_t>(call.scratch);
        result.push_back({-1, begin, begin + scratch_bytes, true});
    }
    return result;
}

void Program::check_stage(const std::vector<ValueSpec>& values, const std::vector<CallSpec>& calls,
                          const Stage& stage) const {
    struct Use {
        Region region;
        std::size_t worker, step;
    };
    std::vector<Use> uses;
    const std::size_t workers = stage.calls.size();
    for (std::size_t worker = 0; worker < workers; ++worker) {
        for (std::size_t step = 0; step < stage.count; ++step) {
            const CallSpec& spec = calls[stage.first + step];
            const Call& whole = steps_[stage.first + step].call;
            const Call& part = stage.calls[worker][step];
            const std::int64_t rows = row_count(whole.output);
            for (const Region& region :
                 regions(values, spec, part, whole, find_kernel(spec.kernel).scratch(part, 1),
                         part_begin(rows, worker, workers))) {
                uses.push_back({region, worker, step});
            }
        }
    }
    for (const Use& writer : uses) {
        if (!writer.region.written) continue;
        for (const Use& other : uses) {
            if (other.worker == writer.worker || other.region.space != writer.region.space ||
                other.region.end <= writer.region.begin ||
                writer.region.end <= other.region.begin) {
                continue;
            }
            reject_program("call '" + calls[stage.first + writer.step].name + "' in a stage",
                           "writes where call '" + calls[stage.first + other.step].name +
                               "' of another thread works; accepted: rows of its own");
        }
    }
}

void Program::run_stage(const Stage& stage, std::int64_t* times_ns) {
    struct Context {
        const Step* steps;
        const Stage* stage;
        std::int64_t* times_ns;
    } context{steps_.data() + stage.first, &stage,
              times_ns == nullptr ? nullptr : times_ns + stage.first};
    const std::int64_t start = times_ns == nullptr ? 0 : clock_ns();
    parallel_for(
        static_cast<std::int64_t>(stage.calls.size()), &context,
        [](void* opaque, std::int64_t part, int) {
            const auto& c = *static_cast<Context*>(opaque);
            const std::vector<Call>& calls = c.stage->calls[static_cast<std::size_t>(part)];
            const bool timed = c.times_ns != nullptr && part == 0;
            std::int64_t before = timed ? clock_ns() : 0;
            for (std::size_t step = 0; step < calls.size(); ++step) {
                c.steps[step].function(calls[step]);
                if (!timed) continue;
                const std::int64_t after = clock_ns();
                c.times_ns[step] = after - before;
                before = after;
            }
        },
        threads_);
    if (times_ns == nullptr) return;
    // The first part's times stand for all; the wait for the slowest part belongs to the last call.
    std::int64_t told = 0;
    for (std::size_t step = 0; step + 1 < stage.count; ++step) told += context.times_ns[step];
    context.times_ns[stage.count - 1] = clock_ns() - start - told;
}

}  // namespace ablation

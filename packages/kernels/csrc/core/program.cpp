#include "program.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "check.h"
#include "clock.h"
#include "parallel.h"
#include "rows.h"

namespace ablation {

namespace {

std::string value_name(int value) { return "value " + std::to_string(value); }

void check_value(const std::vector<ValueSpec>& values, int value, std::int64_t arena_bytes) {
    const ValueSpec& spec = values[static_cast<std::size_t>(value)];
    const std::int64_t count = spec.shape.count();
    if (count <= 0 || count > kMaxElements) {
        reject_program(value_name(value),
                       "has shape " + spec.shape.str() +
                           "; accepted: no axis of size 0, at most 2^46 elements");
    }
    if (spec.storage == Storage::alias) {
        if (spec.source < 0 || spec.source >= value) {
            reject_program(value_name(value), "is an alias of value " +
                                                  std::to_string(spec.source) +
                                                  "; accepted: an earlier value");
        }
        if (values[static_cast<std::size_t>(spec.source)].shape.count() != count) {
            reject_program(value_name(value), "is an alias with another number of elements");
        }
    }
    if (spec.storage == Storage::arena &&
        (spec.offset < 0 || spec.offset % kAlignment != 0 ||
         spec.offset > arena_bytes - count * static_cast<std::int64_t>(sizeof(float)))) {
        reject_program(
            value_name(value),
            "lies at offset " + std::to_string(spec.offset) +
                "; accepted: a multiple of 64 with the whole value inside the arena of " +
                std::to_string(arena_bytes) + " bytes");
    }
}

/// Outputs get their memory in run(): those are compared by value, all others by address.
void check_aliasing(const std::vector<ValueSpec>& values, const CallSpec& spec, const OpInfo& op,
                    const Slots& slots, const Call& call) {
    require_no_overlap(op, slots, call);
    for (std::size_t slot = 0; slot < spec.inputs.size(); ++slot) {
        const int value = spec.inputs[slot];
        if (value != -1 && root_of(values, value) == root_of(values, spec.output)) {
            require_in_place(op, slots.names[slot]);
        }
    }
}

}  // namespace

void reject_program(const std::string& where, const std::string& what) {
    throw ValueError("Program: " + where + ": " + what);
}

int root_of(const std::vector<ValueSpec>& values, int value) {
    while (values[static_cast<std::size_t>(value)].storage == Storage::alias) {
        value = values[static_cast<std::size_t>(value)].source;
    }
    return value;
}

Program::Program(const std::vector<ValueSpec>& values, const std::vector<CallSpec>& calls,
                 std::int64_t arena_bytes, const std::vector<StageSpec>& stages,
                 std::shared_ptr<Workspace> workspace)
    : is_shared_(workspace != nullptr),
      workspace_(is_shared_ ? std::move(workspace) : std::make_shared<Workspace>()),
      arena_bytes_(arena_bytes),
      kept_(values.size(), false),
      ordinal_(values.size()),
      threads_(num_threads()) {
    const std::lock_guard<ForkSafeLock> turn(workspace_->lock());
    // The workspace takes it once the program has turned out to be sound.
    std::unique_ptr<Arena> larger;
    if (arena_bytes < 0 || arena_bytes > workspace_->arena_bytes()) {
        larger = std::make_unique<Arena>(arena_bytes);
    }
    arena_ = larger != nullptr ? larger->data() : workspace_->arena();
    std::vector<bool> written(values.size(), false);
    for (std::size_t index = 0; index < values.size(); ++index) {
        check_value(values, static_cast<int>(index), arena_bytes);
        const ValueSpec& spec = values[index];
        if (spec.storage == Storage::input) {
            ordinal_[index] = input_shapes_.size();
            input_shapes_.push_back(spec.shape);
        }
        if (spec.storage == Storage::output) {
            ordinal_[index] = output_shapes_.size();
            output_shapes_.push_back(spec.shape);
        }
        written[index] = spec.storage == Storage::input || spec.storage == Storage::constant;
    }
    steps_.reserve(calls.size());
    for (const CallSpec& call : calls) add_step(values, call, written);
    copy_borrowed(values, calls);
    add_stages(values, calls, stages);
    for (std::size_t index = 0; index < values.size(); ++index) {
        if (values[index].storage == Storage::output && !written[index]) {
            reject_program(value_name(static_cast<int>(index)), "is an output that no call writes");
        }
    }
    if (larger != nullptr) workspace_->replace_arena(std::move(larger));
}

TensorView Program::view(const std::vector<ValueSpec>& values, int value,
                         const Shape& shape) const {
    const ValueSpec& root = values[static_cast<std::size_t>(root_of(values, value))];
    TensorView result;
    result.shape = shape;
    result.present = true;
    if (root.storage == Storage::constant) {
        result.data = root.data;
        result.is_constant = true;
    }
    if (root.storage == Storage::arena) {
        result.data = reinterpret_cast<float*>(arena_.load() + root.offset);
    }
    return result;
}

void Program::bind(const std::vector<ValueSpec>& values, int value, TensorView& view,
                   std::int64_t offset) {
    const int root = root_of(values, value);
    const Storage storage = values[static_cast<std::size_t>(root)].storage;
    if (storage == Storage::arena) {
        arena_views_.push_back({&view, reinterpret_cast<std::byte*>(view.data) - arena_});
    }
    if (storage != Storage::input && storage != Storage::output) return;
    bindings_.push_back(
        {&view, offset, ordinal_[static_cast<std::size_t>(root)], storage == Storage::output});
}

void Program::bind_call(const std::vector<ValueSpec>& values, const CallSpec& spec, Call& call,
                        const Call& whole, std::int64_t first_row) {
    for (std::size_t slot = 0; slot < spec.inputs.size(); ++slot) {
        if (spec.inputs[slot] == -1) continue;
        bind(values, spec.inputs[slot], call.inputs[slot],
             row_offset(whole.inputs[slot], call.inputs[slot], first_row));
    }
    bind(values, spec.output, call.output, row_offset(whole.output, call.output, first_row));
    if (call.scratch != nullptr) arena_scratches_.push_back({&call, call.scratch - arena_});
}

void Program::add_step(const std::vector<ValueSpec>& values, const CallSpec& spec,
                       std::vector<bool>& written) {
    const std::string where = "call '" + spec.name + "' (" + spec.kernel + ")";
    const KernelInfo& kernel = find_kernel(spec.kernel);
    const OpInfo& op = find_op(kernel.op);
    const Slots slots = parse_slots(op);
    const auto in_range = [&](int value) {
        return value >= 0 && static_cast<std::size_t>(value) < values.size();
    };
    if (spec.inputs.size() > static_cast<std::size_t>(slots.count)) {
        reject_program(
            where, "has " + std::to_string(spec.inputs.size()) + " inputs; accepted: " + op.slots);
    }
    if (!in_range(spec.output)) reject_program(where, "writes a value that does not exist");
    const int output_root = root_of(values, spec.output);
    const Storage output_storage = values[static_cast<std::size_t>(output_root)].storage;
    if (output_storage != Storage::arena && output_storage != Storage::output) {
        reject_program(where, "writes an input or a constant; accepted: an arena or output value");
    }

    Step& step = steps_.emplace_back(Step{kernel.function, {}});
    step.call.attributes = spec.attributes;
    for (int slot = 0; slot < slots.count; ++slot) {
        const auto index = static_cast<std::size_t>(slot);
        const int value = index < spec.inputs.size() ? spec.inputs[index] : -1;
        const std::string slot_name(slots.names[index]);
        if (value == -1) {
            if (!slots.optional[index]) reject_program(where, "lacks input '" + slot_name + "'");
            continue;
        }
        if (!in_range(value)) reject_program(where, "input '" + slot_name + "' does not exist");
        if (!written[static_cast<std::size_t>(root_of(values, value))]) {
            reject_program(where, "input '" + slot_name + "' is read before it is written");
        }
        step.call.inputs[index] =
            view(values, value, values[static_cast<std::size_t>(value)].shape);
    }
    const Shape& output_shape = values[static_cast<std::size_t>(spec.output)].shape;
    step.call.output = view(values, spec.output, output_shape);
    written[static_cast<std::size_t>(output_root)] = true;

    step.call.threads = threads_;
    try {
        const Shape inferred = op.infer(step.call);
        if (!(inferred == output_shape)) {
            throw ValueError("writes shape " + output_shape.str() + "; the op gives " +
                             inferred.str());
        }
        check_aliasing(values, spec, op, slots, step.call);
        pack(values, kernel, spec, step.call);
        place_scratch(spec.scratch_offset, kernel.scratch(step.call, threads_), step.call);
    } catch (const ValueError& error) {
        reject_program(where, error.what());
    }
    names_.push_back(spec.name);
}

void Program::place_scratch(std::int64_t offset, std::int64_t bytes, Call& call) const {
    const std::string needs = "needs " + std::to_string(bytes) + " bytes of scratch";
    if (bytes < 0) throw ValueError(needs + "; accepted: 0 or more");
    if (bytes == 0) return;
    if (offset < 0 || offset % kAlignment != 0 || offset > arena_bytes_ - bytes) {
        throw ValueError(needs + " at offset " + std::to_string(offset) + "; the arena has " +
                         std::to_string(arena_bytes_));
    }
    std::byte* const begin = arena_.load() + offset;
    const auto overlaps = [begin, bytes](const TensorView& view) {
        if (view.data == nullptr) return false;
        const auto* data = reinterpret_cast<const std::byte*>(view.data);
        const auto* end = reinterpret_cast<const std::byte*>(view.data + view.shape.count());
        return data < begin + bytes && begin < end;
    };
    if (overlaps(call.output) || std::ranges::any_of(call.inputs, overlaps)) {
        throw ValueError(needs + " at offset " + std::to_string(offset) +
                         ", where an input or the output lies; accepted: memory of its own");
    }
    call.scratch = begin;
}

void Program::pack(const std::vector<ValueSpec>& values, const KernelInfo& kernel,
                   const CallSpec& spec, Call& call) {
    const Slots slots = parse_slots(find_op(kernel.op));
    const PackInfo* info = find_pack(kernel);
    const std::int64_t bytes = info == nullptr ? 0 : info->bytes(call);
    for (std::size_t slot = 0; slot < spec.inputs.size(); ++slot) {
        const bool packed = bytes > 0 && slots.names[slot] == info->slot;
        if (spec.inputs[slot] == -1) continue;
        const auto root = static_cast<std::size_t>(root_of(values, spec.inputs[slot]));
        const bool is_borrowed = values[root].is_borrowed;
        if (!packed || (is_shared_ && !is_borrowed)) kept_[root] = true;
        if (!packed) continue;
        PackedConstants& copies = is_borrowed ? borrowed_ : workspace_->packed();
        const auto copy = copies.find_or_pack(*info, call, bytes);
        if (std::ranges::find(packed_, copy) == packed_.end()) {
            packed_.push_back(copy);
            packed_bytes_ += bytes;
        }
        if (find_unpack(info->pack) != nullptr) whole_.insert_or_assign(root, copy);
        call.packed = copy->data();
        call.inputs[slot].data = nullptr;
    }
}

void Program::copy_borrowed(const std::vector<ValueSpec>& values,
                            const std::vector<CallSpec>& calls) {
    std::map<int, float*> copies;
    for (std::size_t step = 0; step < steps_.size(); ++step) {
        for (std::size_t slot = 0; slot < calls[step].inputs.size(); ++slot) {
            TensorView& view = steps_[step].call.inputs[slot];
            if (!view.is_constant || view.data == nullptr) continue;
            const int root = root_of(values, calls[step].inputs[slot]);
            const ValueSpec& spec = values[static_cast<std::size_t>(root)];
            if (!spec.is_borrowed) continue;
            float*& copy = copies[root];
            if (copy == nullptr) {
                const auto bytes = spec.shape.count() * static_cast<std::int64_t>(sizeof(float));
                copied_.push_back(std::make_unique<Arena>(bytes));
                copied_bytes_ += bytes;
                copy = reinterpret_cast<float*>(copied_.back()->data());
                std::memcpy(copy, spec.data, static_cast<std::size_t>(bytes));
            }
            view.data = copy;
        }
    }
}

bool Program::keeps_constant(int value) const { return kept_[static_cast<std::size_t>(value)]; }

bool Program::unpack(int value, float* elements) const {
    const auto found = whole_.find(static_cast<std::size_t>(value));
    if (found == whole_.end()) return false;
    const PackedConstant& copy = *found->second;
    find_unpack(copy.pack)(copy.call, copy.data(), elements);
    return true;
}

// Absolute, and the arena last: a child made by fork that finds half of it done does it again.
void Program::move_to(std::byte* arena) {
    for (const ArenaView& moved : arena_views_) {
        moved.view->data = reinterpret_cast<float*>(arena + moved.offset);
    }
    for (const ArenaScratch& moved : arena_scratches_) moved.call->scratch = arena + moved.offset;
    arena_.store(arena, std::memory_order_release);
}

void Program::run_step(std::size_t index) const {
    try {
        steps_[index].function(steps_[index].call);
    } catch (const IndexError& error) {
        throw IndexError("Program: call '" + names_[index] + "': " + error.what());
    }
}

std::int64_t Program::run(std::span<float* const> inputs, std::span<float* const> outputs,
                          std::int64_t* times_ns) {
    const std::lock_guard<ForkSafeLock> turn(workspace_->lock());
    if (num_threads() > threads_) {
        throw ValueError("Program: built for " + std::to_string(threads_) +
                         " threads but set_num_threads(" + std::to_string(num_threads()) +
                         ") was called since; build it again");
    }
    if (arena_.load(std::memory_order_relaxed) != workspace_->arena()) {
        move_to(workspace_->arena());
    }
    for (const Binding& binding : bindings_) {
        float* data = binding.is_output ? outputs[binding.index] : inputs[binding.index];
        binding.view->data = data + binding.offset;
    }
    const std::int64_t start = times_ns == nullptr ? 0 : clock_ns();
    std::int64_t before = start;
    for (const Stage& stage : stages_) {
        if (!stage.calls.empty()) {
            run_stage(stage, times_ns);
            if (times_ns != nullptr) before = clock_ns();
            continue;
        }
        run_step(stage.first);
        if (times_ns != nullptr) {
            const std::int64_t after = clock_ns();
            times_ns[stage.first] = after - before;
            before = after;
        }
    }
    return before - start;
}

}  // namespace ablation

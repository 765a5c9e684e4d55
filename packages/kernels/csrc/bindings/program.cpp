#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "bindings/description.h"
#include "bindings/gil.h"
#include "core/program.h"

namespace ablation {

namespace {

class PyWorkspace {
  public:
    PyWorkspace() : workspace_(std::make_shared<Workspace>()) {}

    const std::shared_ptr<Workspace>& get() const { return workspace_; }
    // The GIL, which who builds a program holds, keeps both as they are.
    std::int64_t arena_bytes() const { return workspace_->arena_bytes(); }
    std::int64_t packed_bytes() const { return workspace_->packed().bytes(); }

  private:
    std::shared_ptr<Workspace> workspace_;
};

std::shared_ptr<Workspace> workspace_from(nb::handle workspace) {
    if (workspace.is_none()) return nullptr;
    const PyWorkspace* found = nullptr;
    if (!nb::try_cast(workspace, found)) {
        raise_type_error(Argument{"Program", "workspace"}.prefix() + "is " + type_of(workspace) +
                         "; accepted: a Workspace or None");
    }
    return found->get();
}

/// A Program, with the Python objects whose memory its constants are.
class PyProgram {
  public:
    PyProgram(nb::handle values, nb::handle calls, nb::handle arena_bytes, nb::handle stages,
              nb::handle workspace)
        : PyProgram(as_integer({"Program", "arena_bytes"}, arena_bytes), workspace_from(workspace),
                    describe(values, calls, stages)) {}

    nb::list run(nb::handle inputs, nb::handle outputs) {
        Pointers pointers = import(inputs, outputs);
        {
            const ReleasedGil released;
            program_.run(pointers.inputs, pointers.outputs, nullptr);
        }
        return pointers.results;
    }

    nb::tuple run_timed(nb::handle inputs, nb::handle outputs) {
        const nb::object times = nb::module_::import_("numpy").attr("empty")(n_calls(), "int64");
        const std::unique_ptr<Py_buffer, ReleaseBuffer> buffer(new Py_buffer{});
        if (PyObject_GetBuffer(times.ptr(), buffer.get(), PyBUF_WRITABLE) != 0) {
            throw nb::python_error();
        }
        Pointers pointers = import(inputs, outputs);
        std::int64_t total = 0;
        {
            const ReleasedGil released;
            total = program_.run(pointers.inputs, pointers.outputs,
                                 static_cast<std::int64_t*>(buffer->buf));
        }
        return nb::make_tuple(pointers.results, times, total);
    }

    std::int64_t arena_bytes() const { return program_.arena_bytes(); }
    std::int64_t packed_bytes() const { return program_.packed_bytes(); }
    std::int64_t copied_bytes() const { return program_.copied_bytes(); }
    nb::tuple released_constants() const { return nb::tuple(released_); }
    nb::object unpacked(nb::handle value) const {
        const Argument where{"Program.unpacked", "value"};
        const std::int64_t index = as_integer(where, value);
        const auto count = static_cast<std::int64_t>(specs_.size());
        if (index < 0 || index >= count ||
            specs_[static_cast<std::size_t>(index)].storage != Storage::constant) {
            raise_value_error(where, "is " + std::to_string(index), "the id of a constant");
        }
        const Array array = new_array(specs_[static_cast<std::size_t>(index)].shape);
        if (!program_.unpack(static_cast<int>(index), array.view.data)) {
            raise_value_error(where, "is " + std::to_string(index),
                              "a constant that the program has packed as it is");
        }
        return array.object;
    }
    std::size_t n_calls() const { return program_.names().size(); }
    nb::tuple call_names() const {
        nb::list names;
        for (const std::string& name : program_.names())
            names.append(nb::str(name.c_str(), name.size()));
        return nb::tuple(names);
    }

  private:
    PyProgram(std::int64_t arena_bytes, std::shared_ptr<Workspace> workspace,
              Description description)
        : constants_(std::move(description.constants)),
          specs_(std::move(description.values)),
          program_(specs_, description.calls, arena_bytes, description.stages,
                   std::move(workspace)) {
        release_copied_constants();
    }

    struct Pointers {
        std::vector<float*> inputs;
        std::vector<float*> outputs;
        std::vector<Array> memory;
        nb::list results;
    };

    /// A constant that the program reads only in a copy of its own may be freed by its owner.
    void release_copied_constants() {
        std::vector<Array> kept;
        std::size_t constant = 0;
        for (std::size_t value = 0; value < specs_.size(); ++value) {
            ValueSpec& spec = specs_[value];
            if (spec.storage != Storage::constant) continue;
            const bool is_kept = program_.keeps_constant(static_cast<int>(value));
            if (is_kept && !spec.is_borrowed) {
                kept.push_back(std::move(constants_[constant]));
            } else {
                spec.data = nullptr;
            }
            if (!is_kept) released_.append(value);
            ++constant;
        }
        constants_ = std::move(kept);
    }

    static void require_same_shape(const char* argument, std::size_t index, const Shape& given,
                                   const Shape& expected) {
        if (given == expected) return;
        raise_value_error({"Program.run", argument, static_cast<std::int64_t>(index)},
                          "has shape " + given.str(), expected.str());
    }

    static nb::tuple arrays_of(const char* argument, nb::handle given, std::size_t expected) {
        const Argument where{"Program.run", argument};
        const nb::tuple items = items_of(where, given, "a sequence of arrays");
        if (items.size() != expected) {
            raise_value_error(where, "has " + std::to_string(items.size()) + " arrays",
                              std::to_string(expected));
        }
        return items;
    }

    Pointers import(nb::handle inputs, nb::handle outputs) const {
        const auto& input_shapes = program_.input_shapes();
        const auto& output_shapes = program_.output_shapes();
        const nb::tuple given = arrays_of("inputs", inputs, input_shapes.size());
        const nb::tuple written =
            outputs.is_none() ? nb::tuple() : arrays_of("outputs", outputs, output_shapes.size());

        Pointers pointers;
        pointers.memory.resize(input_shapes.size() + output_shapes.size());
        std::vector<ArrayRequest> requests;
        requests.reserve(pointers.memory.size());
        const auto request = [&](const char* argument, const nb::tuple& items, bool is_writable) {
            std::int64_t index = 0;
            for (nb::handle item : items) {
                Array* result = &pointers.memory[requests.size()];
                requests.push_back({{"Program.run", argument, index++}, item, is_writable, result});
            }
        };
        request("inputs", given, false);
        request("outputs", written, true);
        import_arrays(requests);

        pointers.inputs.reserve(input_shapes.size());
        for (std::size_t index = 0; index < input_shapes.size(); ++index) {
            const Array& array = pointers.memory[index];
            require_same_shape("inputs", index, array.view.shape, input_shapes[index]);
            pointers.inputs.push_back(array.view.data);
        }
        pointers.outputs.reserve(output_shapes.size());
        for (std::size_t index = 0; index < output_shapes.size(); ++index) {
            Array& array = pointers.memory[input_shapes.size() + index];
            if (outputs.is_none()) {
                array = new_array(output_shapes[index]);
            } else {
                require_same_shape("outputs", index, array.view.shape, output_shapes[index]);
                require_apart(pointers, array.view, index);
            }
            pointers.outputs.push_back(array.view.data);
            pointers.results.append(array.object);
        }
        return pointers;
    }

    void require_apart(const Pointers& pointers, const TensorView& output,
                       std::size_t index) const {
        const float* begin = output.data;
        const float* end = begin + output.shape.count();
        const auto overlaps = [&](const float* other, std::int64_t count) {
            return other < end && begin < other + count;
        };
        bool apart = true;
        for (std::size_t i = 0; i < pointers.inputs.size(); ++i) {
            apart = apart && !overlaps(pointers.inputs[i], program_.input_shapes()[i].count());
        }
        for (std::size_t i = 0; i < index; ++i) {
            apart = apart && !overlaps(pointers.outputs[i], program_.output_shapes()[i].count());
        }
        for (const ValueSpec& spec : specs_) {
            if (spec.data != nullptr) apart = apart && !overlaps(spec.data, spec.shape.count());
        }
        if (!apart) {
            raise_value_error({"Program.run", "outputs", static_cast<std::int64_t>(index)},
                              "overlaps an input, a constant or another output",
                              "memory of its own");
        }
    }

    std::vector<Array> constants_;
    nb::list released_;
    std::vector<ValueSpec> specs_;
    Program program_;
};

// The same words as in _native.pyi, from which the reference is made.
constexpr const char* kWorkspaceDoc =
    R"(Memory that programs share in turns: those that are built with it as `workspace`.

One arena, as large as the largest of them asks for. Of a constant that nobody can write
to, one packed copy for all calls that read it alike, whichever program makes them. A
packed copy, and the array that it was made from, live as long as a program uses the copy;
the arena lives as long as the workspace or one of its programs.

Programs of one workspace that are called by several threads wait for one another, and so
does one that is built meanwhile.)";

constexpr const char* kProgramDoc = R"(A planned sequence of kernel calls over one arena.

Args:
    values: a tuple for each value, whose id is its index: ('input', shape), ('constant',
        array), ('arena', shape, offset in bytes), ('output', shape), ('alias', shape,
        earlier id).
    calls: a tuple for each call, in order: (kernel, [value id or None per input slot],
        output id, attributes, scratch offset in bytes, name).
    arena_bytes: size of the arena; offsets are multiples of 64.
    stages: (first call, number of calls) of consecutive calls whose rows (along the last
        axis) do not depend on one another and that share one fork-join, each thread with
        rows of its own. run_timed gives the times of the first thread's rows, and adds
        the wait for the others to the last call of the stage.
    workspace: a Workspace whose arena and packed copies the program shares, or None for
        memory of its own. Constants that are copied or packed because others may write to
        them are not shared.

Raises:
    ValueError: names the call or value that is not right.

An output lies apart from the call's inputs and scratch, or takes exactly the place of an
input in a slot of OpInfo.in_place.

The program owns its constants: writing to an array after construction does not change the
program. It packs a constant matrix of a packed kernel once, whatever the number of calls,
and copies every other array, except a read-only NumPy array that owns its memory (or a
view of one), which it reads in place.

Scratch and worker slots are sized for get_num_threads() at construction: with fewer
threads set since then the program runs on those, with more run() raises ValueError.)";

constexpr const char* kRunDoc = R"(Run the calls and return the output arrays.

inputs: float32 arrays in the order of the input values; outputs: arrays to write, or None
for new NumPy arrays. The loop allocates nothing and releases the GIL. Two threads that
run one program, or programs of one workspace, take turns. Raises IndexError that names
the call whose input names an element that is not there (`take`); the outputs are then
partly written.)";

constexpr const char* kRunTimedDoc = R"(Run as `run` does, with a clock read around each call.

Returns (outputs, int64 nanoseconds per call, nanoseconds of the whole loop).)";

constexpr const char* kPackedDoc =
    R"(Bytes of constants that the program reads in a kernel's own layout, each counted once.

Copies that a workspace shares among programs count in each.)";

constexpr const char* kReleasedDoc =
    R"(Ids of the constants that are read only in a kernel's own layout.

The program does not keep their arrays alive. With a workspace it keeps the arrays whose
packed copies it shares: these are not among them.)";

constexpr const char* kUnpackedDoc =
    R"(Return a constant, bit by bit as it was given, from its packed copy.

value: the id of a constant that a kernel has packed, as those of `released_constants`.
Raises ValueError for another value, and for a constant that only kernels of another
arithmetic (`matmul_strassen`) have packed: their copies hold sums.)";

}  // namespace

void bind_program(nb::module_& module) {
    nb::class_<PyWorkspace>(module, "Workspace", kWorkspaceDoc)
        .def(nb::init<>())
        .def_prop_ro("arena_bytes", &PyWorkspace::arena_bytes,
                     "Size of the arena in bytes: the largest that a program was built with.")
        .def_prop_ro("packed_bytes", &PyWorkspace::packed_bytes,
                     "Bytes of all packed copies that programs share now, each counted once.");
    nb::class_<PyProgram>(module, "Program", kProgramDoc)
        .def(nb::init<nb::handle, nb::handle, nb::handle, nb::handle, nb::handle>(),
             nb::arg("values").none(), nb::arg("calls").none(), nb::arg("arena_bytes").none(),
             nb::arg("stages").none() = nb::tuple(), nb::arg("workspace").none() = nb::none())
        .def("run", &PyProgram::run, nb::arg("inputs").none(),
             nb::arg("outputs").none() = nb::none(), kRunDoc)
        .def("run_timed", &PyProgram::run_timed, nb::arg("inputs").none(),
             nb::arg("outputs").none() = nb::none(), kRunTimedDoc)
        .def_prop_ro("arena_bytes", &PyProgram::arena_bytes,
                     "Bytes of the arena that the program uses.")
        .def_prop_ro("packed_bytes", &PyProgram::packed_bytes, kPackedDoc)
        .def_prop_ro("copied_bytes", &PyProgram::copied_bytes,
                     "Bytes of constants that the program copied because others may write to them.")
        .def_prop_ro("released_constants", &PyProgram::released_constants, kReleasedDoc)
        .def("unpacked", &PyProgram::unpacked, nb::arg("value").none(), kUnpackedDoc)
        .def_prop_ro("n_calls", &PyProgram::n_calls, "Number of calls.")
        .def_prop_ro("call_names", &PyProgram::call_names, "Name of each call, in order.");
}

}  // namespace ablation

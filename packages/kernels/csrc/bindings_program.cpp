#include <cstring>
#include <vector>

#include "bindings_convert.h"
#include "bindings_gil.h"
#include "core/program.h"

namespace ablation {

namespace {

constexpr const char* kAcceptedValue =
    "('input', shape), ('output', shape), ('constant', array), ('arena', shape, offset), ('alias', "
    "shape, source)";
constexpr const char* kAcceptedCall =
    "(kernel, [value or None, ...], output value, attributes, scratch offset, name)";

/// One tuple of a program's description; an item of the wrong type becomes a TypeError that says
/// where it stands.
class Entry {
  public:
    Entry(const char* argument, std::size_t index, nb::handle entry, const char* accepted)
        : where_(std::string("Program: argument '") + argument + "' [" + std::to_string(index) +
                 "]"),
          accepted_(accepted) {
        if (!nb::isinstance<nb::sequence>(entry) || nb::isinstance<nb::str>(entry)) refuse();
        fields_ = nb::borrow<nb::sequence>(entry);
        size_ = nb::len(fields_);
    }
    const std::string& where() const { return where_; }
    nb::object field(std::size_t index) const {
        if (index >= size_) refuse();
        return fields_[index];
    }
    template <class T>
    T to(nb::handle item) const {
        T result{};
        if (!nb::try_cast<T>(item, result)) refuse();
        return result;
    }
    template <class T>
    T get(std::size_t index) const {
        return to<T>(field(index));
    }

  private:
    [[noreturn]] void refuse() const {
        raise_type_error(where_ + " is not made up as it should be; accepted: " + accepted_);
    }

    std::string where_;
    const char* accepted_;
    nb::sequence fields_;
    std::size_t size_ = 0;
};

/// A Program, with the Python objects whose memory its constants are.
class PyProgram {
  public:
    PyProgram(const nb::sequence& values, const nb::sequence& calls, std::int64_t arena_bytes,
              const nb::sequence& stages)
        : specs_(values_from(values)),
          program_(specs_, calls_from(calls), arena_bytes, stages_from(stages)) {
        release_copied_constants();
    }

    nb::list run(const nb::sequence& inputs, nb::handle outputs) {
        Pointers pointers = import(inputs, outputs);
        {
            const ReleasedGil released;
            program_.run(pointers.inputs, pointers.outputs, nullptr);
        }
        return pointers.results;
    }

    nb::tuple run_timed(const nb::sequence& inputs, nb::handle outputs) {
        Pointers pointers = import(inputs, outputs);
        nb::object times = int64_array(program_.names().size());
        auto* data = nb::cast<nb::ndarray<std::int64_t, nb::c_contig>>(times).data();
        std::int64_t total = 0;
        {
            const ReleasedGil released;
            total = program_.run(pointers.inputs, pointers.outputs, data);
        }
        return nb::make_tuple(pointers.results, times, total);
    }

    std::int64_t arena_bytes() const { return program_.arena_bytes(); }
    std::int64_t packed_bytes() const { return program_.packed_bytes(); }
    std::int64_t copied_bytes() const { return program_.copied_bytes(); }
    nb::tuple released_constants() const { return nb::tuple(released_); }
    std::size_t n_calls() const { return program_.names().size(); }
    nb::tuple call_names() const {
        nb::list names;
        for (const std::string& name : program_.names()) names.append(name.c_str());
        return nb::tuple(names);
    }

  private:
    struct Pointers {
        std::vector<float*> inputs;
        std::vector<float*> outputs;
        std::vector<Array> memory;
        nb::list results;
    };

    /// A constant that the program reads only in a copy may be freed by its owner.
    void release_copied_constants() {
        std::vector<Array> kept;
        std::size_t constant = 0;
        for (std::size_t value = 0; value < specs_.size(); ++value) {
            ValueSpec& spec = specs_[value];
            if (spec.storage != Storage::constant) continue;
            const bool is_read = program_.reads_constant(static_cast<int>(value));
            if (is_read && !spec.is_borrowed) {
                kept.push_back(std::move(constants_[constant]));
            } else {
                spec.data = nullptr;
            }
            if (!is_read) released_.append(value);
            ++constant;
        }
        constants_ = std::move(kept);
    }

    /// Whether nobody can write to an array: a read-only NumPy array that owns its memory, or a
    /// view of one. A read-only view of memory that is written elsewhere is none.
    static bool is_immutable(nb::handle given) {
        const nb::handle type = nb::module_::import_("numpy").attr("ndarray");
        nb::object array = nb::borrow(given);
        while (nb::isinstance(array, type)) {
            const nb::object flags = array.attr("flags");
            if (nb::cast<bool>(flags.attr("writeable"))) return false;
            if (nb::cast<bool>(flags.attr("owndata"))) return true;
            array = array.attr("base");
        }
        return nb::isinstance<nb::bytes>(array);
    }

    static nb::object int64_array(std::size_t count) {
        const nb::object numpy = nb::module_::import_("numpy");
        return numpy.attr("empty")(count, numpy.attr("int64"));
    }

    std::vector<ValueSpec> values_from(const nb::sequence& values) {
        std::vector<ValueSpec> specs;
        for (nb::handle item : values) {
            const Entry entry("values", specs.size(), item, kAcceptedValue);
            const auto kind = entry.get<std::string>(0);
            ValueSpec spec;
            if (kind == "constant") {
                Array array = import_array("Program", "values", entry.field(1), false);
                spec.storage = Storage::constant;
                spec.shape = array.view.shape;
                spec.data = array.view.data;
                spec.is_borrowed = !is_immutable(array.object);
                constants_.push_back(std::move(array));
            } else {
                spec.shape = shape_from("Program", "values", entry.field(1));
                if (kind == "input") {
                    spec.storage = Storage::input;
                } else if (kind == "output") {
                    spec.storage = Storage::output;
                } else if (kind == "arena") {
                    spec.storage = Storage::arena;
                    spec.offset = entry.get<std::int64_t>(2);
                } else if (kind == "alias") {
                    spec.storage = Storage::alias;
                    spec.source = entry.get<int>(2);
                } else {
                    throw ValueError(entry.where() + " is of kind '" + kind +
                                     "'; accepted: input, constant, arena, output, alias");
                }
            }
            specs.push_back(std::move(spec));
        }
        return specs;
    }

    std::vector<CallSpec> calls_from(const nb::sequence& calls) const {
        std::vector<CallSpec> result;
        for (nb::handle item : calls) {
            const Entry entry("calls", result.size(), item, kAcceptedCall);
            CallSpec spec;
            spec.name = entry.get<std::string>(5);
            spec.kernel = entry.get<std::string>(0);
            Call shapes;
            for (nb::handle input : entry.get<nb::sequence>(1)) {
                const int value = input.is_none() ? -1 : entry.to<int>(input);
                const std::size_t slot = spec.inputs.size();
                if (slot < static_cast<std::size_t>(kMaxInputs) && value >= 0 &&
                    static_cast<std::size_t>(value) < specs_.size()) {
                    shapes.inputs[slot].shape = specs_[static_cast<std::size_t>(value)].shape;
                }
                spec.inputs.push_back(value);
            }
            spec.output = entry.get<int>(2);
            spec.attributes = attributes_of(spec, entry.get<nb::dict>(3), shapes);
            spec.scratch_offset = entry.get<std::int64_t>(4);
            result.push_back(std::move(spec));
        }
        return result;
    }

    static std::vector<StageSpec> stages_from(const nb::sequence& stages) {
        std::vector<StageSpec> result;
        for (nb::handle item : stages) {
            const Entry entry("stages", result.size(), item, "(first call, number of calls)");
            result.push_back({entry.get<std::size_t>(0), entry.get<std::size_t>(1)});
        }
        return result;
    }

    /// Its errors name the call.
    static Attributes attributes_of(const CallSpec& spec, const nb::dict& given,
                                    const Call& shapes) {
        const std::string where = "Program: call '" + spec.name + "' (" + spec.kernel + "): ";
        try {
            return attributes_from(find_kernel(spec.kernel).op, given, shapes);
        } catch (const ValueError& error) {
            throw ValueError(where + error.what());
        } catch (const nb::builtin_exception& error) {
            if (error.type() != nb::exception_type::type_error) throw;
            raise_type_error(where + error.what());
        }
    }

    static void require_same_shape(const char* argument, std::size_t index, const Shape& given,
                                   const Shape& expected) {
        if (!(given == expected)) {
            throw ValueError(std::string("Program.run: argument '") + argument + "' [" +
                             std::to_string(index) + "] has shape " + given.str() +
                             "; accepted: " + expected.str());
        }
    }

    static void require_count(const char* argument, std::size_t given, std::size_t expected) {
        if (given != expected) {
            throw ValueError(std::string("Program.run: argument '") + argument + "' has " +
                             std::to_string(given) +
                             " arrays; accepted: " + std::to_string(expected));
        }
    }

    Pointers import(const nb::sequence& inputs, nb::handle outputs) const {
        Pointers pointers;
        require_count("inputs", nb::len(inputs), program_.input_shapes().size());
        std::size_t index = 0;
        for (nb::handle item : inputs) {
            Array array = import_array("Program.run", "inputs", item, false);
            require_same_shape("inputs", index, array.view.shape, program_.input_shapes()[index]);
            pointers.inputs.push_back(array.view.data);
            pointers.memory.push_back(std::move(array));
            ++index;
        }
        const auto& shapes = program_.output_shapes();
        if (outputs.is_none()) {
            for (const Shape& shape : shapes) {
                Array array = new_array(shape);
                pointers.outputs.push_back(array.view.data);
                pointers.results.append(array.object);
            }
            return pointers;
        }
        const auto given = nb::cast<nb::sequence>(outputs);
        require_count("outputs", nb::len(given), shapes.size());
        index = 0;
        for (nb::handle item : given) {
            Array array = import_array("Program.run", "outputs", item, true);
            require_same_shape("outputs", index, array.view.shape, shapes[index]);
            require_apart(pointers, array.view, index);
            pointers.outputs.push_back(array.view.data);
            pointers.results.append(array.object);
            ++index;
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
            throw ValueError(
                "Program.run: argument 'outputs' [" + std::to_string(index) +
                "] overlaps an input, a constant or another output; accepted: memory of its own");
        }
    }

    std::vector<Array> constants_;
    nb::list released_;
    std::vector<ValueSpec> specs_;
    Program program_;
};

}  // namespace

void bind_program(nb::module_& module) {
    nb::class_<PyProgram>(
        module, "Program",
        "A planned sequence of kernel calls over one arena.\n\n"
        "values: list of tuples, the index is the value's id: ('input', shape), ('constant', "
        "array), ('arena', shape, offset in bytes), ('output', shape), ('alias', shape, "
        "earlier id).\n"
        "calls: list of tuples (kernel, [value id or None per input slot], output id, "
        "attributes, scratch offset in bytes, name), run in order.\n"
        "arena_bytes: size of the arena; offsets are multiples of 64.\n\n"
        "stages: list of (first call, number of calls): consecutive calls whose rows (along the "
        "last "
        "axis) do not depend on one another and that share one fork-join, each thread with rows of "
        "its own. run_timed gives the times of the first thread's rows, and the wait for the "
        "others "
        "to the last call of the stage.\n\n"
        "An output lies apart from the call's inputs and scratch, or takes exactly the place of an "
        "input in a slot of OpInfo.in_place.\n\n"
        "The program owns its constants: writing to an array after construction does not change "
        "the "
        "program. It packs a constant matrix of a packed kernel once, whatever the number of "
        "calls, "
        "and copies every other array, except a read-only NumPy array that owns its memory (or a "
        "view of one), which it reads in place.\n\n"
        "Scratch and worker slots are sized for get_num_threads() at construction. Raises "
        "ValueError that names the call or value.")
        .def(
            nb::init<const nb::sequence&, const nb::sequence&, std::int64_t, const nb::sequence&>(),
            nb::arg("values"), nb::arg("calls"), nb::arg("arena_bytes"),
            nb::arg("stages") = nb::tuple())
        .def("run", &PyProgram::run, nb::arg("inputs"), nb::arg("outputs").none() = nb::none(),
             "Runs the calls and returns the output arrays. inputs: float32 arrays in the order of "
             "the input "
             "values; outputs: arrays to write, or None for new NumPy arrays.\n\n"
             "The loop allocates nothing and releases the GIL. Two threads that run one program "
             "take turns.")
        .def("run_timed", &PyProgram::run_timed, nb::arg("inputs"),
             nb::arg("outputs").none() = nb::none(),
             "Like run, with a clock read around each call. Returns (outputs, int64 nanoseconds "
             "per call, "
             "nanoseconds of the whole loop).")
        .def_prop_ro("arena_bytes", &PyProgram::arena_bytes, "Size of the arena in bytes.")
        .def_prop_ro("packed_bytes", &PyProgram::packed_bytes,
                     "Bytes of constants kept once more in a kernel's own layout.")
        .def_prop_ro("copied_bytes", &PyProgram::copied_bytes,
                     "Bytes of constants that the program copied because others may write to them.")
        .def_prop_ro("released_constants", &PyProgram::released_constants,
                     "Ids of the constants that are read only in such a layout: the program does "
                     "not keep their arrays alive.")
        .def_prop_ro("n_calls", &PyProgram::n_calls, "Number of calls.")
        .def_prop_ro("call_names", &PyProgram::call_names, "Name of each call, in order.");
}

}  // namespace ablation

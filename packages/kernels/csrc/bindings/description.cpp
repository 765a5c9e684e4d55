#include "bindings/description.h"

#include <limits>
#include <string>
#include <utility>

#include "core/check.h"

namespace ablation {

namespace {

constexpr const char* kAcceptedValue =
    "('input', shape), ('output', shape), ('constant', array), ('arena', shape, offset), ('alias', "
    "shape, source)";
constexpr const char* kAcceptedCall =
    "(kernel, [value or None, ...], output value, attributes, scratch offset, name)";
constexpr const char* kAcceptedStage = "(first call, number of calls)";

/// One tuple of a program's description.
class Entry {
  public:
    Entry(const Argument& where, nb::handle entry, const char* accepted)
        : where_(where), accepted_(accepted), fields_(items_of(where, entry, accepted)) {}

    const Argument& where() const { return where_; }
    nb::object field(std::size_t index) const {
        if (index >= fields_.size()) refuse();
        return fields_[index];
    }
    template <class T>
    T get(std::size_t index) const {
        T result{};
        if (!nb::try_cast<T>(field(index), result)) refuse();
        return result;
    }
    std::int64_t integer(std::size_t index) const { return as_integer(where_, field(index)); }
    std::size_t count(std::size_t index) const {
        const std::int64_t number = integer(index);
        if (number < 0) refuse();
        return static_cast<std::size_t>(number);
    }
    int value(nb::handle item) const {
        const std::int64_t number = as_integer(where_, item);
        if (number < std::numeric_limits<int>::min() || number > std::numeric_limits<int>::max()) {
            refuse();
        }
        return static_cast<int>(number);
    }

  private:
    [[noreturn]] void refuse() const {
        raise_type_error(where_.prefix() +
                         "is not made up as it should be; accepted: " + accepted_);
    }

    Argument where_;
    const char* accepted_;
    nb::tuple fields_;
};

/// Reads the items of one argument of Program.
template <class Read>
void each_entry(const char* argument, nb::handle given, const char* accepted, const Read& read) {
    Argument where{"Program", argument};
    const nb::tuple items = items_of(where, given, "a sequence of tuples");
    for (nb::handle item : items) {
        ++where.index;
        read(Entry(where, item, accepted));
    }
}

/// A constant whose memory is not yet known.
struct ConstantSource {
    std::size_t value;
    nb::object object;
};

ValueSpec value_of(const Entry& entry, const std::string& kind) {
    ValueSpec spec;
    spec.shape = shape_from(entry.where(), entry.field(1));
    if (kind == "input") {
        spec.storage = Storage::input;
    } else if (kind == "output") {
        spec.storage = Storage::output;
    } else if (kind == "arena") {
        spec.storage = Storage::arena;
        spec.offset = entry.integer(2);
    } else if (kind == "alias") {
        spec.storage = Storage::alias;
        spec.source = entry.value(entry.field(2));
    } else {
        raise_value_error(entry.where(), "is of kind '" + kind + "'",
                          "input, constant, arena, output, alias");
    }
    return spec;
}

/// The text before the errors of a call's attributes.
std::string place_of(const CallSpec& spec) {
    return "Program: call '" + spec.name + "' (" + spec.kernel + "): ";
}

template <class Function>
auto naming_the_call(const CallSpec& spec, const Function& function) {
    try {
        return function();
    } catch (const ValueError& error) {
        throw ValueError(place_of(spec) + error.what());
    } catch (const nb::builtin_exception& error) {
        if (error.type() != nb::exception_type::type_error) throw;
        raise_type_error(place_of(spec) + error.what());
    } catch (nb::python_error& error) {
        if (!error.matches(PyExc_TypeError)) throw;
        raise_type_error_from(error, place_of(spec) + "an attribute is of the wrong type");
    }
}

CallSpec call_of(const Entry& entry) {
    CallSpec spec;
    spec.name = entry.get<std::string>(5);
    spec.kernel = entry.get<std::string>(0);
    const nb::tuple inputs =
        items_of(entry.where(), entry.field(1), "a sequence of values or None for its inputs");
    for (nb::handle input : inputs) {
        spec.inputs.push_back(input.is_none() ? -1 : entry.value(input));
    }
    spec.output = entry.value(entry.field(2));
    spec.scratch_offset = entry.integer(4);
    const auto attributes = entry.get<nb::dict>(3);
    naming_the_call(spec, [&] {
        spec.attributes = attributes_from(find_op(find_kernel(spec.kernel).op), attributes);
    });
    return spec;
}

/// Whether nobody can write to an array: a read-only NumPy array that owns its memory, or a view of
/// one. A read-only view of memory that is written elsewhere is none. Runs no code but NumPy's.
bool is_immutable(nb::handle given) {
    nb::object array = nb::borrow(given);
    while (array.type().is(numpy_types().ndarray)) {
        const nb::object flags = array.attr("flags");
        if (nb::cast<bool>(flags.attr("writeable"))) return false;
        if (nb::cast<bool>(flags.attr("owndata"))) return true;
        array = array.attr("base");
    }
    return nb::isinstance<nb::bytes>(array);
}

void import_constants(const std::vector<ConstantSource>& sources, Description& description) {
    description.constants.resize(sources.size());
    std::vector<ArrayRequest> requests;
    for (std::size_t index = 0; index < sources.size(); ++index) {
        const auto& [value, object] = sources[index];
        requests.push_back({{"Program", "values", static_cast<std::int64_t>(value)},
                            object,
                            false,
                            &description.constants[index]});
    }
    import_arrays(requests);
    for (std::size_t index = 0; index < sources.size(); ++index) {
        ValueSpec& spec = description.values[sources[index].value];
        spec.storage = Storage::constant;
        spec.shape = description.constants[index].view.shape;
        spec.data = description.constants[index].view.data;
        spec.is_borrowed = !is_immutable(description.constants[index].object);
    }
}

}  // namespace

Description describe(nb::handle values, nb::handle calls, nb::handle stages) {
    Description description;
    std::vector<ConstantSource> constants;
    each_entry("values", values, kAcceptedValue, [&](const Entry& entry) {
        const auto kind = entry.get<std::string>(0);
        if (kind == "constant") {
            constants.push_back({description.values.size(), entry.field(1)});
            description.values.emplace_back();
        } else {
            description.values.push_back(value_of(entry, kind));
        }
    });
    each_entry("calls", calls, kAcceptedCall,
               [&](const Entry& entry) { description.calls.push_back(call_of(entry)); });
    each_entry("stages", stages, kAcceptedStage, [&](const Entry& entry) {
        description.stages.push_back({entry.count(0), entry.count(1)});
    });
    import_constants(constants, description);
    return description;
}

}  // namespace ablation

// Attributes between Python and Call, by the lines of kernels.def: each has one type, whose
// overloads below say what it accepts and how it is described.
#include <algorithm>
#include <optional>
#include <type_traits>
#include <vector>

#include "bindings/convert.h"
#include "core/check.h"

namespace ablation {

namespace {

/// The words of a CHOICE, separated by ", ".
#define CHOICE(type, ...) \
    constexpr std::string_view words_of(type) { return #__VA_ARGS__; }
#include "core/kernels.def"

constexpr std::string_view kNone = "None";

/// Calls function(word, place) for each word, until it returns true.
template <class Function>
bool each_word(std::string_view words, Function function) {
    for (int place = 0; !words.empty(); ++place) {
        const std::size_t end = std::min(words.find(", "), words.size());
        if (function(words.substr(0, end), place)) return true;
        words.remove_prefix(std::min(end + 2, words.size()));
    }
    return false;
}

std::optional<std::string_view> utf8(nb::handle object) {
    if (!PyUnicode_Check(object.ptr())) return std::nullopt;
    Py_ssize_t size = 0;
    const char* data = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
    if (data == nullptr) PyErr_Clear();  // a lone surrogate
    if (data == nullptr) return std::nullopt;
    return std::string_view(data, static_cast<std::size_t>(size));
}

void read(const Argument& where, nb::handle given, bool& value) { value = as_bool(where, given); }

void read(const Argument& where, nb::handle given, std::int64_t& value) {
    value = as_integer(where, given);
}

void read(const Argument& where, nb::handle given, float& value) {
    value = to_float32(where, as_number(where, given));
}

void read(const Argument& where, nb::handle given, std::optional<float>& value) {
    value.reset();
    if (!given.is_none()) read(where, given, value.emplace());
}

void read(const Argument& where, nb::handle given, Axes& value) {
    value = Axes{};
    const nb::tuple axes = items_of(where, given, "a permutation of the axes of 'x'");
    if (axes.size() > static_cast<std::size_t>(kMaxRank)) {
        raise_value_error(where, "has " + std::to_string(axes.size()) + " axes", "at most 8");
    }
    for (nb::handle axis : axes) value.append(as_integer(where, axis));
}

template <class Choice>
    requires std::is_enum_v<Choice>
void read(const Argument& where, nb::handle given, Choice& value) {
    const auto text = utf8(given);
    std::string accepted;
    const bool is_found = each_word(words_of(Choice{}), [&](std::string_view word, int place) {
        const bool is_none = word == kNone;
        value = static_cast<Choice>(place);
        accepted += accepted.empty() ? "" : ", ";
        accepted += is_none ? std::string(word) : "'" + std::string(word) + "'";
        return is_none ? given.is_none() : text == word;
    });
    if (!is_found) raise_value_error(where, "is " + repr_of(given), accepted);
}

nb::object to_python(bool value) { return nb::bool_(value); }
nb::object to_python(int value) { return nb::int_(value); }
nb::object to_python(double value) { return nb::float_(value); }
nb::object to_python(std::nullopt_t) { return nb::none(); }
nb::object to_python(Required) { return nb::none(); }

nb::object word_to_python(std::string_view word) {
    if (word == kNone) return nb::none();
    return nb::str(word.data(), word.size());
}

template <class Choice>
    requires std::is_enum_v<Choice>
nb::object to_python(Choice value) {
    nb::object result;
    each_word(words_of(value), [&](std::string_view word, int place) {
        if (place == static_cast<int>(value)) result = word_to_python(word);
        return result.is_valid();
    });
    return result;
}

/// Python's type of a C++ one.
template <class T>
nb::handle type_in_python() {
    PyTypeObject* type = &PyUnicode_Type;
    if constexpr (std::is_same_v<T, bool>) type = &PyBool_Type;
    if constexpr (std::is_same_v<T, std::int64_t>) type = &PyLong_Type;
    if constexpr (std::is_same_v<T, float>) type = &PyFloat_Type;
    if constexpr (std::is_same_v<T, std::optional<float>>) type = &PyFloat_Type;
    if constexpr (std::is_same_v<T, Axes>) type = &PyTuple_Type;
    return reinterpret_cast<PyObject*>(type);
}

template <class T>
nb::tuple choices() {
    nb::list words;
    if constexpr (std::is_enum_v<T>) {
        each_word(words_of(T{}), [&](std::string_view word, int) {
            words.append(word_to_python(word));
            return false;
        });
    }
    return nb::tuple(words);
}

/// A line of the list.
struct AttributeInfo {
    std::string_view name;
    bool is_required;
    void (*read)(const Argument& where, nb::handle given, Attributes& attributes);
    nb::tuple (*row)();
};
template <class T>
constexpr bool is_required(const T&) {
    return std::is_same_v<T, Required>;
}
constexpr AttributeInfo kAttributes[] = {
#define ATTRIBUTE(name, type, default_value)                                            \
    {#name, is_required(default_value),                                                 \
     [](const Argument& where, nb::handle given, Attributes& attributes) {              \
         ablation::read(where, given, attributes.name);                                 \
     },                                                                                 \
     [] {                                                                               \
         return nb::make_tuple(#name, type_in_python<type>(), to_python(default_value), \
                               is_required(default_value), choices<type>());            \
     }},
#include "core/kernels.def"
};

}  // namespace

Attributes attributes_from(const OpInfo& op, const nb::dict& given) {
    struct Item {
        nb::object key, value;  ///< `key` keeps `name` alive
        std::string_view name;
    };
    std::vector<Item> items;
    items.reserve(given.size());
    for (auto [key, value] : given) {
        const auto name = utf8(key);
        if (!name) {
            raise_type_error(std::string(op.name) + ": the name of an attribute is " +
                             type_of(key) + "; accepted: a str");
        }
        if (!has_word(op.attributes, *name)) {
            throw ValueError(std::string(op.name) + ": has no attribute '" + std::string(*name) +
                             "'; accepted: " + (*op.attributes == 0 ? "none" : op.attributes));
        }
        items.push_back({nb::borrow(key), nb::borrow(value), *name});
    }
    // Only now: a conversion may run code that changes the dict
    Attributes attributes;
    for (const AttributeInfo& info : kAttributes) {
        if (!has_word(op.attributes, info.name)) continue;
        const auto item = std::ranges::find(items, info.name, &Item::name);
        if (item != items.end()) {
            info.read({op.name, info.name}, item->value, attributes);
        } else if (info.is_required) {
            throw ValueError(std::string(op.name) + ": needs the attribute '" +
                             std::string(info.name) + "'");
        }
    }
    return attributes;
}

nb::list attribute_rows(const OpInfo& op) {
    nb::list rows;
    for (const AttributeInfo& info : kAttributes) {
        if (has_word(op.attributes, info.name)) rows.append(info.row());
    }
    return rows;
}

}  // namespace ablation

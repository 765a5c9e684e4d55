#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "bindings_convert.h"
#include "core/check.h"

namespace ablation {

namespace {

enum class Kind : std::uint8_t { boolean, integer, number, text, integers };

struct AttributeKind {
    std::string_view name;
    Kind kind;
};
/// Every attribute of every op: an attribute of one name is of one kind.
constexpr std::array kKinds = {
    AttributeKind{"transpose_b", Kind::boolean},
    AttributeKind{"alpha", Kind::number},
    AttributeKind{"activation", Kind::text},
    AttributeKind{"perm", Kind::integers},
    AttributeKind{"axis", Kind::integer},
    AttributeKind{"start", Kind::integer},
    AttributeKind{"stop", Kind::integer},
    AttributeKind{"approximate", Kind::text},
    AttributeKind{"eps", Kind::number},
    AttributeKind{"layout", Kind::text},
    AttributeKind{"scale", Kind::number},
    AttributeKind{"causal", Kind::boolean},
    AttributeKind{"mask_replaces", Kind::boolean},
    AttributeKind{"mask_is_causal", Kind::boolean},
    AttributeKind{"strict", Kind::boolean},
    AttributeKind{"tile_q", Kind::integer},
    AttributeKind{"tile_k", Kind::integer},
};

std::optional<std::string_view> utf8(nb::handle object) {
    if (!PyUnicode_Check(object.ptr())) return std::nullopt;
    Py_ssize_t size = 0;
    const char* data = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
    if (data == nullptr) PyErr_Clear();  // a lone surrogate
    if (data == nullptr) return std::nullopt;
    return std::string_view(data, static_cast<std::size_t>(size));
}

void convert(const Argument& where, Kind kind, GivenAttribute& given) {
    const nb::handle object = given.object;
    switch (kind) {
        case Kind::boolean:
            given.value = as_bool(where, object);
            return;
        case Kind::integer:
            given.value = as_integer(where, object);
            return;
        case Kind::number:
            if (where.name == "scale" && object.is_none()) return;
            given.value = as_number(where, object);
            return;
        case Kind::text:
            if (const auto text = utf8(object)) given.value = *text;
            return;
        case Kind::integers: {
            // Anything else is refused where the number of axes is known
            if (!PySequence_Check(object.ptr()) || PyUnicode_Check(object.ptr())) return;
            std::vector<std::int64_t> numbers;
            for (nb::handle item : items_of(where, object, "a permutation of the axes of 'x'")) {
                numbers.push_back(as_integer(where, item));
            }
            given.value = std::move(numbers);
        }
    }
}

/// Puts one keyword into the attributes of its op.
class Setter {
  public:
    Setter(std::string_view op, const GivenAttribute& given, const Call& call)
        : op_(op), given_(given), call_(call) {}

    // True if the op has an attribute of this name.
    bool operator()(NoAttributes&) const { return false; }
    bool operator()(MatmulAttributes& matmul) const {
        if (is("transpose_b")) return matmul.transpose_b = get<bool>(), true;
        if (is("alpha")) return matmul.alpha = number(), true;
        if (is("activation")) return matmul.activation = activation(), true;
        return false;
    }
    bool operator()(PermuteAttributes& permute) const {
        if (is("perm")) return permute = permutation(), true;
        return false;
    }
    bool operator()(SliceAttributes& slice) const {
        if (is("axis")) return slice.axis = axis(), true;
        if (is("start")) return slice.start = get<std::int64_t>(), true;
        if (is("stop")) return slice.stop = get<std::int64_t>(), true;
        return false;
    }
    bool operator()(GeluAttributes& gelu) const {
        if (!is("approximate")) return false;
        if (text() != "none" && text() != "tanh") refuse("'none', 'tanh'");
        return gelu.tanh = text() == "tanh", true;
    }
    bool operator()(LayerNormAttributes& layer_norm) const {
        if (is("eps")) return layer_norm.eps = eps(), true;
        return false;
    }
    bool operator()(RmsNormAttributes& rms_norm) const {
        if (is("eps")) return rms_norm.eps = eps(), true;
        return false;
    }
    bool operator()(RotaryAttributes& rotary) const {
        if (!is("layout")) return false;
        if (text() == "qkv") refuse("'bhsd', 'bshd'");
        return rotary.layout = layout(), true;
    }
    bool operator()(AttentionAttributes& attention) const {
        if (is("scale")) {
            if (!given_.object.is_none()) attention.scale = number();
            return true;
        }
        if (is("causal")) return attention.causal = get<bool>(), true;
        if (op_ != "attention") return false;
        if (is("layout")) return attention.layout = layout(), true;
        if (is("mask_replaces")) return attention.mask_replaces = get<bool>(), true;
        if (is("mask_is_causal")) return attention.mask_is_causal = get<bool>(), true;
        if (is("strict")) return attention.strict = get<bool>(), true;
        if (is("tile_q")) return attention.tile_q = tile(), true;
        if (is("tile_k")) return attention.tile_k = tile(), true;
        return false;
    }

  private:
    bool is(std::string_view name) const { return given_.name == name; }
    template <class T>
    T get() const {
        return std::get<T>(given_.value);
    }
    // Empty for what is no text: no accepted word is.
    std::string_view text() const {
        const auto* found = std::get_if<std::string_view>(&given_.value);
        return found == nullptr ? std::string_view() : *found;
    }
    [[noreturn]] void refuse(const std::string& accepted) const {
        raise_value_error({op_, given_.name}, "is " + repr_of(given_.object), accepted);
    }

    float number() const { return to_float32({op_, given_.name}, get<double>()); }
    float eps() const {
        const float eps = number();
        if (!(eps >= 0.0F)) refuse("a number >= 0");
        return eps;
    }
    std::int64_t tile() const {
        const auto tile = get<std::int64_t>();
        if (tile < 0 || tile > std::numeric_limits<std::int32_t>::max()) {
            refuse("0 (the kernel chooses) or a number of rows");
        }
        return tile;
    }
    int axis() const {
        const auto axis = get<std::int64_t>();
        const int rank = call_.inputs[0].shape.rank;
        if (axis < -rank || axis >= rank) refuse("an axis of 'x'");
        return static_cast<int>(axis < 0 ? axis + rank : axis);
    }
    Activation activation() const {
        if (given_.object.is_none()) return Activation::none;
        if (text() == "relu") return Activation::relu;
        if (text() == "gelu") return Activation::gelu;
        if (text() == "gelu_tanh") return Activation::gelu_tanh;
        refuse("None, 'relu', 'gelu', 'gelu_tanh'");
    }
    AttentionLayout layout() const {
        if (text() == "bhsd") return AttentionLayout::bhsd;
        if (text() == "bshd") return AttentionLayout::bshd;
        if (text() == "qkv") return AttentionLayout::qkv;
        refuse(op_ == "rotary" ? "'bhsd', 'bshd'" : "'bhsd', 'bshd', 'qkv'");
    }
    PermuteAttributes permutation() const {
        const int rank = call_.inputs[0].shape.rank;
        const auto* axes = std::get_if<std::vector<std::int64_t>>(&given_.value);
        PermuteAttributes result;
        std::array<bool, kMaxRank> seen{};
        const auto is_new = [&](std::int64_t axis) {
            if (axis < 0) axis += rank;
            if (axis < 0 || axis >= rank || seen[static_cast<std::size_t>(axis)]) return false;
            seen[static_cast<std::size_t>(axis)] = true;
            result.perm[static_cast<std::size_t>(result.rank++)] = static_cast<int>(axis);
            return true;
        };
        if (axes == nullptr || axes->size() != static_cast<std::size_t>(rank) ||
            !std::ranges::all_of(*axes, is_new)) {
            refuse("a permutation of the " + std::to_string(rank) +
                   " axes of 'x', for example (1, 0)");
        }
        return result;
    }

    std::string_view op_;
    const GivenAttribute& given_;
    const Call& call_;
};

Attributes defaults_of(std::string_view op, const Call& call) {
    if (op == "matmul") return MatmulAttributes{};
    if (op == "permute") return PermuteAttributes{};
    if (op == "slice") return SliceAttributes{};
    if (op == "gelu") return GeluAttributes{};
    if (op == "layer_norm") return LayerNormAttributes{};
    if (op == "rms_norm") return RmsNormAttributes{};
    if (op == "rotary") return RotaryAttributes{};
    if (op.starts_with("attention")) {
        AttentionAttributes attributes;
        const Shape& q = call.inputs[0].shape;
        if (q.rank > 0) attributes.scale = 1.0F / std::sqrt(static_cast<float>(q[-1]));
        return attributes;
    }
    return NoAttributes{};
}

}  // namespace

GivenAttributes given_attributes(std::string_view op, const nb::dict& given) {
    GivenAttributes result;
    result.reserve(given.size());
    for (auto [key, object] : given) {
        const auto name = utf8(key);
        if (!name) {
            raise_type_error(std::string(op) + ": the name of an attribute is " + type_of(key) +
                             "; accepted: a str");
        }
        result.push_back({nb::borrow(key), *name, nb::borrow(object), std::monostate()});
    }
    // Only now: a conversion may run code that changes the dict
    for (GivenAttribute& attribute : result) {
        const auto* kind = std::ranges::find(kKinds, attribute.name, &AttributeKind::name);
        if (kind != kKinds.end()) convert({op, attribute.name}, kind->kind, attribute);
    }
    return result;
}

Attributes attributes_from(std::string_view op, const GivenAttributes& given, const Call& call) {
    Attributes attributes = defaults_of(op, call);
    for (const GivenAttribute& attribute : given) {
        if (!std::visit(Setter(op, attribute, call), attributes)) {
            throw ValueError(std::string(op) + ": has no attribute '" +
                             std::string(attribute.name) + "'");
        }
    }
    return attributes;
}

}  // namespace ablation

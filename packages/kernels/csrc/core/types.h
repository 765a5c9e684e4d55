// The vocabulary of every kernel: tensor view, attributes, call, shape rule errors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>

namespace ablation {

inline constexpr int kMaxRank = 8;
inline constexpr int kMaxInputs = 8;
/// Elements beyond this fit into no address space; sizes below it can be multiplied by a few more
/// factors.
inline constexpr std::int64_t kMaxElements = std::int64_t{1} << 46;

/// Bytes to which arena offsets and scratch are aligned: one cache line, one AVX-512 register.
inline constexpr std::int64_t kAlignment = 64;

/// Sizes of up to kMaxRank axes. Rank 0 is a scalar of one element.
struct Shape {
    std::array<std::int64_t, kMaxRank> sizes{};
    int rank = 0;

    Shape() = default;
    Shape(std::initializer_list<std::int64_t> values) {
        if (values.size() > static_cast<std::size_t>(kMaxRank)) {
            throw std::invalid_argument("shape has more than 8 axes");
        }
        for (const std::int64_t value : values) sizes[static_cast<std::size_t>(rank++)] = value;
    }

    /// Size of an axis; negative axes count from the end.
    std::int64_t operator[](int axis) const {
        return sizes[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)];
    }
    std::int64_t& operator[](int axis) {
        return sizes[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)];
    }
    void append(std::int64_t size) {
        if (rank == kMaxRank) throw std::invalid_argument("shape has more than 8 axes");
        sizes[static_cast<std::size_t>(rank++)] = size;
    }
    /// An axis of this shape that may count from the end, counted from the first one.
    int from_first(std::int64_t axis) const {
        return static_cast<int>(axis < 0 ? axis + rank : axis);
    }
    /// Number of elements; the largest 64-bit integer if there are more.
    std::int64_t count() const {
        std::int64_t total = 1;
        for (int axis = 0; axis < rank; ++axis) {
            if (__builtin_mul_overflow(total, (*this)[axis], &total)) total = INT64_MAX;
        }
        return total;
    }
    bool operator==(const Shape& other) const {
        if (rank != other.rank) return false;
        for (int axis = 0; axis < rank; ++axis) {
            if ((*this)[axis] != other[axis]) return false;
        }
        return true;
    }
    /// "(2, 3)", as Python prints it.
    std::string str() const;
};

/// A C-contiguous float32 array that somebody else owns. `data` is null for an input that is
/// absent.
struct TensorView {
    float* data = nullptr;
    Shape shape;
    /// False for an optional input that was not given. Shape rules look at this, never at `data`.
    bool present = false;
    /// True for a program's constant: its elements never change.
    bool is_constant = false;
};

/// Axes of an array; negative ones count from the end.
struct Axes {
    std::array<std::int64_t, kMaxRank> axes{};
    int rank = 0;

    std::int64_t operator[](int index) const { return axes[static_cast<std::size_t>(index)]; }
    void append(std::int64_t axis) { axes[static_cast<std::size_t>(rank++)] = axis; }
};

/// In place of the default of an attribute that has none.
struct Required {
    template <class T>
    constexpr operator T() const {
        return T{};
    }
};
inline constexpr Required kRequired;

#define CHOICE(type, ...) enum class type : std::uint8_t { __VA_ARGS__ };
#include "kernels.def"

/// The attributes of all ops; each reads those of its line in kernels.def.
struct Attributes {
#define ATTRIBUTE(name, type, default_value) type name = default_value;
#include "kernels.def"
};

/// One kernel invocation, resolved: everything that a kernel may read or write.
struct Call {
    std::array<TensorView, kMaxInputs> inputs;
    TensorView output;
    Attributes attributes;
    /// Workers that scratch has room for; a kernel with scratch uses no more, whatever
    /// num_threads() says by then.
    int threads = 1;
    /// kAlignment-aligned, as many bytes as the kernel's scratch rule says.
    std::byte* scratch = nullptr;
    /// The constant input that the kernel has a packing rule for, in the kernel's own layout; null
    /// where there is none.
    const float* packed = nullptr;
};

using KernelFunction = void (*)(const Call&);
/// Bytes of scratch that a kernel needs for this call with this many threads. Data pointers are not
/// read.
using ScratchRule = std::int64_t (*)(const Call&, int threads);
/// Bytes that a kernel's packed copy of a constant input takes; 0 where it takes none of this
/// call's. Data pointers are not read.
using PackedBytesRule = std::int64_t (*)(const Call&);
/// Writes that copy.
using PackFunction = void (*)(const Call&, float* packed);
/// Writes a constant as it was given, bit by bit, from the packed copy of a call.
using UnpackFunction = void (*)(const Call&, const float* packed, float* elements);
/// Checks the call's inputs and attributes and returns the output's shape. Data pointers are not
/// read.
using ShapeRule = Shape (*)(const Call&);

/// What was wrong with an argument: becomes Python's ValueError.
struct ValueError : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

/// An element of an input that names none of another input's: becomes Python's IndexError.
struct IndexError : std::out_of_range {
    using std::out_of_range::out_of_range;
};

/// How many parts cover a size, the last one perhaps not whole.
constexpr std::int64_t divide_up(std::int64_t size, std::int64_t part) {
    return (size + part - 1) / part;
}
/// The size of as many whole parts.
constexpr std::int64_t round_up(std::int64_t size, std::int64_t part) {
    return divide_up(size, part) * part;
}
constexpr std::int64_t align_up(std::int64_t bytes) { return round_up(bytes, kAlignment); }

}  // namespace ablation

// The op table: kernels.def expanded into declarations and look-up.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "types.h"

namespace ablation {

enum class Gemm : std::uint8_t { none, scalar, blas, packed };

struct OpInfo {
    const char* name;
    const char* slots;       ///< "q k v mask?": names in order, ? marks an optional one
    const char* in_place;    ///< slots whose array the output may be, given equal shapes
    const char* attributes;  ///< their names, as in kernels.def
    ShapeRule infer;
};

struct KernelInfo {
    const char* op;
    const char* name;
    const char* form;
    bool simd;
    bool parallel;
    Gemm gemm;
    const char* idea;
    KernelFunction function;
    ScratchRule scratch;
};

/// Raised by one when a line of kernels.def changes its meaning; the executor compares it at
/// import.
inline constexpr int kTableVersion = 7;

/// What of an op may be done row by row: see ROWS in kernels.def.
struct RowInfo {
    const char* op;
    const char* slots;
    bool (*condition)(const Call&);
};

/// How a kernel keeps a constant input in a layout of its own.
struct PackInfo {
    const char* kernel;
    const char* slot;
    PackedBytesRule bytes;
    PackFunction pack;
    /// Whether two calls of kernels with the same `pack` read one and the same packed copy.
    bool (*is_shared)(const Call&, const Call&);
};

std::span<const OpInfo> ops();
std::span<const KernelInfo> kernels();

/// Throws ValueError with the valid names and the nearest match.
const OpInfo& find_op(std::string_view name);
/// Accepts the full name ("softmax_simd") or, when op is given, the part after it ("simd").
const KernelInfo& find_kernel(std::string_view name, std::string_view op = {});
/// Null for an op whose rows depend on one another.
const RowInfo* find_rows(const OpInfo& op);
/// Null for a kernel that packs nothing.
const PackInfo* find_pack(const KernelInfo& kernel);
/// Null where a packed copy does not have all of the constant.
UnpackFunction find_unpack(PackFunction pack);
/// The best kernel for this call: what BEST of the op says, or its last line in kernels.def.
const KernelInfo& best_kernel(const OpInfo& op, const Call& call);

/// Names of the slots of an op and whether each is optional.
struct Slots {
    std::array<std::string_view, kMaxInputs> names;
    std::array<bool, kMaxInputs> optional{};
    int count = 0;
};
Slots parse_slots(const OpInfo& op);

/// Whether a word is one of a list that is separated by blanks.
bool has_word(std::string_view list, std::string_view word);

// Every function that the list names.
#define OP(op, slots, in_place, attributes) Shape infer_##op(const Call& call);
#define ROWS(op, slots, condition) bool condition(const Call& call);
#define KERNEL(op, name, form, simd, parallel, gemm, scratch, idea) \
    void name(const Call& call);                                    \
    std::int64_t scratch(const Call& call, int threads);
#define BEST(op, function) const char* function(const Call& call);
#define PACK(kernel, slot, bytes, function, shared) \
    std::int64_t bytes(const Call& call);           \
    void function(const Call& call, float* packed); \
    bool shared(const Call& one, const Call& other);
#define UNPACK(function, unpack) \
    void unpack(const Call& call, const float* packed, float* elements);
#include "kernels.def"

}  // namespace ablation

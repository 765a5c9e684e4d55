// What a DLPack capsule holds: the layout of DLPack 1.1 (dmlc/dlpack, include/dlpack/dlpack.h).
#pragma once

#include <cstdint>

namespace ablation::dlpack {

inline constexpr std::uint32_t kMajorVersion = 1;
inline constexpr std::int32_t kCpu = 1;
inline constexpr std::uint64_t kFlagReadOnly = 1;
inline constexpr std::uint64_t kFlagIsCopied = 2;

enum TypeCode : std::uint8_t {
    kInt = 0,
    kUInt = 1,
    kFloat = 2,
    kBfloat = 4,
    kComplex = 5,
    kBool = 6
};

struct Device {
    std::int32_t type;
    std::int32_t id;
};

struct DataType {
    std::uint8_t code;
    std::uint8_t bits;
    std::uint16_t lanes;
};

struct Tensor {
    void* data;
    Device device;
    std::int32_t rank;
    DataType dtype;
    const std::int64_t* shape;
    const std::int64_t* strides;  ///< in elements; null: C-contiguous
    std::uint64_t byte_offset;
};

struct Managed {
    static constexpr const char* kName = "dltensor";
    static constexpr const char* kUsedName = "used_dltensor";
    Tensor tensor;
    void* context;
    void (*deleter)(Managed*);
};

struct ManagedVersioned {
    static constexpr const char* kName = "dltensor_versioned";
    static constexpr const char* kUsedName = "used_dltensor_versioned";
    std::uint32_t major;
    std::uint32_t minor;
    void* context;
    void (*deleter)(ManagedVersioned*);
    std::uint64_t flags;
    Tensor tensor;
};

}  // namespace ablation::dlpack

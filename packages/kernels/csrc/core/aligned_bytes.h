// Memory for one call's scratch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "types.h"

namespace ablation {

struct AlignedFree {
    void operator()(std::byte* memory) const {
        ::operator delete[](memory, std::align_val_t{static_cast<std::size_t>(kAlignment)});
    }
};

/// Uninitialized bytes, aligned to kAlignment. Throws std::bad_alloc.
inline std::unique_ptr<std::byte[], AlignedFree> aligned_bytes(std::int64_t bytes) {
    return std::unique_ptr<std::byte[], AlignedFree>(new (std::align_val_t{
        static_cast<std::size_t>(kAlignment)}) std::byte[static_cast<std::size_t>(bytes)]);
}

}  // namespace ablation

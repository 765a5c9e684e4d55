// The one place from which a call of the teaching set takes scratch, counted to the byte.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace ablation::teaching {

/// Not for several threads: all workers' scratch is taken before they start. Every tensor is an
/// allocation of its own, so that a peak of the process's memory shows what the arena counts.
class ScratchArena {
  public:
    struct Release {
        ScratchArena* arena;
        std::int64_t bytes;
        void operator()(float* memory) const {
            arena->live_bytes_ -= bytes;
            delete[] memory;
        }
    };
    using Tensor = std::unique_ptr<float[], Release>;

    ScratchArena() = default;
    ScratchArena(const ScratchArena&) = delete;
    ScratchArena& operator=(const ScratchArena&) = delete;

    /// Uninitialized. The arena must outlive it. Throws std::bad_alloc.
    Tensor tensor(std::int64_t floats) {
        const std::int64_t bytes = floats * static_cast<std::int64_t>(sizeof(float));
        Tensor taken(new float[static_cast<std::size_t>(floats)], Release{this, bytes});
        live_bytes_ += bytes;
        peak_bytes_ = std::max(peak_bytes_, live_bytes_);
        return taken;
    }

    /// Most bytes that were taken at the same time.
    std::int64_t peak_bytes() const { return peak_bytes_; }

  private:
    std::int64_t live_bytes_ = 0;
    std::int64_t peak_bytes_ = 0;
};

}  // namespace ablation::teaching

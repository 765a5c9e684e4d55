// What programs may share: one arena, and the constants that kernels have laid out anew.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "fork_safe_lock.h"
#include "table.h"
#include "types.h"

namespace ablation {

/// Zero-filled pages that the system provides on first touch.
class Arena {
  public:
    explicit Arena(std::int64_t bytes);
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    std::byte* data() const { return data_; }
    std::int64_t bytes() const { return bytes_; }

  private:
    std::byte* data_ = nullptr;
    std::int64_t bytes_ = 0;
};

/// A constant in a kernel's own layout, and the call as it was packed for.
struct PackedConstant {
    PackFunction pack;
    Call call;
    Arena memory;

    const float* data() const { return reinterpret_cast<const float*>(memory.data()); }
};

/// Packed constants by the address of what they were packed from, each as long as somebody uses it.
/// Whoever uses one keeps that memory as it is, so that no other constant gets its address.
class PackedConstants {
  public:
    /// The copy of `bytes` > 0 that fits the call: one that is in use, or a new one.
    std::shared_ptr<const PackedConstant> find_or_pack(const PackInfo& info, const Call& call,
                                                       std::int64_t bytes);
    /// Bytes of all copies in use.
    std::int64_t bytes() const;

  private:
    std::vector<std::weak_ptr<const PackedConstant>> copies_;
};

/// Memory of programs that take turns. A copy of a constant goes with the last program that uses
/// it, the arena with the workspace, which its programs keep alive.
class Workspace {
  public:
    /// Held while a program runs or is built.
    ForkSafeLock& lock() { return lock_; }

    PackedConstants& packed() { return packed_; }
    const PackedConstants& packed() const { return packed_; }

    std::byte* arena() const { return arena_ == nullptr ? nullptr : arena_->data(); }
    /// The largest size that a program was built with so far.
    std::int64_t arena_bytes() const { return arena_ == nullptr ? 0 : arena_->bytes(); }
    /// The arena gives its place to a larger one. Programs that were built before move to it when
    /// they run next; nothing that they left in the old one is read again.
    void replace_arena(std::unique_ptr<Arena> larger) { arena_ = std::move(larger); }

  private:
    ForkSafeLock lock_;
    std::unique_ptr<Arena> arena_;
    PackedConstants packed_;
};

}  // namespace ablation

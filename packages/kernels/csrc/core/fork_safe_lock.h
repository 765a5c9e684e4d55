// A lock that a child made by fork finds open, whoever held it in the parent.
#pragma once

#include <atomic>
#include <cstdint>

namespace ablation {

/// Forks that lie between the first process and this one, plus 1.
std::uint32_t fork_generation();

/// For std::lock_guard. What it guards must be usable as it was left in the middle of a change.
class ForkSafeLock {
  public:
    void lock() {
        const std::uint32_t mine = fork_generation();
        for (;;) {
            std::uint32_t holder = holder_.load(std::memory_order_relaxed);
            // A holder of an earlier generation is a thread that this process does not have.
            if (holder == mine) {
                holder_.wait(holder, std::memory_order_relaxed);
            } else if (holder_.compare_exchange_weak(holder, mine, std::memory_order_acquire)) {
                return;
            }
        }
    }
    void unlock() {
        holder_.store(0, std::memory_order_release);
        holder_.notify_one();
    }

  private:
    /// The generation of the holder, 0 without one.
    std::atomic<std::uint32_t> holder_{0};
};

}  // namespace ablation

#include "fork_safe_lock.h"

#include <pthread.h>

namespace ablation {

namespace {

std::atomic<std::uint32_t> generation{1};

}  // namespace

std::uint32_t fork_generation() {
    static const bool counts_forks =
        pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1); }) == 0;
    (void)counts_forks;
    return generation.load(std::memory_order_relaxed);
}

}  // namespace ablation

// Fork-join on Grand Central Dispatch: one dispatch_apply_f iteration per worker, items claimed
// from a counter. GCD owns the threads; asking for as many iterations as workers is what keeps
// num_threads() true.
#if defined(ABLATION_APPLE)

#include <dispatch/dispatch.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <thread>

#include "parallel.h"

namespace ablation {

namespace {

struct State {
    std::atomic<int> threads{available_cores()};
    /// Held by the one fork-join in flight.
    std::atomic<bool> busy{false};
    /// GCD must not be used in a child made by fork without exec: everything runs on the calling
    /// thread there.
    std::atomic<bool> forked{false};
};

State& state() {
    static State* const instance = [] {
        auto* const made = new State;  // never destroyed: threads of GCD outlive static destructors
        pthread_atfork(nullptr, nullptr, [] {
            state().forked.store(true);
            state().busy.store(false);
        });
        return made;
    }();
    return *instance;
}

thread_local bool inside_fork_join = false;

struct Join {
    void* context;
    ParallelBody body;
    std::int64_t n_items;
    std::atomic<std::int64_t> next{0};
    /// The first exception of a body; written by who set `failed`.
    std::atomic<bool> failed{false};
    std::exception_ptr error;
};

void work(void* opaque, std::size_t worker) {
    auto& join = *static_cast<Join*>(opaque);
    inside_fork_join = true;
    try {
        for (;;) {
            const std::int64_t item = join.next.fetch_add(1, std::memory_order_relaxed);
            if (item >= join.n_items) break;
            join.body(join.context, item, static_cast<int>(worker));
        }
    } catch (...) {
        if (!join.failed.exchange(true)) join.error = std::current_exception();
        join.next.store(join.n_items, std::memory_order_relaxed);
    }
    inside_fork_join = false;
}

}  // namespace

const char* parallel_provider() { return "gcd"; }

int available_cores() {
    const unsigned cores = std::thread::hardware_concurrency();
    return cores == 0 ? 1 : static_cast<int>(std::min<unsigned>(cores, kMaxThreads));
}

int num_threads() { return state().threads.load(std::memory_order_relaxed); }

void set_num_threads(int n) {
    State& shared = state();
    while (shared.busy.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
    shared.threads.store(std::max(n, 1), std::memory_order_relaxed);
    shared.busy.store(false, std::memory_order_release);
}

void parallel_for(std::int64_t n_items, void* context, ParallelBody body, int max_workers) {
    State& shared = state();
    const bool alone = inside_fork_join || n_items <= 1 || max_workers <= 1 ||
                       shared.forked.load(std::memory_order_relaxed) ||
                       shared.busy.exchange(true, std::memory_order_acquire);
    if (alone) {
        for (std::int64_t item = 0; item < n_items; ++item) body(context, item, 0);
        return;
    }
    // Read while the pool is held, so that set_num_threads cannot change it under a caller's
    // scratch.
    std::int64_t workers = shared.threads.load(std::memory_order_relaxed);
    workers = std::min({workers, std::int64_t{max_workers}, n_items});
    Join join{.context = context, .body = body, .n_items = n_items};
    dispatch_apply_f(static_cast<std::size_t>(workers),
                     dispatch_get_global_queue(QOS_CLASS_USER_INITIATED, 0), &join, work);
    shared.busy.store(false, std::memory_order_release);
    if (join.error) std::rethrow_exception(join.error);
}

}  // namespace ablation

#endif  // ABLATION_APPLE

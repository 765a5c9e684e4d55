// Provider "pool": a fork-join over threads that spin for a short while and then park.
//
// Each worker watches a state of its own (one cache line): a fork is one store per worker, a join
// one exchange per worker; no lock is taken and nothing is allocated. Items are claimed from one
// shared counter, and a worker that has not woken by the time the items are gone is called off
// instead of waited for: waking a parked thread takes some 10 us. Measured fork-join:
// docs/performance.md.
#include "parallel.h"

#if !defined(ABLATION_APPLE)

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "clock.h"
#include "cpu_pause.h"

namespace ablation {

namespace {

// Longer than the pause between two calls of a small program from Python, shorter than a scheduler
// tick.
constexpr std::int64_t kSpinNs = 100'000;
constexpr int kSpinsPerClockRead = 32;
constexpr int kMostProcessors = 1 << 16;

// Memory of its own from the start of each thread: where it had to be allocated on first use, a
// thread without memory would abort.
#if defined(__GLIBC__)
[[gnu::tls_model("initial-exec")]]
#endif
thread_local bool inside_parallel = false;

enum State : std::uint32_t { idle, announced, running };

struct alignas(64) Worker {
    /// Announced by the caller, running and idle by the worker.
    std::atomic<std::uint32_t> state{idle};
    std::atomic<std::uint32_t> parked{0};
    /// What a parked worker waits on: it never goes back, as state may.
    std::atomic<std::uint32_t> wakeups{0};
};

struct Pool {
    std::atomic<int> threads{available_cores()};
    std::atomic<bool> busy{false};
    /// Grows only, by the holder of busy.
    std::vector<std::unique_ptr<Worker>> workers;

    // The fork in flight; written before it is announced to the workers.
    void* context = nullptr;
    ParallelBody body = nullptr;
    std::int64_t n_items = 0;
    /// So far; tells idle workers that the pool is in use.
    std::atomic<std::uint32_t> forks{0};
    alignas(64) std::atomic<std::int64_t> next{0};
    /// The first exception of a body; written by who set `failed`, read after the join.
    std::atomic<bool> failed{false};
    std::exception_ptr error;

    void work(int worker_index) noexcept {
        try {
            for (;;) {
                const std::int64_t item = next.fetch_add(1, std::memory_order_relaxed);
                if (item >= n_items) return;
                body(context, item, worker_index);
            }
        } catch (...) {
            if (!failed.exchange(true)) error = std::current_exception();
            next.store(n_items, std::memory_order_relaxed);
        }
    }
};

// Spins until kSpinNs have passed without a fork, then parks; a wake-up starts over.
void wait_while_idle(const Pool& pool, Worker& worker) {
    for (;;) {
        const std::uint32_t forks = pool.forks.load(std::memory_order_relaxed);
        const std::int64_t give_up = clock_ns() + kSpinNs;
        do {
            for (int spin = 0; spin < kSpinsPerClockRead; ++spin) {
                if (worker.state.load(std::memory_order_relaxed) != idle) return;
                cpu_pause();
            }
        } while (clock_ns() < give_up);
        if (pool.forks.load(std::memory_order_relaxed) != forks) continue;
        const std::uint32_t wakeups = worker.wakeups.load(std::memory_order_relaxed);
        // Sequentially consistent on both sides: this load sees the announcement or the caller sees
        // `parked`.
        worker.parked.store(1, std::memory_order_seq_cst);
        if (worker.state.load(std::memory_order_seq_cst) == idle) worker.wakeups.wait(wakeups);
        worker.parked.store(0, std::memory_order_relaxed);
    }
}

void worker_main(Pool* pool, Worker* worker, int worker_index) {
    inside_parallel = true;
    for (;;) {
        wait_while_idle(*pool, *worker);
        std::uint32_t expected = announced;
        if (!worker->state.compare_exchange_strong(expected, running, std::memory_order_acquire)) {
            continue;  // called off
        }
        pool->work(worker_index);
        worker->state.store(idle, std::memory_order_release);
    }
}

// Never destroyed: the pool's threads are detached and may outlive static destructors.
alignas(Pool) std::byte pool_memory[sizeof(Pool)];

// Takes no memory, of which a child may have none.
void start_over_in_child() {
    auto* pool = reinterpret_cast<Pool*>(pool_memory);
    const int threads = pool->threads.load();
    new (pool_memory) Pool;
    pool->threads = threads;
    inside_parallel = false;
}

Pool& pool() {
    static Pool* const created = [] {
        auto* pool = new (pool_memory) Pool;
        pthread_atfork(nullptr, nullptr, start_over_in_child);
        return pool;
    }();
    return *created;
}

bool try_hold(Pool& pool) {
    return !pool.busy.load(std::memory_order_relaxed) &&
           !pool.busy.exchange(true, std::memory_order_acquire);
}

// Returns how many workers there are, at most `wanted`; never throws, as its caller holds the pool.
int grow(Pool& pool, int wanted) noexcept {
    try {
        // Room first: once its thread runs, a worker must stay.
        pool.workers.reserve(static_cast<std::size_t>(wanted));
        while (static_cast<int>(pool.workers.size()) < wanted) {
            auto worker = std::make_unique<Worker>();
            std::thread(worker_main, &pool, worker.get(), static_cast<int>(pool.workers.size()) + 1)
                .detach();
            pool.workers.push_back(std::move(worker));
        }
    } catch (const std::exception&) {
        // No thread or no memory left: fewer workers do the work, and the caller still holds the
        // pool.
    }
    return std::min(static_cast<int>(pool.workers.size()), wanted);
}

void announce(Worker& worker) {
    worker.state.store(announced, std::memory_order_seq_cst);
    if (worker.parked.load(std::memory_order_seq_cst) != 0) {
        worker.wakeups.fetch_add(1, std::memory_order_relaxed);
        worker.wakeups.notify_one();
    }
}

void join(Worker& worker) {
    std::uint32_t expected = announced;
    if (worker.state.compare_exchange_strong(expected, idle, std::memory_order_relaxed)) return;
    for (int spin = 0; worker.state.load(std::memory_order_acquire) != idle; ++spin) {
        cpu_pause();
        if (spin > 100'000) sched_yield();  // some milliseconds: the worker has lost its core
    }
}

}  // namespace

const char* parallel_provider() { return "pool"; }

int available_cores() {
#if defined(__linux__)
    // The system refuses a set that is smaller than its own.
    for (int size = CPU_SETSIZE; size <= kMostProcessors; size *= 2) {
        cpu_set_t* const set = CPU_ALLOC(size);
        if (set == nullptr) break;
        const std::size_t bytes = CPU_ALLOC_SIZE(size);
        const bool is_known = sched_getaffinity(0, bytes, set) == 0;
        const int count = is_known ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0) return std::min(count, kMaxThreads);
    }
#endif
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? static_cast<int>(std::min<long>(online, kMaxThreads)) : 1;
}

int num_threads() { return pool().threads.load(std::memory_order_relaxed); }

void set_num_threads(int n) {
    Pool& p = pool();
    while (!try_hold(p)) sched_yield();
    p.threads.store(n, std::memory_order_relaxed);
    p.busy.store(false, std::memory_order_release);
}

void parallel_for(std::int64_t n_items, void* context, ParallelBody body, int max_workers) {
    Pool& p = pool();
    const bool alone = n_items <= 1 || max_workers <= 1 || inside_parallel ||
                       p.threads.load(std::memory_order_relaxed) == 1 || !try_hold(p);
    if (alone) {
        for (std::int64_t item = 0; item < n_items; ++item) body(context, item, 0);
        return;
    }
    // Read again while the pool is held: set_num_threads may have changed it in between.
    const std::int64_t threads = std::min(p.threads.load(std::memory_order_relaxed), max_workers);
    const int helpers = grow(p, static_cast<int>(std::min(threads, n_items)) - 1);
    p.context = context;
    p.body = body;
    p.n_items = n_items;
    p.next.store(0, std::memory_order_relaxed);
    p.forks.fetch_add(1, std::memory_order_relaxed);
    for (int index = 0; index < helpers; ++index) {
        announce(*p.workers[static_cast<std::size_t>(index)]);
    }
    inside_parallel = true;
    p.work(0);
    inside_parallel = false;
    for (int index = 0; index < helpers; ++index) {
        join(*p.workers[static_cast<std::size_t>(index)]);
    }
    std::exception_ptr error;
    if (p.failed.load(std::memory_order_relaxed)) {
        error = std::exchange(p.error, nullptr);
        p.failed.store(false, std::memory_order_relaxed);
    }
    p.busy.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
}

}  // namespace ablation

#endif

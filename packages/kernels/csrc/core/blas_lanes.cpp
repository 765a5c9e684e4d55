#include "blas_lanes.h"

#if !defined(ABLATION_APPLE)

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string_view>
#include <thread>

namespace ablation {

namespace {

// OpenBLAS has room for 128 buffers in a build for 64 threads; half of them leave some to others
// who use the same library.
constexpr std::size_t kMaxLanes = 64;
// At least a buffer, whose size the library does not tell before it maps the first: 32 MiB in the
// scipy-openblas32 of today, 128 MiB in OpenBLAS by default.
constexpr std::size_t kLargestBuffer = std::size_t{128} << 20;

struct alignas(64) Lane {
    std::atomic<bool> in_use{false};
    /// Has an owner; guarded by `opening`.
    bool owned = false;
};

std::array<Lane, kMaxLanes> lanes;
/// Lanes with memory: written under `opening`, never less.
std::atomic<std::size_t> open_lanes{0};
/// Reasons to let no product start: a fork under way, the end of the process.
std::atomic<int> closures{0};
std::mutex opening;
pthread_key_t own_lane;

struct Reservation {
    void* address;
    std::size_t bytes;
};
std::mutex reserving;
std::array<Reservation, kMaxLanes> reserved;
std::size_t n_reserved = 0;
std::size_t buffer_bytes = kLargestBuffer;

void* map_memory(std::size_t bytes) {
    return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

bool reserve_buffer() {
    const std::lock_guard<std::mutex> lock(reserving);
    void* address = map_memory(buffer_bytes);
    if (address == MAP_FAILED) return false;
    reserved[n_reserved++] = {address, buffer_bytes};
    return true;
}

/// What the library calls in the place of mmap.
void* mmap_reserved(void* wanted, std::size_t bytes, int protection, int flags, int file,
                    off_t offset) {
    {
        const std::lock_guard<std::mutex> lock(reserving);
        if (file == -1 && n_reserved > 0 && reserved[n_reserved - 1].bytes >= bytes) {
            const auto [address, size] = reserved[--n_reserved];
            if (size > bytes) munmap(static_cast<std::byte*>(address) + bytes, size - bytes);
            buffer_bytes = bytes;
            return address;
        }
    }
    return mmap(wanted, bytes, protection, flags, file, offset);
}

/// The lane of this thread, null where none is left for it.
Lane* take_lane() {
    const std::lock_guard<std::mutex> lock(opening);
    const std::size_t opened = open_lanes.load();
    std::size_t index = 0;
    while (index < opened && lanes[index].owned) ++index;
    if (index == opened) {
        if (opened == kMaxLanes || !reserve_buffer()) return nullptr;
        open_lanes.store(opened + 1);
    }
    if (pthread_setspecific(own_lane, &lanes[index]) != 0) return nullptr;
    lanes[index].owned = true;
    return &lanes[index];
}

void give_back(void* lane) {
    const std::lock_guard<std::mutex> lock(opening);
    static_cast<Lane*>(lane)->owned = false;
}

/// False where another thread has the lane. Both orders are sequentially consistent: whoever
/// closes the lanes sees this one in use, or is seen here.
bool enter(Lane& lane) {
    if (lane.in_use.exchange(true)) return false;
    if (closures.load() == 0) return true;
    lane.in_use.store(false);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return false;
}

/// Returns when no product is in flight, and lets none start.
void close_lanes() {
    closures.fetch_add(1);
    for (const Lane& lane : lanes) {
        while (lane.in_use.load()) sched_yield();
    }
}

void before_fork() {
    opening.lock();
    close_lanes();
}

void after_fork() {
    closures.fetch_sub(1);
    opening.unlock();
}

/// Of the parent's threads only the one that forked is here.
void after_fork_in_child() {
    for (Lane& lane : lanes) lane.owned = &lane == pthread_getspecific(own_lane);
    after_fork();
}

/// Where the library's table of addresses has the function; null if it calls none of this name.
void** find_slot(const link_map& library, std::string_view function) {
    const auto base = static_cast<std::uintptr_t>(library.l_addr);
    const ElfW(Sym)* symbols = nullptr;
    const char* names = nullptr;
    std::array<const ElfW(Rela)*, 2> tables{};
    std::array<std::size_t, 2> sizes{};
    for (const ElfW(Dyn)* entry = library.l_ld; entry->d_tag != DT_NULL; ++entry) {
        // Some loaders add the base to these addresses, some leave them as they are in the file.
        const std::uintptr_t value = entry->d_un.d_ptr;
        const std::uintptr_t address = value < base ? base + value : value;
        if (entry->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const ElfW(Sym)*>(address);
        if (entry->d_tag == DT_STRTAB) names = reinterpret_cast<const char*>(address);
        if (entry->d_tag == DT_JMPREL) tables[0] = reinterpret_cast<const ElfW(Rela)*>(address);
        if (entry->d_tag == DT_PLTRELSZ) sizes[0] = entry->d_un.d_val;
        if (entry->d_tag == DT_RELA) tables[1] = reinterpret_cast<const ElfW(Rela)*>(address);
        if (entry->d_tag == DT_RELASZ) sizes[1] = entry->d_un.d_val;
    }
    for (std::size_t table = 0; table < tables.size(); ++table) {
        for (std::size_t i = 0; i < sizes[table] / sizeof(ElfW(Rela)); ++i) {
            const ElfW(Rela) & entry = tables[table][i];
            const std::size_t symbol = ELF64_R_SYM(entry.r_info);
            if (symbol != 0 && function == names + symbols[symbol].st_name) {
                return reinterpret_cast<void**>(base + entry.r_offset);
            }
        }
    }
    return nullptr;
}

bool lead_to_reserved(void* library) {
    link_map* map = nullptr;
    if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0) return false;
    void** slot = find_slot(*map, "mmap");
    if (slot == nullptr) slot = find_slot(*map, "mmap64");
    if (slot == nullptr) return false;
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    auto* const begin =
        reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(slot) & ~(page - 1));
    if (mprotect(begin, page, PROT_READ | PROT_WRITE) != 0) return false;
    *slot = reinterpret_cast<void*>(&mmap_reserved);
    return true;
}

}  // namespace

void require_memory_to_load_blas() {
    void* address = map_memory(kLargestBuffer);
    if (address == MAP_FAILED) throw std::bad_alloc();
    munmap(address, kLargestBuffer);
}

void open_blas_lanes(void* library) {
    if (!lead_to_reserved(library) || pthread_key_create(&own_lane, give_back) != 0 ||
        pthread_atfork(before_fork, after_fork, after_fork_in_child) != 0 ||
        std::atexit(close_lanes) != 0) {
        throw std::runtime_error("blas: the library's memory cannot be provided ahead");
    }
}

BlasLane::BlasLane() {
    auto* lane = static_cast<Lane*>(pthread_getspecific(own_lane));
    if (lane == nullptr) lane = take_lane();
    if (lane != nullptr) {
        while (!enter(*lane)) sched_yield();
        in_use_ = &lane->in_use;
        return;
    }
    const std::size_t opened = open_lanes.load();
    if (opened == 0) throw std::bad_alloc();
    std::size_t index = 0;
    for (; !enter(lanes[index]); index = (index + 1) % opened) sched_yield();
    in_use_ = &lanes[index].in_use;
}

BlasLane::~BlasLane() { in_use_->store(false, std::memory_order_release); }

}  // namespace ablation

#endif

#include "workspace.h"

#include <sys/mman.h>

#include <new>

namespace ablation {

namespace {

// Below this the page tables cost less than a huge page wastes.
constexpr std::int64_t kHugePagesFrom = std::int64_t{4} << 20;

}  // namespace

Arena::Arena(std::int64_t bytes) : bytes_(bytes) {
    if (bytes < 0)
        throw ValueError("Program: argument 'arena_bytes' is negative; accepted: 0 or more");
    if (bytes == 0) return;
    void* memory = mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (bytes >= kHugePagesFrom) madvise(memory, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
#endif
    data_ = static_cast<std::byte*>(memory);
}

Arena::~Arena() {
    if (data_ != nullptr) munmap(data_, static_cast<std::size_t>(bytes_));
}

std::shared_ptr<const PackedConstant> PackedConstants::find_or_pack(const PackInfo& info,
                                                                    const Call& call,
                                                                    std::int64_t bytes) {
    std::erase_if(copies_, [](const auto& copy) { return copy.expired(); });
    for (const auto& copy : copies_) {
        // Null if another thread has dropped the last program that used it since.
        const auto found = copy.lock();
        if (found != nullptr && found->pack == info.pack && info.is_shared(found->call, call))
            return found;
    }
    // Not make_shared: the memory would stay for as long as copies_ names it.
    const std::shared_ptr<PackedConstant> made(new PackedConstant{info.pack, call, Arena(bytes)});
    info.pack(call, reinterpret_cast<float*>(made->memory.data()));
    copies_.push_back(made);
    return made;
}

std::int64_t PackedConstants::bytes() const {
    std::int64_t total = 0;
    for (const auto& copy : copies_) {
        if (const auto held = copy.lock()) total += held->memory.bytes();
    }
    return total;
}

}  // namespace ablation

#include "cache_sizes.h"

#include <algorithm>
#include <cstddef>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#else
#include <unistd.h>
#endif

namespace ablation {

namespace {

#if defined(__APPLE__)
std::int64_t ask(const char* name) {
    std::int64_t bytes = 0;
    std::size_t size = sizeof(bytes);
    return sysctlbyname(name, &bytes, &size, nullptr, 0) == 0 ? bytes : 0;
}
#endif

CacheSizes read() {
    CacheSizes sizes;
#if defined(__APPLE__)
    sizes.l1 = ask("hw.perflevel0.l1dcachesize");
    sizes.l2 = ask("hw.perflevel0.l2cachesize");
#elif defined(_SC_LEVEL1_DCACHE_SIZE)
    sizes.l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    sizes.l1_ways = sysconf(_SC_LEVEL1_DCACHE_ASSOC);
    sizes.l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    if (sizes.l1 <= 0) sizes.l1 = std::int64_t{32} << 10;
    if (sizes.l1_ways <= 0) sizes.l1_ways = 8;
    if (sizes.l2 <= 0) sizes.l2 = std::int64_t{1} << 20;
    // Virtual machines tell sizes that no processor has: there must be sets left to count.
    sizes.l1 = std::clamp(sizes.l1, std::int64_t{1} << 14, std::int64_t{1} << 20);
    sizes.l1_ways = std::clamp(sizes.l1_ways, std::int64_t{1}, std::int64_t{32});
    // Apple's second level is shared by a cluster of cores.
    sizes.l2 = std::clamp(sizes.l2, std::int64_t{1} << 18, std::int64_t{1} << 21);
    return sizes;
}

}  // namespace

const CacheSizes& cache_sizes() {
    static const CacheSizes sizes = read();
    return sizes;
}

}  // namespace ablation

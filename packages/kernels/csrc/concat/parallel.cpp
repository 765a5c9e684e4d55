// concat: runs by memcpy; the elements of the output are split over the thread pool, in the middle
// of a run if need be. Cost: see concat.h.
#include <algorithm>

#include "concat/concat.h"
#include "core/copy_row.h"
#include "core/parallel.h"

namespace ablation {

namespace {

/// Elements [begin, end) of the output.
void copy_range(const ConcatRuns& concat, float* y, std::int64_t begin, std::int64_t end) {
    std::int64_t row = begin / concat.row_length;
    std::int64_t skipped = begin % concat.row_length;
    for (std::size_t index = 0; begin < end; ++index) {
        if (index == concat.count) {
            index = 0;
            ++row;
        }
        const auto [data, length] = concat.runs[index];
        if (skipped >= length) {
            skipped -= length;
            continue;
        }
        const std::int64_t size = std::min(length - skipped, end - begin);
        copy_row(y + begin, data + row * length + skipped, size);
        begin += size;
        skipped = 0;
    }
}

}  // namespace

void concat_parallel(const Call& call) {
    const ConcatRuns concat(call);
    const std::int64_t elements = call.output.shape.count();
    parallel_ranges(elements, kCopyLine,
                    worthwhile_threads(static_cast<double>(elements) * kCopyNs),
                    [&](std::int64_t begin, std::int64_t end, int) {
                        copy_range(concat, call.output.data, begin, end);
                    });
}

}  // namespace ablation

// take: rows by memcpy, split over the thread pool. Each id is read once for each row that it names
// and checked as it was read, so that no other thread's write to ids can lead outside x.
#include "core/copy_row.h"
#include "core/parallel_rows.h"
#include "take/take.h"

namespace ablation {

namespace {

/// Nanoseconds of one thread per row, for its id and its call; measured.
constexpr double kRowNs = 2.7;

void take_rows(const Call& call, const TakeRows& take, std::int64_t begin, std::int64_t end) {
    const float* ids = call.inputs[1].data;
    const std::int64_t size = take.n * take.length;
    const float* x = call.inputs[0].data + begin / take.count * size;
    std::int64_t place = begin % take.count;
    for (std::int64_t row = begin; row < end; ++row) {
        const float* from = x + row_of_id(take, ids[place], place) * take.length;
        if (take.length == 1) {
            call.output.data[row] = *from;
        } else {
            copy_row(call.output.data + row * take.length, from, take.length);
        }
        if (++place == take.count) {
            place = 0;
            x += size;
        }
    }
}

}  // namespace

void take_parallel(const Call& call) {
    const TakeRows take(call);
    parallel_rows(take.rows, kRowNs + kCopyNs * static_cast<double>(take.length),
                  [&](std::int64_t begin, std::int64_t end) { take_rows(call, take, begin, end); });
}

}  // namespace ablation

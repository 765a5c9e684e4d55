// permute: where the last axis stays, whole rows are copied by memcpy; where it moves, blocks of
// 16 x 16 elements (a cache line each way) are transposed through a buffer in L1, so that every
// cache line is read and written whole. Rows or stripes of blocks are split over the thread pool.
// slice: runs by memcpy, split likewise.
// Cost: each output element is read and written once.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "core/copy_row.h"
#include "core/parallel.h"
#include "core/table.h"
#include "permute/permute.h"

namespace ablation {

namespace {

constexpr std::int64_t kBlock = kCopyLine;

int copy_threads(std::int64_t elements) {
    return worthwhile_threads(static_cast<double>(elements) * kCopyNs);
}

/// Walks the rows of the output in order: all loops but the last, as an odometer.
class RowCursor {
  public:
    RowCursor(const PermuteLoops& loops, std::int64_t row) : loops_(loops) {
        for (int axis = loops.rank - 2; axis >= 0; --axis) {
            const auto loop = static_cast<std::size_t>(axis);
            positions_[loop] = row % loops.sizes[loop];
            row /= loops.sizes[loop];
            offset_ += positions_[loop] * loops.strides[loop];
        }
    }
    /// Offset of the row in x.
    std::int64_t offset() const { return offset_; }
    void advance() {
        for (int axis = loops_.rank - 2; axis >= 0; --axis) {
            const auto loop = static_cast<std::size_t>(axis);
            offset_ += loops_.strides[loop];
            if (++positions_[loop] < loops_.sizes[loop]) return;
            offset_ -= positions_[loop] * loops_.strides[loop];
            positions_[loop] = 0;
        }
    }

  private:
    const PermuteLoops& loops_;
    std::array<std::int64_t, kMaxRank> positions_{};
    std::int64_t offset_ = 0;
};

/// Offset in x of position `index` of all loops but the last and `skipped`;
/// `output_offset` gets that in the output.
std::int64_t locate(const PermuteLoops& loops, int skipped, std::int64_t index,
                    std::int64_t* output_offset) {
    std::int64_t offset = 0;
    std::int64_t output_stride = 1;
    *output_offset = 0;
    for (int axis = loops.rank - 1; axis >= 0; --axis) {
        const auto loop = static_cast<std::size_t>(axis);
        if (axis != skipped && axis != loops.rank - 1) {
            const std::int64_t position = index % loops.sizes[loop];
            index /= loops.sizes[loop];
            offset += position * loops.strides[loop];
            *output_offset += position * output_stride;
        }
        output_stride *= loops.sizes[loop];
    }
    return offset;
}

void copy_rows(const Call& call, const PermuteLoops& loops) {
    const std::int64_t length = loops.sizes[static_cast<std::size_t>(loops.rank - 1)];
    const std::int64_t count = call.output.shape.count();
    if (loops.rank == 1) {
        parallel_ranges(
            count, kBlock, copy_threads(count), [&](std::int64_t begin, std::int64_t end, int) {
                copy_row(call.output.data + begin, call.inputs[0].data + begin, end - begin);
            });
        return;
    }
    parallel_ranges(count / length, 1, copy_threads(count),
                    [&](std::int64_t begin, std::int64_t end, int) {
                        RowCursor cursor(loops, begin);
                        for (std::int64_t row = begin; row < end; ++row, cursor.advance()) {
                            copy_row(call.output.data + row * length,
                                     call.inputs[0].data + cursor.offset(), length);
                        }
                    });
}

/// output[i * output_stride + j] = x[i + j * x_stride] for a block of rows x columns.
void transpose_block(float* output, std::int64_t output_stride, const float* x,
                     std::int64_t x_stride, std::int64_t rows, std::int64_t columns) {
    if (rows == kBlock && columns == kBlock) {
        float block[kBlock][kBlock];
        for (std::int64_t j = 0; j < kBlock; ++j) {
            for (std::int64_t i = 0; i < kBlock; ++i) block[i][j] = x[i + j * x_stride];
        }
        for (std::int64_t i = 0; i < kBlock; ++i) {
            std::memcpy(output + i * output_stride, block[i], sizeof(block[i]));
        }
        return;
    }
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
            output[i * output_stride + j] = x[i + j * x_stride];
        }
    }
}

void transpose_blocks(const Call& call, const PermuteLoops& loops) {
    const int last = loops.rank - 1;
    int contiguous = 0;  // the loop along which x is contiguous
    while (loops.strides[static_cast<std::size_t>(contiguous)] != 1) ++contiguous;
    std::int64_t row_stride = 1;  // from one step of that loop to the next in the output
    for (int axis = contiguous + 1; axis <= last; ++axis) {
        row_stride *= loops.sizes[static_cast<std::size_t>(axis)];
    }
    const std::int64_t rows = loops.sizes[static_cast<std::size_t>(contiguous)];
    const std::int64_t columns = loops.sizes[static_cast<std::size_t>(last)];
    const std::int64_t x_stride = loops.strides[static_cast<std::size_t>(last)];
    const std::int64_t stripes = (rows + kBlock - 1) / kBlock;
    const std::int64_t count = call.output.shape.count();
    parallel_ranges(count / (rows * columns) * stripes, 1, copy_threads(count),
                    [&](std::int64_t begin, std::int64_t end, int) {
                        for (std::int64_t stripe = begin; stripe < end; ++stripe) {
                            const std::int64_t row = stripe % stripes * kBlock;
                            std::int64_t output_offset;
                            const std::int64_t offset =
                                locate(loops, contiguous, stripe / stripes, &output_offset) + row;
                            output_offset += row * row_stride;
                            for (std::int64_t column = 0; column < columns; column += kBlock) {
                                transpose_block(call.output.data + output_offset + column,
                                                row_stride,
                                                call.inputs[0].data + offset + column * x_stride,
                                                x_stride, std::min(kBlock, rows - row),
                                                std::min(kBlock, columns - column));
                            }
                        }
                    });
}

}  // namespace

void permute_parallel(const Call& call) {
    const PermuteLoops loops = permute_loops(call);
    if (loops.strides[static_cast<std::size_t>(loops.rank - 1)] == 1) {
        copy_rows(call, loops);
    } else {
        transpose_blocks(call, loops);
    }
}

void slice_parallel(const Call& call) {
    const SliceRuns slice = slice_runs(call);
    const float* x = call.inputs[0].data + slice.offset;
    const std::int64_t count = slice.runs * slice.length;
    if (slice.runs == 1) {
        parallel_ranges(count, kBlock, copy_threads(count),
                        [&](std::int64_t begin, std::int64_t end, int) {
                            copy_row(call.output.data + begin, x + begin, end - begin);
                        });
        return;
    }
    parallel_ranges(slice.runs, 1, copy_threads(count),
                    [&](std::int64_t begin, std::int64_t end, int) {
                        for (std::int64_t run = begin; run < end; ++run) {
                            copy_row(call.output.data + run * slice.length, x + run * slice.stride,
                                     slice.length);
                        }
                    });
}

}  // namespace ablation

// matmul_packed_simd: own product, no library. b lies in panels as wide as the register tile
// (packed.h), so that the inner loop reads it in order; a is read where it lies, or from a copy of
// a block of rows where its stride would let the rows of a tile evict one another from the
// first-level cache. A program packs a constant b once when it is built; any other b is packed into
// scratch in every call.
//
// matmul_packed_simd_parallel: blocks of rows x panels, claimed by the threads one by one.
//
// Cost: 2 M N K FLOPs; packing reads and writes K N elements, copying a reads and writes M K
// elements once per cut of the columns. Paper: Goto and van de Geijn, Anatomy of High-Performance
// Matrix Multiplication (2008).
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <tuple>

#include "core/parallel.h"
#include "core/table.h"
#include "matmul/blocking.h"
#include "matmul/matmul.h"
#include "matmul/packed.h"
#include "matmul/panel.h"

namespace ablation {

namespace {

/// One product of the batch, with b packed.
struct Product {
    const Call& call;
    MatmulSizes sizes;
    Blocking blocking;
    std::int64_t item;
    const float* packed;
};

std::int64_t bytes_of_copy(const Blocking& blocking) {
    return blocking.copies_a ? blocking.copy_bytes() : 0;
}

const float* copy_rows(const float* a, std::int64_t stride, std::int64_t rows, std::int64_t depth,
                       const Blocking& blocking, std::byte* scratch) {
    auto* copy = reinterpret_cast<float*>(scratch);
    for (std::int64_t row = 0; row < rows; ++row) {
        std::memcpy(copy + row * blocking.copy_stride(), a + row * stride,
                    static_cast<std::size_t>(depth * kFloatBytes));
    }
    return copy;
}

void multiply_block(const Product& product, std::int64_t row, std::int64_t column,
                    std::byte* scratch) {
    const auto& [sizes, blocking] = std::tie(product.sizes, product.blocking);
    const auto& attributes = product.call.attributes;
    const auto [a, b, bias, addend] = matmul_inputs(product.call);
    const std::int64_t rows = std::min(blocking.rows, sizes.m - row);
    const std::int64_t first_row = product.item * sizes.m + row;
    const std::int64_t offset = first_row * sizes.n + column;
    PackedBlock block{};
    block.rows = rows;
    block.panel_stride = sizes.k * packed_provider().columns;
    block.columns = std::min(blocking.columns, sizes.n - column);
    block.c_stride = sizes.n;
    PackedTarget target{};
    target.c = product.call.output.data + offset;
    target.rows = block.rows;
    target.columns = block.columns;
    target.previous = addend.present ? addend.data + offset : nullptr;
    target.alpha = attributes.alpha;
    block.targets = {&target, 1};
    for (std::int64_t k = 0; k < sizes.k; k += blocking.depth) {
        block.depth = std::min(blocking.depth, sizes.k - k);
        block.a = a.data + first_row * sizes.k + k;
        block.a_stride = sizes.k;
        if (blocking.copies_a) {
            block.a = copy_rows(block.a, sizes.k, rows, block.depth, blocking, scratch);
            block.a_stride = blocking.copy_stride();
        }
        block.b = product.packed + column * sizes.k + k * packed_provider().columns;
        block.next_b = block.b + block.depth * packed_provider().columns;
        block.next_a = a.data + first_row * sizes.k + k + block.depth;
        block.next_a_stride = sizes.k;
        if (k + block.depth == sizes.k) {
            block.next_a = block.next_b = nullptr;
            target.bias = bias.present ? bias.data + column : nullptr;
            target.activation = attributes.activation;
        }
        packed_provider().multiply(block);
        target.previous = target.c;
    }
}

void multiply_product(const Product& product, int threads, std::byte* scratch) {
    const std::int64_t row_blocks = divide_up(product.sizes.m, product.blocking.rows);
    const std::int64_t column_blocks = divide_up(product.sizes.n, product.blocking.columns);
    const std::int64_t copy_bytes = bytes_of_copy(product.blocking);
    parallel_items(row_blocks * column_blocks, threads, [&](std::int64_t index, int worker) {
        multiply_block(product, index % row_blocks * product.blocking.rows,
                       index / row_blocks * product.blocking.columns,
                       scratch + worker * copy_bytes);
    });
}

std::int64_t packed_count(const MatmulSizes& sizes) {
    return round_up(sizes.n, packed_provider().columns) * sizes.k;
}

/// Panels [begin, end) of b (K, N), or (N, K) if transposed.
void pack_panels(const float* b, bool transposed, const MatmulSizes& sizes, std::int64_t begin,
                 std::int64_t end, float* packed) {
    const std::int64_t width = packed_provider().columns;
    for (std::int64_t panel = begin; panel < end; ++panel) {
        const std::int64_t column = panel * width;
        const std::int64_t columns = std::min(width, sizes.n - column);
        float* to = packed + column * sizes.k;
        if (columns < width) std::fill_n(to, width * sizes.k, 0.0F);
        const float* from = b + column * (transposed ? sizes.k : 1);
        fill_panel({from, transposed, transposed ? sizes.k : sizes.n, columns, sizes.k}, width, to,
                   [](float& element, float given) { element = given; });
    }
}

void pack_product(const Call& call, const MatmulSizes& sizes, std::int64_t item, int threads,
                  float* packed) {
    const bool transposed = call.attributes.transpose_b;
    const float* b = call.inputs[1].data + item * sizes.k * sizes.n;
    parallel_ranges(divide_up(sizes.n, packed_provider().columns), 1, threads,
                    [&](std::int64_t begin, std::int64_t end, int) {
                        pack_panels(b, transposed, sizes, begin, end, packed);
                    });
}

/// Products of a batch are dealt out whole where there are enough of them; b may differ in each.
bool splits_batch(const MatmulSizes& sizes, int threads) {
    return sizes.batch > 1 && sizes.batch >= threads;
}

void multiply_batch(const Call& call, const MatmulSizes& sizes, int threads) {
    const Blocking blocking = choose_blocking(sizes, 1);
    const std::int64_t packed_bytes = align_up(packed_count(sizes) * kFloatBytes);
    const std::int64_t worker_bytes = packed_bytes + bytes_of_copy(blocking);
    parallel_items(sizes.batch, threads, [&](std::int64_t item, int worker) {
        std::byte* scratch = call.scratch + worker * worker_bytes;
        auto* packed = reinterpret_cast<float*>(scratch);
        pack_product(call, sizes, item, 1, packed);
        multiply_product({call, sizes, blocking, item, packed}, 1, scratch + packed_bytes);
    });
}

void multiply(const Call& call, const MatmulSizes& sizes, int threads) {
    if (splits_batch(sizes, threads)) return multiply_batch(call, sizes, threads);
    const Blocking blocking = choose_blocking(sizes, threads);
    std::byte* scratch = call.scratch;
    float* own = nullptr;
    if (call.packed == nullptr) {
        own = reinterpret_cast<float*>(scratch);
        scratch += align_up(packed_count(sizes) * kFloatBytes);
    }
    for (std::int64_t item = 0; item < sizes.batch; ++item) {
        if (own != nullptr) pack_product(call, sizes, item, threads, own);
        const float* packed = own != nullptr ? own : call.packed;
        multiply_product({call, sizes, blocking, item, packed}, threads, scratch);
    }
}

/// Room for a copy of a per worker and for b where it is not packed already: one b, or one for each
/// worker where a batch is dealt out. Enough for any smaller number of threads as well.
std::int64_t scratch_for(const Call& call, int threads) {
    const MatmulSizes sizes = matmul_sizes(call);
    const std::int64_t copies = threads * bytes_of_copy(choose_blocking(sizes, 1));
    if (has_packed_b(call)) return copies;
    return copies + std::min<std::int64_t>(sizes.batch, threads) *
                        align_up(packed_count(sizes) * kFloatBytes);
}

}  // namespace

bool has_packed_b(const Call& call) {
    return call.inputs[1].is_constant && call.inputs[1].shape.rank == 2;
}

std::int64_t packed_b_bytes(const Call& call) {
    return has_packed_b(call) ? packed_count(matmul_sizes(call)) * kFloatBytes : 0;
}

void pack_b(const Call& call, float* packed) {
    pack_product(call, matmul_sizes(call), 0, num_threads(), packed);
}

void unpack_b(const Call& call, const float* packed, float* elements) {
    const MatmulSizes sizes = matmul_sizes(call);
    const std::int64_t width = packed_provider().columns;
    for (std::int64_t column = 0; column < sizes.n; ++column) {
        const float* from = packed + column / width * width * sizes.k + column % width;
        const bool transposed = call.attributes.transpose_b;
        float* to = elements + column * (transposed ? sizes.k : 1);
        const std::int64_t stride = transposed ? 1 : sizes.n;
        for (std::int64_t k = 0; k < sizes.k; ++k) to[k * stride] = from[k * width];
    }
}

bool has_same_packed_b(const Call& one, const Call& other) {
    return one.inputs[1].data == other.inputs[1].data &&
           one.inputs[1].shape == other.inputs[1].shape &&
           one.attributes.transpose_b == other.attributes.transpose_b;
}

std::int64_t matmul_packed_scratch(const Call& call, int) { return scratch_for(call, 1); }

std::int64_t matmul_packed_parallel_scratch(const Call& call, int threads) {
    return scratch_for(call, threads);
}

void matmul_packed_simd(const Call& call) { multiply(call, matmul_sizes(call), 1); }

void matmul_packed_simd_parallel(const Call& call) {
    const MatmulSizes sizes = matmul_sizes(call);
    const double serial_ns = static_cast<double>(sizes.batch) * product_ns(sizes);
    multiply(call, sizes, std::min(call.threads, worthwhile_threads(serial_ns)));
}

}  // namespace ablation

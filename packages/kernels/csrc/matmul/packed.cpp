// matmul_packed_simd: own product, no library. b lies in panels as wide as the register tile
// (packed.h), so that the inner loop reads it in order; a is read where it lies, or from a copy of
// a block of rows where its stride would let the rows of a tile evict one another from the
// first-level cache. A program packs a constant b once when it is built; any other b is packed into
// scratch in every call.
//
// matmul_packed_simd_parallel: blocks of rows x panels, claimed by the threads one by one.
//
// Blocking: ranges of k of about 512, and up to 768 where that saves one (longer ones are no
// faster, and their sums, added up one by one, less exact), rows of a such that their range takes a
// quarter of the second-level cache, and columns such that the block of c, which every range of k
// reads and writes, takes all of it. b may come from anywhere: a block of 128 rows reads it at a
// rate that memory gives easily, and asks for each panel while it computes the one before. Further
// cuts of the columns share out what has too few blocks, or blocks that do not divide among the
// threads.
//
// Cost: 2 M N K FLOPs; packing reads and writes K N elements, copying a reads and writes M K
// elements once per cut of the columns. Paper: Goto and van de Geijn, Anatomy of High-Performance
// Matrix Multiplication (2008).
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <tuple>

#include "core/cache_sizes.h"
#include "core/parallel.h"
#include "core/table.h"
#include "isa/simd.h"
#include "matmul/matmul.h"
#include "matmul/packed.h"

namespace ablation {

namespace {

const PackedProvider& packed_provider() { return *instruction_set().packed; }

constexpr std::int64_t kFloatBytes = sizeof(float);
constexpr std::int64_t kLineFloats = 16;
constexpr std::int64_t kDepth = 512;
// Work per block where a product is shared: enough that claiming one costs nothing, little enough
// that a thread that was held up leaves work to the others.
constexpr double kBlockNs = 20000.0;
// Blocks per thread that are enough to balance; every cut of the columns copies a once more, which
// costs 1 % at 1024 columns a block and 4 % at 256.
constexpr std::int64_t kBlocksPerThread = 2;

/// Nanoseconds of a product on one core at the speed of the multiply-adds that were measured.
double product_ns(double m, double n, double k) {
    static const double flops_per_ns = multiply_add_flops_per_ns(instruction_set().name());
    return 2.0 * m * n * k / std::max(flops_per_ns, 1.0);
}

/// Whether the rows of a register tile, this many floats apart, share too few sets of the cache.
bool rows_collide(std::int64_t stride) {
    const CacheSizes& caches = cache_sizes();
    const std::int64_t sets = caches.l1 / caches.l1_ways / (kLineFloats * kFloatBytes);
    const std::int64_t lines = std::max<std::int64_t>(stride / kLineFloats, 1);
    const std::int64_t apart = sets / std::gcd(sets, lines);
    return divide_up(packed_provider().rows, apart) > caches.l1_ways / 2;
}

struct Blocking {
    std::int64_t depth;    ///< of a range of k
    std::int64_t rows;     ///< of a block
    std::int64_t columns;  ///< of a block, a multiple of a panel
    bool copies_a;
    /// Floats from one row of the copy to the next: an odd number of cache lines.
    std::int64_t copy_stride() const { return round_up(depth, 2 * kLineFloats) + kLineFloats; }
    std::int64_t copy_bytes() const {
        return copies_a ? align_up(rows * copy_stride() * kFloatBytes) : 0;
    }
};

/// The part near `wanted` that cuts `size` into even parts, rounded up to whole `grain`s.
std::int64_t even_part(std::int64_t size, std::int64_t wanted, std::int64_t grain) {
    const std::int64_t parts = divide_up(size, std::max(wanted, grain));
    return std::min(size, round_up(divide_up(size, parts), grain));
}

Blocking choose_blocking(const MatmulSizes& sizes, int threads) {
    const CacheSizes& caches = cache_sizes();
    const PackedProvider& provider = packed_provider();
    Blocking blocking;
    const std::int64_t ranges = std::max<std::int64_t>(divide_up(sizes.k - kDepth / 2, kDepth), 1);
    blocking.depth = std::min(sizes.k, round_up(divide_up(sizes.k, ranges), kLineFloats));
    blocking.copies_a = rows_collide(sizes.k) && sizes.m > 1;
    // Not rounded to whole tiles: blocks of equal height take equal time, and tiles adapt
    const std::int64_t rows = caches.l2 / 4 / kFloatBytes / blocking.depth;
    blocking.rows = even_part(sizes.m, std::max<std::int64_t>(rows, provider.rows), 1);

    const std::int64_t panels = divide_up(sizes.n, provider.columns);
    const double whole_ns = product_ns(static_cast<double>(sizes.m), static_cast<double>(sizes.n),
                                       static_cast<double>(sizes.k));
    std::int64_t group = panels;
    if (blocking.depth < sizes.k) {
        const std::int64_t columns = caches.l2 / kFloatBytes / blocking.rows;
        group = std::clamp<std::int64_t>(columns / provider.columns, 1, panels);
    }
    if (threads > 1) {
        const auto wanted = static_cast<std::int64_t>(whole_ns / kBlockNs);
        const std::int64_t blocks = std::clamp<std::int64_t>(wanted, 1, kBlocksPerThread) * threads;
        const std::int64_t row_blocks = divide_up(sizes.m, blocking.rows);
        const std::int64_t cuts = std::max(divide_up(panels, group), divide_up(blocks, row_blocks));
        // As many blocks for each thread, so that none of them waits for the others at the end
        const std::int64_t even = round_up(cuts, threads / std::gcd(row_blocks, threads));
        group = divide_up(panels, wanted > 0 ? even : cuts);
        if (divide_up(panels, group) * row_blocks < threads) {
            const std::int64_t row_cuts = divide_up(threads, divide_up(panels, group));
            blocking.rows = even_part(sizes.m, divide_up(sizes.m, row_cuts), 1);
        }
    }
    blocking.columns = even_part(panels, group, 1) * provider.columns;
    return blocking;
}

/// One product of the batch, with b packed.
struct Product {
    const Call& call;
    MatmulSizes sizes;
    Blocking blocking;
    std::int64_t item;
    const float* packed;
};

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
    block.c = product.call.output.data + offset;
    block.c_stride = sizes.n;
    block.previous = addend.present ? addend.data + offset : nullptr;
    block.alpha = attributes.alpha;
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
            block.bias = bias.present ? bias.data + column : nullptr;
            block.activation = attributes.activation;
        }
        packed_provider().multiply(block);
        block.previous = block.c;
    }
}

void multiply_product(const Product& product, int threads, std::byte* scratch) {
    const std::int64_t row_blocks = divide_up(product.sizes.m, product.blocking.rows);
    const std::int64_t column_blocks = divide_up(product.sizes.n, product.blocking.columns);
    const std::int64_t copy_bytes = product.blocking.copy_bytes();
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
        if (!transposed) {
            for (std::int64_t k = 0; k < sizes.k; ++k) {
                std::memcpy(to + k * width, b + k * sizes.n + column,
                            static_cast<std::size_t>(columns * kFloatBytes));
            }
            continue;
        }
        // A cache line of each column at a time.
        for (std::int64_t first = 0; first < sizes.k; first += kLineFloats) {
            const std::int64_t last = std::min(sizes.k, first + kLineFloats);
            for (std::int64_t j = 0; j < columns; ++j) {
                const float* from = b + (column + j) * sizes.k;
                for (std::int64_t k = first; k < last; ++k) to[k * width + j] = from[k];
            }
        }
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
    const std::int64_t worker_bytes = packed_bytes + blocking.copy_bytes();
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
    const std::int64_t copies = threads * choose_blocking(sizes, 1).copy_bytes();
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
    const double serial_ns = static_cast<double>(sizes.batch) *
                             product_ns(static_cast<double>(sizes.m), static_cast<double>(sizes.n),
                                        static_cast<double>(sizes.k));
    multiply(call, sizes, std::min(call.threads, worthwhile_threads(serial_ns)));
}

}  // namespace ablation

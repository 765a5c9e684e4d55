// matmul_strassen_simd: one level of Strassen's scheme over the packed product (packed_body.h): 7
// products of blocks of half the rows, columns and depth, where the packed kernel does the work of
// 8. Other arithmetic: a sum of blocks is rounded before it is multiplied, so the error is bounded
// by the largest elements of a and b, not element by element. No choice of kernel takes it; it has
// to be named.
//
// matmul_strassen_twice_simd: the same for each of the 7 products: 49 of a quarter of the sizes.
//
// No sum costs a pass of its own. Sums of a are made where the packed kernel copies a block of rows;
// sums of b are what is packed, once for a constant b; a product is added to each block of the
// output that it enters while it is in registers (12 writes of a quarter of the output for each
// range of k, where the packed kernel has 4), with addend, bias and activation in the first and last
// of them. Strassen's own form, not Winograd's: without whole sums to share, Winograd's has 14 such
// writes and sums of up to four blocks, and its bound is the larger. No gain: to ask for the rows of
// the next sum of a, or for the third and fourth block of the output, while a product is computed.
//
// Sizes that do not divide: the last block is smaller, and what it lacks counts as 0. What no block
// of the output takes is not computed. Any shape is computed this way; it pays where M, N and K are
// all large (see `python -m ablation_kernels strassen`).
//
// Error, for n x n matrices, u = 2^-24: |C - C'| <= (3 n^2 + 25 n) u max|A| max|B| + O(u^2), twice
// (9 n^2 + 175 n) u max|A| max|B|, where a sum in order has n^2 u (Higham, Accuracy and Stability of
// Numerical Algorithms, 2nd edition, 23.2.2: ((n / n0)^log2(12) (n0^2 + 5 n0) - 5 n) u, n0 being the
// size of a block). Random signs make it some sqrt(n) smaller.
//
// Values: NaN and infinity reach further than in the other kernels: for one in row i of a, the rows
// of the output at the same place in each block, ceil(M / 2) apart (twice: ceil(M / 4)); likewise
// columns for b. Where another kernel gives one, this gives NaN or infinity, not always the same.
// Sums of elements above half (twice: a quarter of) the largest float32 overflow.
//
// Cost: 7/4 M N K FLOPs (twice 49/32); sums of a read 3 M K elements and write 7/4 M K (9 and 49/16)
// once per cut of the columns; packed b is 7/4 K N (49/16). Papers: Strassen, Gaussian Elimination
// Is Not Optimal (1969); Huang, Smith, Henry and van de Geijn, Strassen's Algorithm Reloaded (2016),
// whose sums are made while packing as well.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "core/parallel.h"
#include "core/table.h"
#include "isa/simd.h"
#include "matmul/blocking.h"
#include "matmul/matmul.h"
#include "matmul/packed.h"
#include "matmul/panel.h"
#include "matmul/strassen_scheme.h"

namespace ablation {

namespace {

using strassen::kMaxTerms;
using strassen::kScheme;
using strassen::kSide;
using strassen::Product;
using strassen::Term;
using strassen::Terms;

/// Elements of an axis of `size` from `first` in its block `index` on, up to `wanted`.
std::int64_t present(std::int64_t size, std::int64_t part, std::int64_t index, std::int64_t first,
                     std::int64_t wanted) {
    return std::clamp<std::int64_t>(size - index * part - first, 0, wanted);
}

/// Twice that of the packed kernel, for there are more writes of the output: 1 % (one level) and 4 %
/// (two) faster at 512 x 2048 x 4096.
constexpr std::int64_t kDepth = 1024;
/// Rows of a that are asked for before they are summed.
constexpr std::int64_t kRowsAhead = 2;

template <int levels>
class Strassen {
  public:
    Strassen(const Call& call, int threads) : call_(call), whole_(matmul_sizes(call)) {
        constexpr std::int64_t kCut = kSide<levels>;
        part_.m = divide_up(whole_.m, kCut);
        part_.n = round_up(divide_up(whole_.n, kCut), packed_provider().columns);
        part_.k = divide_up(whole_.k, kCut);
        blocking_ = choose_blocking(part_, threads, kDepth);
    }

    std::int64_t packed_bytes() const {
        return static_cast<std::int64_t>(kScheme<levels>.size()) * product_floats() * kFloatBytes;
    }
    std::int64_t sum_bytes() const { return blocking_.copy_bytes(); }

    /// b of one product of the batch: for each product of the scheme its sum of blocks, in panels.
    void pack(std::int64_t item, int threads, float* packed) const {
        const std::int64_t panels = part_.n / packed_provider().columns;
        const auto products = static_cast<std::int64_t>(kScheme<levels>.size());
        parallel_ranges(products * panels, 1, threads,
                        [&](std::int64_t begin, std::int64_t end, int) {
                            for (std::int64_t index = begin; index < end; ++index) {
                                pack_panel(item, index / panels, index % panels, packed);
                            }
                        });
    }

    void multiply(std::int64_t item, int threads, const float* packed, std::byte* scratch) const {
        const std::int64_t row_blocks = divide_up(part_.m, blocking_.rows);
        const std::int64_t column_blocks = divide_up(part_.n, blocking_.columns);
        parallel_items(row_blocks * column_blocks, threads, [&](std::int64_t index, int worker) {
            multiply_block(item, index % row_blocks * blocking_.rows,
                           index / row_blocks * blocking_.columns, packed,
                           reinterpret_cast<float*>(scratch + worker * sum_bytes()));
        });
    }

  private:
    std::int64_t product_floats() const { return part_.n * part_.k; }

    void pack_panel(std::int64_t item, std::int64_t index, std::int64_t panel,
                    float* packed) const {
        const std::int64_t width = packed_provider().columns;
        const bool transposed = call_.attributes.transpose_b;
        const std::int64_t stride = transposed ? whole_.k : whole_.n;
        const float* b = call_.inputs[1].data + item * whole_.k * whole_.n;
        float* to = packed + index * product_floats() + panel * width * part_.k;
        std::fill_n(to, width * part_.k, 0.0F);
        for (const Term& term : kScheme<levels>[static_cast<std::size_t>(index)].b) {
            const std::int64_t block_k = term.block / kSide<levels>;
            const std::int64_t block_n = term.block % kSide<levels>;
            const std::int64_t k = block_k * part_.k;
            const std::int64_t n = block_n * part_.n + panel * width;
            const PanelSource source{b + (transposed ? n * stride + k : k * stride + n), transposed,
                                     stride,
                                     present(whole_.n, part_.n, block_n, panel * width, width),
                                     present(whole_.k, part_.k, block_k, 0, part_.k)};
            const auto sign = static_cast<float>(term.sign);
            fill_panel(source, width, to,
                       [sign](float& element, float given) { element += sign * given; });
        }
    }

    /// Row `row` of a block of a at [k, k + depth): where it lies, and how much of it there is.
    struct Row {
        const float* data;
        std::int64_t count;
    };
    Row row_of(std::int64_t item, const Term& term, std::int64_t row, std::int64_t k,
               std::int64_t depth) const {
        const std::int64_t block_k = term.block % kSide<levels>;
        const std::int64_t at = term.block / kSide<levels> * part_.m + row;
        if (at >= whole_.m) return {nullptr, 0};
        return {call_.inputs[0].data + (item * whole_.m + at) * whole_.k + block_k * part_.k + k,
                present(whole_.k, part_.k, block_k, k, depth)};
    }

    /// Rows are too short, and too far apart, for the prefetcher of the hardware.
    static void ask_for(const Row& row) {
        for (std::int64_t i = 0; i < row.count; i += kLineFloats) {
            __builtin_prefetch(row.data + i);
        }
    }

    /// to = the sum of rows of `depth` elements, the first sign being 1.
    void sum_whole(const Terms& terms, const std::array<Row, kMaxTerms>& rows, std::int64_t depth,
                   float* to) const {
        if (terms.count == 1) {
            std::memcpy(to, rows[0].data, static_cast<std::size_t>(depth * kFloatBytes));
            return;
        }
        const float* sum = rows[0].data;
        for (int i = 1; i < terms.count; ++i) {
            const auto combine = terms[i].sign > 0 ? simd().add : simd().sub;
            combine(to, sum, 1, rows[static_cast<std::size_t>(i)].data, 1, depth);
            sum = to;
        }
    }

    /// Rows [row, row + rows) of a sum of blocks of a at [k, k + depth).
    void sum_rows(std::int64_t item, const Terms& terms, std::int64_t row, std::int64_t rows,
                  std::int64_t k, std::int64_t depth, float* sums) const {
        for (std::int64_t i = 0; i < rows; ++i) {
            float* to = sums + i * blocking_.copy_stride();
            std::array<Row, kMaxTerms> given{};
            bool is_whole = true;
            for (int term = 0; term < terms.count; ++term) {
                const Row found = row_of(item, terms[term], row + i, k, depth);
                given[static_cast<std::size_t>(term)] = found;
                ask_for(row_of(item, terms[term], row + i + kRowsAhead, k, depth));
                is_whole = is_whole && found.count == depth;
            }
            if (is_whole) {
                sum_whole(terms, given, depth, to);
                continue;
            }
            std::fill_n(to, depth, 0.0F);
            for (int term = 0; term < terms.count; ++term) {
                const auto [data, count] = given[static_cast<std::size_t>(term)];
                const auto combine = terms[term].sign > 0 ? simd().add : simd().sub;
                if (count > 0) combine(to, to, 1, data, 1, count);
            }
        }
    }

    const float* panel_of(const float* packed, std::size_t index, std::int64_t column,
                          std::int64_t k) const {
        return packed + static_cast<std::int64_t>(index) * product_floats() + column * part_.k +
               k * packed_provider().columns;
    }

    /// All ranges of k of all products, for a block of rows x panels: what it adds to the output
    /// stays near while it is added to.
    void multiply_block(std::int64_t item, std::int64_t row, std::int64_t column,
                        const float* packed, float* sums) const {
        std::array<PackedTarget, kMaxTerms> targets;
        PackedBlock block{};
        block.a = sums;
        block.a_stride = blocking_.copy_stride();
        block.panel_stride = part_.k * packed_provider().columns;
        block.c_stride = whole_.n;
        for (std::int64_t k = 0; k < part_.k; k += blocking_.depth) {
            block.depth = std::min(blocking_.depth, part_.k - k);
            for (std::size_t index = 0; index < kScheme<levels>.size(); ++index) {
                const Product& product = kScheme<levels>[index];
                block.rows = block.columns = 0;
                for (int i = 0; i < product.c.count; ++i) {
                    PackedTarget& target = targets[static_cast<std::size_t>(i)];
                    target = make_target(item, product.c[i], row, column, k, block.depth);
                    if (target.rows == 0 || target.columns == 0) continue;
                    block.rows = std::max(block.rows, target.rows);
                    block.columns = std::max(block.columns, target.columns);
                }
                if (block.rows == 0) continue;
                block.targets = {targets.data(), static_cast<std::size_t>(product.c.count)};
                block.b = panel_of(packed, index, column, k);
                const bool is_last = index + 1 == kScheme<levels>.size();
                const std::int64_t next_k = is_last ? k + block.depth : k;
                block.next_b = panel_of(packed, is_last ? 0 : index + 1, column, next_k);
                if (next_k == part_.k) block.next_b = nullptr;
                sum_rows(item, product.a, row, block.rows, k, block.depth, sums);
                packed_provider().multiply(block);
            }
        }
    }

    PackedTarget make_target(std::int64_t item, const Term& term, std::int64_t row,
                             std::int64_t column, std::int64_t k, std::int64_t depth) const {
        const auto& attributes = call_.attributes;
        const auto [a, b, bias, addend] = matmul_inputs(call_);
        const std::int64_t block_m = term.block / kSide<levels>;
        const std::int64_t block_n = term.block % kSide<levels>;
        const std::int64_t n = block_n * part_.n + column;
        const std::int64_t offset = (item * whole_.m + block_m * part_.m + row) * whole_.n + n;
        PackedTarget target{};
        target.rows =
            present(whole_.m, part_.m, block_m, row, std::min(blocking_.rows, part_.m - row));
        target.columns = present(whole_.n, part_.n, block_n, column,
                                 std::min(blocking_.columns, part_.n - column));
        target.c = call_.output.data + offset;
        target.alpha = static_cast<float>(term.sign) * attributes.alpha;
        if (k > 0 || !term.is_first) {
            target.previous = target.c;
        } else if (addend.present) {
            target.previous = addend.data + offset;
        }
        if (term.is_last && k + depth == part_.k) {
            target.bias = bias.present ? bias.data + n : nullptr;
            target.activation = attributes.activation;
        }
        return target;
    }

    const Call& call_;
    MatmulSizes whole_;
    MatmulSizes part_;  ///< of one block, the largest
    Blocking blocking_;
};

template <int levels>
void multiply(const Call& call, int threads) {
    const Strassen<levels> product(call, threads);
    std::byte* scratch = call.scratch;
    float* own = nullptr;
    if (call.packed == nullptr) {
        own = reinterpret_cast<float*>(scratch);
        scratch += align_up(product.packed_bytes());
    }
    const std::int64_t items = matmul_sizes(call).batch;
    for (std::int64_t item = 0; item < items; ++item) {
        if (own != nullptr) product.pack(item, threads, own);
        product.multiply(item, threads, own != nullptr ? own : call.packed, scratch);
    }
}

template <int levels>
void multiply_parallel(const Call& call) {
    const MatmulSizes sizes = matmul_sizes(call);
    const double serial_ns = static_cast<double>(sizes.batch) * product_ns(sizes);
    multiply<levels>(call, std::min(call.threads, worthwhile_threads(serial_ns)));
}

/// Room for a sum of a for each worker, and for b where it is not packed already.
template <int levels>
std::int64_t scratch_for(const Call& call, int threads) {
    const Strassen<levels> product(call, 1);
    const std::int64_t sums = threads * product.sum_bytes();
    return has_packed_b(call) ? sums : sums + align_up(product.packed_bytes());
}

}  // namespace

std::int64_t strassen_b_bytes(const Call& call) {
    return has_packed_b(call) ? Strassen<1>(call, 1).packed_bytes() : 0;
}
void pack_strassen_b(const Call& call, float* packed) {
    Strassen<1>(call, 1).pack(0, num_threads(), packed);
}
std::int64_t matmul_strassen_scratch(const Call& call, int) { return scratch_for<1>(call, 1); }
std::int64_t matmul_strassen_parallel_scratch(const Call& call, int threads) {
    return scratch_for<1>(call, threads);
}
void matmul_strassen_simd(const Call& call) { multiply<1>(call, 1); }
void matmul_strassen_simd_parallel(const Call& call) { multiply_parallel<1>(call); }

std::int64_t strassen_twice_b_bytes(const Call& call) {
    return has_packed_b(call) ? Strassen<2>(call, 1).packed_bytes() : 0;
}
void pack_strassen_twice_b(const Call& call, float* packed) {
    Strassen<2>(call, 1).pack(0, num_threads(), packed);
}
std::int64_t matmul_strassen_twice_scratch(const Call& call, int) {
    return scratch_for<2>(call, 1);
}
std::int64_t matmul_strassen_twice_parallel_scratch(const Call& call, int threads) {
    return scratch_for<2>(call, threads);
}
void matmul_strassen_twice_simd(const Call& call) { multiply<2>(call, 1); }
void matmul_strassen_twice_simd_parallel(const Call& call) { multiply_parallel<2>(call); }

}  // namespace ablation

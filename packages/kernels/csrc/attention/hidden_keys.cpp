#include "attention/hidden_keys.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "isa/simd.h"

namespace ablation {

namespace {

double sum_of_squares(const TensorView& x) {
    const float* data = x.data;
    return static_cast<double>(simd().sum_squared_difference(data, 0.0F, x.shape.count()));
}

/// Whether |q k| and |scale q k| stay below 1e30 for every query and key, by Cauchy and Schwarz on
/// the norms of the whole arrays. False for NaN.
bool has_moderate_scores(const Call& call) {
    constexpr double kLargest = 1e30;
    const TensorView &q = call.inputs[0], &k = call.inputs[1];
    const double scale = std::max(1.0, std::abs(static_cast<double>(attention_scale(call))));
    const double squares = sum_of_squares(q);
    const double product = squares * (k.present ? sum_of_squares(k) : squares);
    return product * scale * scale < kLargest * kLargest;
}

/// Whether all of v is finite, by the sum of its squares.
bool has_finite_values(const Call& call) {
    return std::isfinite(sum_of_squares(call.inputs[call.inputs[2].present ? 2 : 0]));
}

/// Whether the mask hides a tile that is worth a look at the other arrays.
bool hides_a_tile(const MaskView& mask, const AttentionSizes& sizes) {
    constexpr std::int64_t kRows = 16, kKeys = 32;
    const std::int64_t rows = mask.query_stride == 0 ? 1 : sizes.sq;
    const std::int64_t items = mask.head_stride == 0 && mask.batch_stride == 0 ? 1 : sizes.items();
    for (std::int64_t item = 0; item < items; ++item) {
        for (std::int64_t row = 0; row < rows; row += kRows) {
            for (std::int64_t key = 0; key + kKeys <= sizes.sk; key += kKeys) {
                const std::int64_t n = std::min(kRows, rows - row);
                if (mask.hides(item, sizes.heads, row, n, key, kKeys)) return true;
            }
        }
    }
    return false;
}

/// Of one (batch, head) item.
void add_hidden_values(const ItemRows& rows, const AttentionSizes& sizes, std::int64_t window) {
    if (sizes.sk <= sizes.sq && window == 0) {
        // The last query sees every key: what its weights leave finite was finite.
        const float* last = rows.output + (sizes.sq - 1) * rows.output_stride;
        if (std::all_of(last, last + sizes.dv, [](float x) { return std::isfinite(x); })) return;
    }
    constexpr std::int64_t kColumns = 16;
    for (std::int64_t first = 0; first < sizes.dv; first += kColumns) {
        const std::int64_t columns = std::min(kColumns, sizes.dv - first);
        const auto add = [&](float* hidden, std::int64_t key) {
            const float* v = rows.v + key * rows.v_stride + first;
            for (std::int64_t i = 0; i < columns; ++i) hidden[i] += 0.0F * v[i];
        };
        const auto reach = [&](const float* hidden, std::int64_t query) {
            float* output = rows.output + query * rows.output_stride + first;
            for (std::int64_t i = 0; i < columns; ++i) output[i] += hidden[i];
        };
        float behind[kColumns] = {};
        for (std::int64_t key = sizes.sk - 1; key > 0; --key) {
            add(behind, key);
            if (key <= sizes.sq) reach(behind, key - 1);
        }
        if (window == 0) continue;
        float before[kColumns] = {};
        for (std::int64_t query = window; query < sizes.sq; ++query) {
            if (query - window < sizes.sk) add(before, query - window);
            reach(before, query);
        }
    }
}

}  // namespace

Call without_hidden_keys(const Call& call) {
    Call seen = call;
    auto& attributes = seen.attributes;
    const bool is_causal = attributes.mask_is_causal && call.inputs[3].present;
    attributes.mask_is_causal = false;
    // A row that the mask hides as a whole is the mean of the values where its fill is finite.
    const AttentionSizes sizes = attention_sizes(call);
    const bool all_see =
        attributes.causal || attributes.window == 0 || sizes.sq - sizes.sk < attributes.window;
    if (!is_causal || !all_see || !has_moderate_scores(call)) return seen;
    attributes.causal = true;
    attributes.mask_replaces = false;
    seen.inputs[3] = TensorView{};
    return seen;
}

bool may_skip_hidden_tiles(const Call& call, const AttentionSizes& sizes, const MaskView& mask) {
    const auto& attributes = call.attributes;
    // Fewer queries than that take about as long as the look at k or v.
    constexpr std::int64_t kLeastQueries = 8;
    const bool looks = !attributes.mask_replaces || attributes.strict;
    if (looks && sizes.sq < kLeastQueries) return false;
    if (mask.data == nullptr || !hides_a_tile(mask, sizes)) return false;
    // -infinity plus NaN or infinity would be NaN.
    if (!attributes.mask_replaces && !has_moderate_scores(call)) return false;
    return !attributes.strict || has_finite_values(call);
}

void add_hidden_values(const Call& call) {
    const auto& attributes = call.attributes;
    if (!attributes.causal || !attributes.strict) return;
    const std::int64_t window = attributes.window;
    if (window > 0 && has_finite_values(call)) return;
    const AttentionSizes sizes = attention_sizes(call);
    for (std::int64_t item = 0; item < sizes.items(); ++item) {
        add_hidden_values(item_rows(call, sizes, item), sizes, window);
    }
}

}  // namespace ablation

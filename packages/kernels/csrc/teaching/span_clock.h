// Where the time of a call goes: the self times of the spans of an algorithm.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/clock.h"

namespace ablation::teaching {

/// other: what a range has beside the spans that its form names, allocation of scratch included.
enum class Span : std::uint8_t { qk, softmax, pv, rescale, copy, other };
inline constexpr std::array kSpanNames = {"qk", "softmax", "pv", "rescale", "copy", "other"};

struct SpanTimes {
    std::array<std::int64_t, kSpanNames.size()> time_ns{}, count{};
    /// Sum of the ranges. The spans' times sum to it exactly: each begins where the one before
    /// ended.
    std::int64_t total_ns = 0;

    void operator+=(const SpanTimes& more) {
        for (std::size_t span = 0; span < kSpanNames.size(); ++span) {
            time_ns[span] += more.time_ns[span];
            count[span] += more.count[span];
        }
        total_ns += more.total_ns;
    }
};

/// The clock of one worker. One that is off reads no clock.
class alignas(64) SpanClock {
  public:
    explicit SpanClock(bool is_on) : is_on_(is_on) {}

    void begin_range() {
        if (is_on_) begin_ = last_ = clock_ns();
    }

    /// Ends a span, which began at the end of the one before or of begin_range().
    void end_span(Span span) {
        if (!is_on_) return;
        const std::int64_t now = clock_ns();
        times_.time_ns[static_cast<std::size_t>(span)] += now - last_;
        ++times_.count[static_cast<std::size_t>(span)];
        last_ = now;
    }

    void end_range() {
        if (!is_on_) return;
        end_span(Span::other);
        times_.total_ns += last_ - begin_;
    }

    const SpanTimes& times() const { return times_; }

  private:
    bool is_on_;
    std::int64_t begin_ = 0, last_ = 0;
    SpanTimes times_;
};

}  // namespace ablation::teaching

"""The terminal's tables from made-up rows."""

from __future__ import annotations

from typing import Any

import pytest

from ablation_executor.bench.record import PARTS, SCHEMA
from ablation_executor.bench.run_reading import Row
from ablation_executor.bench.table import WIDTH, ConfigRows, print_time, run_lines
from ablation_executor.variants import BY_NAME

PAIR = ("attention-fused-parallel", "layernorm-parallel")


def row(name: str, time_ns: int, **changes: Any) -> Row:
    """An ok row of Toy whose ten rounds are within a thousandth of `time_ns`."""
    variant = BY_NAME[name]
    samples = [time_ns + index * time_ns // 10_000 for index in range(10)]
    part = time_ns // 6
    known = {
        "config": "Toy",
        "d_model": 64,
        "n_heads": 4,
        "seq_len": 32,
        "flops": 3_407_872,
        "threads": 2,
        "session": 1,
        "status": "ok",
        "variant": name,
        "printed_name": variant.printed_name,
        "group": variant.group,
        "runtime": variant.runtime,
        "executor": variant.executor,
        "samples_ns": samples,
        "sample_rounds": list(range(10)),
        "profile_total_ns": [6 * part] * 3,
        **{f"profile_{name}_ns": [part] * 3 for name in PARTS},
    }
    return {**SCHEMA.blank_row(), **known, **changes}


def text_of(rows: list[Row]) -> str:
    return "\n".join(line.plain for line in run_lines(rows))


def line_of(rows: list[Row], start: str) -> list[str]:
    (line,) = [line for line in text_of(rows).splitlines() if line.strip().startswith(start)]
    return line.split()


def test_columns() -> None:
    rows = [row("torch-naive", 200_000), row("passes-none", 60_000)]
    times = "60.03 µs 10.00 µs 10.00 µs 40.00 µs"
    shares = "17% 17% 0.30x~ 0.0% 100%"  # no pair, no floor: nothing is resolved
    assert " ".join(line_of(rows, "No passes")) == f"No passes {times} {shares}"


def test_summary_takes_the_best_compiled_and_says_faster_beyond_the_floor() -> None:
    rows = [
        row("torch-naive", 200_000),
        row("torch-sdpa", 100_000),
        row("percall-native", 10_000),
        row(PAIR[0], 50_000),
        row(PAIR[1], 51_000),
    ]
    summary = next(line for line in text_of(rows).splitlines() if line.startswith("Toy     "))
    assert "Attn: fused parallel" in summary
    assert summary.split()[-4:] == ["0.25x", "0.50x", "faster", "2.0%"]


def other_line(rows: list[Row]) -> str:
    """Toy's line of the summary's second half."""
    return [line for line in text_of(rows).splitlines() if line.startswith("Toy     ")][-1]


def test_the_best_other_is_the_fastest_that_is_not_ours() -> None:
    ours = [row(PAIR[0], 50_000), row(PAIR[1], 51_000), row("percall-native", 10_000)]
    torch = [row("torch-naive", 200_000), row("torch-sdpa", 100_000)]
    null = {f"profile_{part}_ns": None for part in ("total", *PARTS)}
    league = [row("openvino", 40_000, **null), row("jax", 80_000, **null)]
    told = "Toy       Attn: fused parallel   50.02 µs"
    assert (
        other_line(ours + torch + league)
        == f"{told}  OpenVINO               40.02 µs{'1.25x':>18} "
    )
    assert other_line(ours + torch).split()[-4:] == ["SDPA", "100.0", "µs", "0.50x"]
    assert other_line(ours).split()[-3:] == ["-", "-", "-"]
    assert other_line(league).split()[1:3] == ["-", "-"]
    # Nothing resolves a difference without the floor of a pair
    assert other_line([ours[0], league[0]]).endswith("1.25x~")


def test_a_row_without_a_breakdown_prints_dashes() -> None:
    null = {f"profile_{part}_ns": None for part in ("total", *PARTS)}
    rows = [row("torch-naive", 200_000), row("openvino", 60_000, **null)]
    assert line_of(rows, "OpenVINO") == ["OpenVINO", "60.03", "µs", *"-----", "0.30x~", "0.0%", "-"]


def test_nothing_is_said_within_the_floor() -> None:
    rows = [row("torch-sdpa", 100_000), row(PAIR[0], 98_000), row(PAIR[1], 103_000)]
    summary = next(line for line in text_of(rows).splitlines() if line.startswith("Toy     "))
    assert "not resolved" in summary


def test_floor_needs_both_of_a_pair_in_one_session() -> None:
    pair = [row(PAIR[0], 50_000), row(PAIR[1], 51_000)]
    assert ConfigRows("Toy", pair).floor() == pytest.approx(0.0196, abs=1e-3)
    assert ConfigRows("Toy", pair[:1]).floor() is None
    assert ConfigRows("Toy", [pair[0], {**pair[1], "session": 2}]).floor() is None


def test_a_cell_without_time_shows_status_and_reason() -> None:
    reason = "needs 20.00 GiB, 8.00 GiB available: " + "long " * 40
    rows = [row("passes-none", 1, status="oom", reason=reason, samples_ns=None)]
    text = text_of(rows)
    assert "No passes: oom: needs 20.00 GiB" in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "0.00" not in text.replace("20.00", "").replace("8.00", "")


def test_extreme_values_keep_the_columns() -> None:
    times = [10**4, 10**11] * 5
    rows = [row(name, 10**9, samples_ns=times) for name in BY_NAME]
    assert max(len(line) for line in text_of(rows).splitlines()) <= WIDTH


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (999, "999 ns"),
        (1_500, "1.50 µs"),
        (123_456, "123.5 µs"),
        (2e6, "2.00 ms"),
        (3e10, "30.00 s"),
    ],
)
def test_print_time(nanoseconds: float, text: str) -> None:
    assert print_time(nanoseconds) == text


def test_no_rows() -> None:
    assert run_lines([]) == []

"""The table at the end of a run."""

from __future__ import annotations

from ablation_executor.bench.suites.table import percentile, tables

from ..sound_files import failed_suite_row as failed_row
from ..sound_files import suite_row as ok_row


def cells(text: str) -> dict[str, list[str]]:
    """The cells of each line by its first."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {line[0]: line for line in split}


def rows() -> list[dict[str, object]]:
    base = ok_row(impl="base", samples_ns=[2_000_000] * 3, flops_useful=4_000_000)
    fast = ok_row(
        impl="fast",
        published_name="published",
        samples_ns=[900_000, 1_000_000, 1_100_000],
        flops_useful=4_000_000,
        mem_op_peak_bytes=3 << 20,
    )
    return [base, fast, failed_row(impl="large", phase="fwd")]


def test_lines_tell_times_ratios_and_reasons() -> None:
    found = cells(tables(rows(), "base"))
    assert found["base"][3:8] == ["2.000 ms", "2.000 ms", "2.000 ms", "2.0", "1.00x"]
    assert found["fast"][1:4] == ["published", "fwd", "1.000 ms"]
    assert found["fast"][6:] == ["4.0", "2.00x", "3.00 MiB", "1.0e-06", "ok"]
    assert found["large"][3:] == ["-"] * 7 + ["oom (predicted)"]


def test_what_is_left_out_changes_no_other_line() -> None:
    whole = cells(tables(rows(), "base"))
    for left_out in ("fast", "large"):
        kept = cells(tables([row for row in rows() if row["impl"] != left_out], "base"))
        del whole[next(name for name in whole if set(name) == {"-"})]
        dashes = next(name for name in kept if set(name) == {"-"})
        del kept[dashes]
        assert kept == {name: line for name, line in whole.items() if name != left_out}
        whole = cells(tables(rows(), "base"))


def test_percentiles_lie_between_neighbors() -> None:
    assert percentile([4, 1, 3, 2, 5], 0.5) == 3
    assert percentile([10, 20], 0.95) == 19.5
    assert percentile([7], 0.95) == 7

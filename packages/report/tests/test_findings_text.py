"""How findings are printed, and the crossover in attention alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from finding_rows import floor_of_flash, make, make_source
from test_attention import make_row, write_attention

from ablation_report.attention_rows import AttentionRun
from ablation_report.findings import FINDINGS, attention_crossover, findings_text
from ablation_report.findings.flash_crossover import crossover
from ablation_report.findings.judge import combine
from ablation_report.findings.text import rows_text
from ablation_report.findings.words import change, listed, times, two_digits
from ablation_report.metrics import Verdict
from ablation_report.schema import Problem
from ablation_report.sources import Gathered, gather


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (7.18, "7.2"),
        (15.34, "15"),
        (9.96, "10"),
        (0.9617, "0.96"),
        (0.0996, "0.10"),
        (123.4, "120"),
        (0.0, "0"),
    ],
)
def test_two_digits(value: float, written: str) -> None:
    assert two_digits(value) == written


@pytest.mark.parametrize(
    ("ratio", "written"),
    [(1.044, "+4.4%"), (0.876, "-12%"), (2.6, "+160%"), (0.5, "-50%"), (1.0004, "0.0%")],
)
def test_change(ratio: float, written: str) -> None:
    assert change(ratio) == written


@pytest.mark.parametrize(
    ("ratio", "written"), [(1.042, "1.04x"), (0.953, "0.95x"), (1.27, "1.3x"), (0.75, "0.75x")]
)
def test_times_near_1_have_a_digit_more(ratio: float, written: str) -> None:
    assert times(ratio) == written


def test_lists() -> None:
    assert [listed(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_parts_decide_a_whole() -> None:
    assert combine(["holds", "not resolved", "does not hold"]) == "does not hold"
    assert combine(["not resolved", "holds"]) == "not resolved"
    assert combine(["holds", "holds"]) == "holds"
    assert combine([]) == "not measured"


def test_rows_are_named_once_a_file() -> None:
    rows = [{"path": "data/runs/a/cells.jsonl", "line": n} for n in (9, 3, 5, 10, 11, 6, 3)]
    rows.append({"path": "b.csv", "line": 2})
    assert rows_text(rows) == "a/cells.jsonl:3,5,6,9-11, b.csv:2"


def two_sources() -> Gathered:
    """A run that resolves a gain of + MATMUL_ADD, and one without that variant."""
    cells = [make("passes-absorb", 1000), make("passes-matmul-add", 900), *floor_of_flash()]
    problem = Problem(Path("data/runs/broken"), None, None, "damaged")
    sources = (make_source(cells, "first"), make_source(cells[:1], "second"))
    return Gathered(sources, (), (), (problem,))


def test_text_has_a_line_for_each_source() -> None:
    text = findings_text(two_sources(), "text")
    assert "Not read: data/runs/broken: damaged" in text
    assert "first: Test CPU, 2 cores, 2 threads, 4 rows" in text
    for finding in FINDINGS:
        assert f"{finding.title}\n{'-' * len(finding.title)}\nClaim: {finding.claim}\n" in text
        assert finding.published is None or f"Published: {finding.published}\n" in text
    told = '"passes-matmul-add" against "passes-absorb": faster at Toy (-10%).'
    assert f"\nfirst: holds: {told}\n" in text
    missing = 'Toy ("+ MATMUL_ADD" not run)'
    assert f"\nsecond: not measured: {missing}." in text
    assert text.count("\nfirst: ") == len(FINDINGS)
    assert "cells.jsonl" not in text


def test_markdown_names_the_rows_and_has_the_tables() -> None:
    text = findings_text(two_sources(), "md")
    for finding in FINDINGS:
        assert f"\n\n## {finding.title}\n\nClaim: {finding.claim}\n\n" in text
    assert "- **first**: *holds*: " in text
    assert "faster at Toy (-10%). Rows: `first/cells.jsonl:1,2`.\n- **second**: *not measured*" in (
        text
    )
    assert "### Rungs: first" in text
    assert "| passes-matmul-add | passes-absorb | 0.90x |" in text


def lengths(
    times: dict[int, tuple[int | list[int], int]], heads: int = 2, threads: int = 1
) -> list[dict[str, Any]]:
    """Rows of flash and of fused kernels at each length, six rounds each."""
    rows = []
    for length, pair in times.items():
        for form, time_ns in zip(("flash", "fused"), pair, strict=True):
            samples = [time_ns] * 6 if isinstance(time_ns, int) else time_ns
            shape = {"Nq": length, "Nk": length, "H": heads, "threads": threads}
            rows.append(
                make_row("flash", samples, **shape)
                | {"impl": form, "form": form, "kernels": [form]}
            )
    return rows


def alone(rows: list[dict[str, Any]]) -> AttentionRun:
    return AttentionRun(Path("data/runs/alone"), {}, rows)


OPEN = [700, 1300] * 3


@pytest.mark.parametrize(
    ("rows", "verdict", "told"),
    [
        (
            lengths({100: (1200, 1000), 400: (800, 1000), 900: (700, 1000)}),
            "holds",
            "full, 2 heads, 1 thread: flash wins from seq_len 400 on "
            "(100 +20%, 400 -20%, 900 -30%)",
        ),
        (lengths({100: (800, 1000), 400: (1200, 1000)}), "does not hold", "no crossover"),
        (lengths({100: (800, 1000), 400: (OPEN, 1000)}), "not resolved", "is not resolved"),
        (
            lengths({100: (800, 1000)}) + lengths({100: (1000, 1000)}, threads=2),
            "does not hold",
            "2 threads: no crossover (100 0.0%)",
        ),
        (lengths({100: (800, 1000)})[:1], "not measured", "no case with both"),
    ],
)
def test_attention_alone(rows: list[dict[str, Any]], verdict: str, told: str) -> None:
    outcome = attention_crossover.evaluate(alone(rows))
    assert outcome.verdict == verdict
    assert told in outcome.sentence
    assert bool(outcome.rows) == (verdict != "not measured")


def test_attention_alone_takes_the_fastest_kernel_of_a_form() -> None:
    rows = lengths({100: (1200, 1000)})
    packed = make_row("flash", [500] * 6) | {"impl": "p", "form": "flash_packed", "kernels": ["p"]}
    torch = make_row("flash", [100] * 6) | {"impl": "torch", "kernels": []}
    outcome = attention_crossover.evaluate(alone([*rows, packed, torch]))
    assert "(100 -50%)" in outcome.sentence
    assert sorted(row["line"] for row in outcome.rows) == [2, 3]


def test_attention_alone_is_printed(tmp_path: Path) -> None:
    folder = write_attention(tmp_path / "alone", [make_row("flash", [800] * 6)])
    text = findings_text(gather(folder), "text")
    assert f"Claim: {attention_crossover.CLAIM}\n\nalone: not measured: " in text


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, "slower"), (2, "faster"), (3, "faster")], ("holds", 2)),
        ([(1, "faster"), (2, "not resolved"), (3, "faster")], ("holds", 3)),
        ([(1, "faster"), (2, "faster")], ("holds", 1)),
        ([(2, "faster"), (2, "not resolved"), (1, "faster")], ("not resolved", None)),
        ([(2, "faster"), (2, "same")], ("does not hold", None)),
        ([], ("not measured", None)),
    ],
)
def test_crossover(points: list[tuple[int, Verdict]], expected: tuple[str, int | None]) -> None:
    assert crossover(points) == expected

"""How findings are printed, and the crossover in attention alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from finding_rows import block_run, floor_of_flash, make
from samples import make_attention_row, make_run, write_run

from ablation_report import findings
from ablation_report.escaping import escape
from ablation_report.findings import FINDINGS, Finding, findings_text
from ablation_report.findings.attention_sweep.attention_crossover import FINDING as CROSSOVER
from ablation_report.findings.block.flash_crossover import crossover
from ablation_report.findings.judge import combine
from ablation_report.findings.text import rows_text
from ablation_report.findings.words import change, listed, times, two_digits
from ablation_report.load import Gathered, gather
from ablation_report.reading import Problem
from ablation_report.run import BLOCK, Run
from ablation_report.stats import Verdict


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
    rows = [{"path": "data/runs/a/rows.jsonl", "line": n} for n in (9, 3, 5, 10, 11, 6, 3)]
    rows.append({"path": "b.csv", "line": 2})
    assert rows_text(rows) == "a/rows.jsonl:3,5,6,9-11, b.csv:2"


def two_runs() -> Gathered:
    """A run that resolves a gain of + MATMUL_ADD, and one without that variant."""
    rows = [make("passes-absorb", 1000), make("passes-matmul-add", 900), *floor_of_flash()]
    problem = Problem(Path("data/runs/broken"), None, None, "damaged")
    return Gathered((block_run(rows, "first"), block_run(rows[:1], "second")), (problem,))


def test_text_has_a_line_for_each_run() -> None:
    text = findings_text(two_runs(), "text")
    of_block = [finding for finding in FINDINGS if finding.suite == BLOCK]
    assert "Not read: data/runs/broken: damaged" in text
    assert "first: block, Test CPU, 2 cores, 2 threads, 4 rows" in text
    for finding in of_block:
        assert f"{finding.claim}\n{'-' * len(finding.claim)}\n" in text
        assert finding.published is None or f"Published: {finding.published}\n" in text
    told = '"passes-matmul-add" against "passes-absorb": faster at Toy (-10%).'
    assert f"\nfirst: holds: {told}\n" in text
    missing = 'Toy ("passes-matmul-add" not run)'
    assert f"\nsecond: not measured: {missing}." in text
    assert text.count("\nfirst: ") == len(of_block)
    assert "rows.jsonl" not in text


def test_a_run_is_asked_for_the_findings_of_its_suite_alone() -> None:
    text = findings_text(Gathered((alone(lengths({100: (800, 1000)})),)), "text")
    claims = [f.claim for f in FINDINGS if f"{f.suite}: {f.claim}\n" in text]
    assert claims == [f.claim for f in FINDINGS if f.suite == "attention-sweep"]
    assert "What compile chooses" not in text


def test_markdown_names_the_rows_and_has_the_tables() -> None:
    text = findings_text(two_runs(), "md")
    for finding in (finding for finding in FINDINGS if finding.suite == BLOCK):
        assert f"\n\n## {escape(finding.claim)}\n\n" in text
    assert "- **first**: *holds*: " in text
    assert "faster at Toy (-10%). Rows: `first/rows.jsonl:1,2`.\n- **second**: *not measured*" in (
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
            rows.append(kernel(form, samples, length, heads, threads))
    return rows


def kernel(
    form: str, samples: list[int], length: int = 100, heads: int = 2, threads: int = 1
) -> dict[str, Any]:
    """A row of a kernel of ours in this form."""
    sizes = {"B": 1, "H": heads, "Nq": length, "Nk": length, "d": 64, "causal": False}
    known: dict[str, Any] = {"origin": "ablation", "factors": {"form": form}, "tier": "crossover"}
    return make_attention_row(form, samples, sizes=sizes, threads=threads, **known)


def alone(rows: list[dict[str, Any]], **changes: Any) -> Run:
    """A run of attention alone, of before suites had twins."""
    return make_run(rows, "alone", **({"twins": [], "assumed_floor": 0.05} | changes))


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
            "not resolved",
            "2 threads: a crossover is not resolved (100 0.0%)",
        ),
        (lengths({100: (800, 1000)})[:1], "not measured", "no case with both"),
    ],
)
def test_attention_alone(rows: list[dict[str, Any]], verdict: str, told: str) -> None:
    outcome = CROSSOVER.evaluate(alone(rows))
    assert outcome.verdict == verdict
    assert told in outcome.sentence
    assert bool(outcome.rows) == (verdict != "not measured")


def test_attention_alone_takes_the_fastest_kernel_of_a_form() -> None:
    rows = lengths({100: (1200, 1000)})
    packed = kernel("flash_packed", [500] * 6)
    torch = kernel("flash", [100] * 6) | {"variant": "torch-flash", "origin": "torch"}
    outcome = CROSSOVER.evaluate(alone([*rows, packed, torch]))
    assert "(100 -50%)" in outcome.sentence
    assert sorted(row["line"] for row in outcome.rows) == [2, 3]


def test_attention_alone_is_printed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "alone", [make_attention_row()])
    text = findings_text(gather(folder), "text")
    assert f"{'-' * len(CROSSOVER.claim)}\n\nalone: not measured: " in text


def test_a_floor_that_was_measured_is_named() -> None:
    twice = [kernel(name, [1000] * 6) for name in ("one", "two")]
    run = alone(
        lengths({100: (1200, 1000), 400: (800, 1000)}) + twice,
        twins=[["one", "two"]],
        assumed_floor=None,
    )
    sentence = CROSSOVER.evaluate(run).sentence
    assert "Assumed" not in sentence and "Largest floor 0%" in sentence


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


SHOWN = [finding for finding in FINDINGS if not finding.is_target]


@pytest.mark.parametrize("finding", SHOWN, ids=lambda finding: finding.key)
def test_a_claim_is_a_short_sentence_that_a_verdict_can_follow(finding: Finding) -> None:
    words = finding.claim.split()
    assert finding.claim.endswith(".") and len(words) <= 25
    # "Does not hold" after "at no config" has to be read twice
    assert not {"no", "not", "nowhere"} & set(words) or finding.claim.startswith("No ")


def test_a_finding_is_one_file_in_the_folder_of_its_suite() -> None:
    """The registry names every file that has a finding, each once, and the key is its name."""
    files = [
        f"{file.parent.name}.{file.stem}"
        for file in Path(findings.__file__).parent.glob("*/*.py")
        if "\nFINDING = Finding(" in file.read_text(encoding="utf-8")
    ]
    named = [f"{f.suite.replace('-', '_')}.{f.key}" for f in FINDINGS]
    assert sorted(files) == sorted(named)
    assert len({f.key for f in FINDINGS}) == len(FINDINGS)

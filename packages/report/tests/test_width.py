"""What the terminal shows at 80 columns: no line is longer, no number is broken."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from samples import make_noisy_samples, make_run, make_timed

from ablation_report.__main__ import main
from ablation_report.run import Run
from ablation_report.tables import Table, facts, run_tables, run_warning, times_note
from ablation_report.tables.noise import trusted

RUNS = Path(__file__).parents[3] / "data/runs"
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
SHOWN = (
    *("2026-11-20-zen4-small-a", "2026-11-30-zen4-attribution-quick", "2026-11-30-zen4-layers-4"),
    *("2026-11-20-zen4-attention", "2026-11-30-zen4-attention-sweep-quick"),
    *("2026-11-30-zen4-attention-backward-quick", "2026-11-30-zen4-attention-parts-quick"),
    *("2026-11-30-zen4-lm-step-quick", "2026-11-29-emerald-rapids-lm-step-parallel"),
    "2026-11-29-emerald-rapids-lm-step-warm-up",
)
COMPARED = (
    ("2026-11-20-zen4-small-a", "2026-11-20-zen4-small-b"),
    ("2026-11-25-zen4-attention-parts-quick", "2026-11-30-zen4-attention-parts-quick"),
)


Capture = pytest.CaptureFixture[str]


def printed(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture, columns: str
) -> list[str]:
    monkeypatch.setenv("COLUMNS", columns)
    main(words)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    "words",
    [
        *(["show", str(RUNS / name)] for name in SHOWN),
        *(["compare", "--force", *(str(RUNS / name) for name in pair)] for pair in COMPARED),
        ["evidence", str(RUNS / SHOWN[0])],
        ["findings", str(RUNS / "2026-11-30-zen4-ladder")],
        ["agree", *(str(RUNS / name) for name in COMPARED[0])],
    ],
    ids=lambda words: " ".join(Path(word).name for word in words),
)
def test_nothing_is_wider_than_the_terminal(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    wide = printed(words, monkeypatch, capsys, "1000")
    narrow = printed(words, monkeypatch, capsys, "80")
    assert len(narrow) >= 10 and max(map(len, narrow)) <= 80
    # Nor is a rule
    assert not [
        line for line in narrow if line[:1] == " " and line.strip() and not line.strip(" -")
    ]
    known = {number for line in wide for number in NUMBER.findall(line)} | {"80"}
    broken = {number for line in narrow for number in NUMBER.findall(line)} - known
    assert not broken


@pytest.mark.parametrize("command", ["", "show", "compare", "export", "findings", "counters"])
def test_help_fits(command: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([*([command] if command else []), "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_the_tables_of_modules_fit() -> None:
    sizes = {"model": "a_model_with_a_long_name", "B": 1, "layers": 12, "Nq": 512, "Nk": 512}
    known: dict[str, Any] = {"suite": "model", "tier": "layer", "sizes": sizes, "flops": None}
    ops = [
        {"name": f"{i}", "op": "matmul", "category": "linear", "kernel": None, "median_ns": 1000.0}
        for i in range(30)
    ]
    paths = {str(i): f"model.decoder.layers.{i}.attention.output_projection" for i in range(30)}
    details = {"module_paths": paths, "exported_calls": 1234}
    other: dict[str, Any] = {"origin": "torch", "worker": "torch", "factors": {}, "ops": None}
    rows = [
        make_timed("torch-eager", [1_234_000, 1_235_000] * 3, **known, **other, group="Baselines"),
        make_timed("openvino", [934_000, 935_000] * 3, **known, **other | {"origin": "openvino"}),
        make_timed(
            "default", [734_000, 735_000] * 3, **known, group="Ours", ops=ops, details=details
        ),
    ]
    tables = run_tables(make_run(rows))
    assert {"Time by module, our default", "SUMMARY: our default against the others"} <= {
        table.title for table in tables
    }
    for table in tables:
        lines = table.text(80).splitlines()
        assert max(map(len, lines)) <= 80
        numbers = {number for line in lines for number in NUMBER.findall(line)} - {"80"}
        assert numbers <= set(NUMBER.findall(table.text()))


HEADER = ("Variant", "Total", "Attn", "LN", "vs PT")
ROW = ["a variant", "1.25 ms", "10.0%", "1,234.5", "0.50x"]
TABLE = Table("Title", HEADER, [("", [ROW])], least=["LN", "Attn"])


@pytest.mark.parametrize(
    ("width", "kept"),
    [
        (None, ["Variant", "Total", "Attn", "LN", "vs PT"]),
        (41, ["Variant", "Total", "Attn", "LN", "vs PT"]),
        (40, ["Variant", "Total", "Attn", "vs PT"]),
        (32, ["Variant", "Total", "Attn", "vs PT"]),
        (31, ["Variant", "Total", "vs PT"]),
    ],
)
def test_columns_go_by_what_they_matter(width: int | None, kept: list[str]) -> None:
    lines = TABLE.text(width).splitlines()
    assert re.split(r"  +", lines[2]) == kept
    gone = [name for name in HEADER if name not in kept]
    told = " ".join(lines)
    assert (f"Left out at {width} columns: {', '.join(gone)}" in told) == bool(gone)


def test_columns_without_a_rank_go_on_below() -> None:
    cases = [f"case {i}" for i in range(12)]
    table = Table("Title", ("Rung", *cases), [("", [["one", *(f"{i}.25x" for i in range(12))]])])
    text = table.text(40)
    assert max(map(len, text.splitlines())) <= 40
    assert text.count("Rung") == 3 and all(case in text for case in cases)
    assert all(f" {i}.25x" in text for i in range(12))


def test_prose_in_a_column_is_wrapped() -> None:
    reason = "needs 12.5 GiB of memory, 8.25 GiB are available: the program of this case"
    table = Table("Title", ("Program", "Reason"), [("", [["a program", reason]])])
    lines = table.text(40).splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines[4:]).split()) == f"a program {reason}"


def noisy_run(n_noisy: int, factor: int) -> Run:
    """A run of which some rows have an interval wider than 5 %, the first of them the baseline;
    PyTorch takes a factor longer than the other noisy ones."""
    names = ["torch-naive", "torch-sdpa", "attention-fused-parallel", "layernorm-parallel"]
    quiet = [1000, 1001, 1002, 1003, 1004, 1005]
    torch = {"origin": "torch", "worker": "torch", "factors": {}}
    rows = []
    for i, name in enumerate(names):
        samples = make_noisy_samples(2000, 12, i) if i < n_noisy else quiet
        times, known = (factor, torch) if i < 2 else (1, {})
        rows.append(make_timed(name, [times * sample for sample in samples], **known))
    return make_run(rows)


def test_a_verdict_of_a_run_that_is_too_noisy_is_not_shown() -> None:
    table = Table("T", ("A", "verdict"), [("", [[t, t] for t in ("faster", "same", "-", "")])])
    shown = trusted(table, [noisy_run(4, 1)])
    assert shown.rows == [["faster", "too noisy"], ["same", "too noisy"], ["-", "-"], ["", ""]]
    assert trusted(table, [noisy_run(4, 3)]) is table


@pytest.mark.parametrize(
    ("n_noisy", "factor", "warned", "noted"),
    [
        (1, 3, False, False),
        (2, 3, False, True),
        (4, 3, False, True),
        (4, 1, True, False),
    ],
    ids=["one time", "half", "all, ratios resolved", "all, ratios open"],
)
def test_a_run_is_too_noisy_by_its_times_and_ratios(
    n_noisy: int, factor: int, warned: bool, noted: bool
) -> None:
    run = noisy_run(n_noisy, factor)
    times = f"{n_noisy} of 4 times have an interval wider than 5%"
    warning = (
        f"Too noisy: do not use run. {times}, and 3 of 3 ratios to torch-naive are not resolved: "
        "end other programs, and run again"
    )
    note = f"Noisy times: {times}. Each ratio is judged by its own interval"
    assert run_warning(run) == (warning if warned else None)
    hard = run_warning(replace(run, name="\x1b[2J"))
    assert hard == (warning.replace("run.", "\\x1b[2J.", 1) if warned else None)
    assert times_note(run) == (note if noted else None)
    assert ("Noise" in facts(run)) == (warned or noted)
    (summary,) = [table for table in run_tables(run) if table.title.startswith("SUMMARY")]
    verdict = summary.rows[0][list(summary.header).index("verdict")]
    assert list(summary.warnings) == ([warning] if warned else [])
    assert verdict in (("not resolved", "too noisy") if warned else ("faster",))

"""Findings of the further suites: all four verdicts of each, and what the published rows say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from suite_samples import (
    BACKWARD,
    PARTS,
    STEP,
    SWEEP,
    make_failed_suite_row,
    make_suite_header,
    make_suite_row,
    suite_source,
    write_suite,
)

from ablation_report.__main__ import main
from ablation_report.findings.base import VERDICTS, Outcome
from ablation_report.findings.suites_registry import SUITE_FINDINGS, evaluate_suites
from ablation_report.findings.text import rows_text
from ablation_report.sources import gather
from ablation_report.suite_rows import load_suite_run
from ablation_report.suite_sources import recorded_source

PUBLISHED = Path(__file__).parents[3] / "data/published"
Rows = Sequence[dict[str, Any]]
SDPA, FLASH = "torch_sdpa_flash", "ablation_flash"
FLASH_BF16 = "ablation_flash_bf16"
SCORES = 4 * 2 * 1024**2
MANY, FEW = 8, 3


def timed(impl: str, ns: int, n: int = MANY, **changes: Any) -> dict[str, Any]:
    """A row with one time in all of its rounds."""
    return make_suite_row(impl, [ns] * n, **changes)


def spread(impl: str, **changes: Any) -> dict[str, Any]:
    """A row whose times lie on both sides of those of every other."""
    return make_suite_row(impl, [500, 2000] * (MANY // 2), **changes)


def lengths(impl: str, times: Sequence[Sequence[int]], **changes: Any) -> Rows:
    """A row of each of two lengths."""
    return [
        make_suite_row(impl, samples, n, **changes)
        for n, samples in zip((1024, 2048), times, strict=True)
    ]


def backward(impl: str, ns: Sequence[int] = (1000,) * MANY, **changes: Any) -> dict[str, Any]:
    """A row of attention-backward."""
    return make_suite_row(impl, ns, **({"suite": BACKWARD} | changes))


def saved(impl: str, factors: tuple[int, int], disagree: bool = False) -> Rows:
    """Kept bytes of two lengths."""
    measured: dict[str, Any] = {"mem_method": "hwm", "mem_disagree": disagree}
    return [
        backward(impl, n=n, mem_saved_bytes=1000 * factor, **measured)
        for n, factor in zip((1024, 2048), factors, strict=True)
    ]


def column(ratio: float, disagree: bool = False) -> dict[str, Any]:
    """A forward whose published column is so many times what it keeps."""
    return backward(
        "torch_unfused_course",
        mem_method="hwm",
        mem_disagree=disagree,
        mem_saved_bytes=2 * SCORES,
        details={"mem_published_style_bytes": round(2 * ratio * SCORES)},
    )


def step(parts: Sequence[int], n: int = MANY, **changes: Any) -> dict[str, Any]:
    """A step of 1000 ns with its parts."""
    names = ("fwd", "bwd", "opt")
    told = {name: [ns] * n for name, ns in zip(names, parts, strict=True)}
    details = {"parts_ns": told}
    return timed("sdpa", 1000, n, suite=STEP, phase="step", details=details, **changes)


def size(d_ff: int, **changes: Any) -> dict[str, Any]:
    """A row of the size named 2.7B; its attention is 32 heads of 80."""
    parameters = {"size": "2.7B-2025", "layers": 32, "d_ff": d_ff, "vocab": 10_000}
    shape: dict[str, Any] = {"H": 32, "d": 80, "parameters": parameters | changes}
    return make_failed_suite_row("sdpa", suite=STEP, **shape)


def part(impl: str, ns: Sequence[int] = (1000,) * MANY, **changes: Any) -> dict[str, Any]:
    """A row of attention-parts."""
    return make_suite_row(impl, ns, **({"suite": PARTS, "tier": "course"} | changes))


def forms(flash: int | None, fused: int | None, **changes: Any) -> Rows:
    """The scratch of two forms."""
    return [
        part("ablation_flash_course", mem_scratch_bytes=flash, **changes),
        part("ablation_fused_row", mem_scratch_bytes=fused, **changes),
    ]


UNFUSED = "torch_unfused_course"
EINSUM = "torch_unfused_einsum"
LAST = 16384
SMALL: dict[str, Any] = {"parameters": {"block_q": 32, "block_k": 32}}
NOISY_QUARTERS = ([100] * 7 + [10**5], [900] * 8)

# Of each finding rows that lead to each verdict
CASES: dict[str, dict[str, Rows]] = {
    "suite-triton-against-sdpa": {
        "holds": [timed(SDPA, 8000), timed("triton_flash", 1000)],
        "does not hold": [timed(SDPA, 1000), timed("triton_flash", 1000)],
        "not resolved": [timed(SDPA, 8000, FEW), timed("triton_flash", 1000, FEW)],
        "not measured": [timed(SDPA, 1000), make_failed_suite_row("triton_flash")],
    },
    "suite-einsum-is-sdpa": {
        "holds": [timed(SDPA, 1000), timed(EINSUM, 1001)],
        "does not hold": [timed(SDPA, 1000), timed(EINSUM, 5000)],
        "not resolved": [timed(SDPA, 1000), spread(EINSUM)],
        "not measured": [timed(EINSUM, 1000)],
    },
    "suite-flash-time-grows": {
        "holds": lengths(FLASH, ([1000] * MANY, [4000] * MANY)),
        "does not hold": lengths(FLASH, ([1000] * MANY, [2000] * MANY)),
        "not resolved": lengths(FLASH, NOISY_QUARTERS),
        "not measured": [timed(FLASH, 1000)],
    },
    "suite-forward-target": {
        "holds": [timed(SDPA, 2000), timed(FLASH, 1000)],
        "does not hold": [timed(SDPA, 1400), timed(FLASH, 1000)],
        "not resolved": [timed(SDPA, 2000, FEW), timed(FLASH, 1000, FEW)],
        "not measured": [timed(SDPA, 2000, threads=2), timed(FLASH, 1000, threads=2)],
    },
    "suite-bfloat16-target": {
        "holds": [timed(SDPA, 2000, dtype="bfloat16"), timed(FLASH_BF16, 900, dtype="bfloat16")],
        "does not hold": [
            timed(SDPA, 900, dtype="bfloat16"),
            timed(FLASH_BF16, 900, dtype="bfloat16"),
        ],
        "not resolved": [timed(SDPA, 1500, dtype="bfloat16"), spread(FLASH_BF16, dtype="bfloat16")],
        "not measured": [timed(SDPA, 2000, dtype="bfloat16"), timed(FLASH, 900)],
    },
    "suite-named-size": {
        "holds": [size(7360)],
        "does not hold": [size(10240)],
        "not resolved": [size(7360), size(10240)],
        "not measured": [size(10240, size="xl-2025")],
    },
    "suite-parts-add-up": {
        "holds": [step((300, 600, 100))],
        "does not hold": [step((300, 600, 300))],
        "not resolved": [step((300, 600, 100), FEW)],
        "not measured": [timed("sdpa", 1000, suite=STEP, phase="step")],
    },
    "suite-memory-column": {
        "holds": [column(1.0)],
        "does not hold": [column(3.0)],
        "not resolved": [column(3.0, disagree=True)],
        "not measured": [backward(UNFUSED)],
    },
    "suite-means": {
        "holds": [backward(SDPA)],
        "does not hold": [backward(SDPA, [1000] * 7 + [100_000])],
        "not resolved": [backward(SDPA, [1000] * FEW)],
        "not measured": [make_failed_suite_row(SDPA, suite=BACKWARD)],
    },
    "suite-saved-grows": {
        "holds": [*saved(UNFUSED, (1, 4)), *saved(SDPA, (1, 2))],
        "does not hold": [*saved(UNFUSED, (1, 4)), *saved(SDPA, (1, 4))],
        "not resolved": saved(UNFUSED, (1, 3), disagree=True),
        "not measured": [backward(UNFUSED)],
    },
    "suite-first-oom": {
        "holds": [make_failed_suite_row(UNFUSED, n=LAST, suite=BACKWARD)],
        "does not hold": [backward(UNFUSED, n=LAST)],
        "not resolved": [
            make_failed_suite_row(UNFUSED, "timeout", "budget", n=LAST, suite=BACKWARD)
        ],
        "not measured": [backward(UNFUSED)],
    },
    "suite-backward-target": {
        "holds": [backward(SDPA, phase="bwd"), backward(FLASH, [800] * MANY, phase="bwd")],
        "does not hold": [backward(SDPA, phase="bwd"), backward(FLASH, phase="bwd")],
        "not resolved": [
            backward(SDPA, [1000] * FEW, phase="bwd"),
            backward(FLASH, [800] * FEW, phase="bwd"),
        ],
        "not measured": [backward(SDPA), backward(FLASH, [800] * MANY)],
    },
    "suite-flash-memory": {
        "holds": forms(1000, 4000),
        "does not hold": forms(695_296, 4096),
        "not resolved": [*forms(695_296, 4096), *forms(1000, 4096, **SMALL)],
        "not measured": forms(None, 4096),
    },
    "suite-cold-run": {
        "holds": [part(FLASH, details={"published_style_ns": 1100})],
        "does not hold": [part(FLASH, details={"published_style_ns": 4000})],
        "not resolved": [
            part(FLASH, [800, 900, 1000, 1100, 1400], details={"published_style_ns": 4000})
        ],
        "not measured": [part(FLASH)],
    },
    "suite-flash-slower": {
        "holds": [part("ablation_flash_course", [2000] * MANY), part("ablation_fused_row")],
        "does not hold": [part("ablation_flash_course", [500] * MANY), part("ablation_fused_row")],
        "not resolved": [
            part("ablation_flash_course", [500, 2000] * (MANY // 2)),
            part("ablation_fused_row"),
        ],
        "not measured": [part("ablation_flash_course")],
    },
}


def outcome_of(key: str, folder: Path, rows: Rows) -> Outcome:
    """What these rows say of a claim."""
    (finding,) = (finding for finding in SUITE_FINDINGS if finding.key == key)
    return finding.evaluate(suite_source(folder, *rows))


def test_every_finding_has_rows_for_every_verdict() -> None:
    assert set(CASES) == {finding.key for finding in SUITE_FINDINGS}
    assert all(set(cases) == set(VERDICTS) for cases in CASES.values())


def test_a_study_of_warm_up_says_nothing_of_sums(tmp_path: Path) -> None:
    row = step((300, 600, 300), parameters={"study_warmup": 0})
    assert outcome_of("suite-parts-add-up", tmp_path / "run", [row]).verdict == "not measured"


@pytest.mark.parametrize(
    ("key", "verdict"), [(key, verdict) for key in CASES for verdict in VERDICTS]
)
def test_rows_lead_to_the_verdict(tmp_path: Path, key: str, verdict: str) -> None:
    outcome = outcome_of(key, tmp_path / "run", CASES[key][verdict])
    assert outcome.verdict == verdict, outcome.sentence
    if verdict == "not measured":
        assert outcome.sentence.startswith("Not measured: ") and not outcome.rows
    else:
        assert outcome.rows and rows_text(outcome.rows).startswith("run/rows.jsonl:")


@pytest.mark.parametrize("key", CASES)
def test_no_sentence_without_rows(tmp_path: Path, key: str) -> None:
    suite = next(finding.suite for finding in SUITE_FINDINGS if finding.key == key)
    outcome = outcome_of(key, tmp_path / "run", [make_failed_suite_row("other", suite=suite)])
    assert outcome.verdict == "not measured" and not outcome.rows


def published(key: str, source: str) -> Outcome:
    """What a published source says of a claim."""
    answers = evaluate_suites(gather(PUBLISHED).suite_sources)
    (found,) = (o for f, s, o in answers if f.key == key and s.name.startswith(source))
    return found


def test_what_was_published_as_sdpa_is_named() -> None:
    outcome = published("suite-triton-against-sdpa", "attention forward sweep")
    assert outcome.verdict == "not measured"
    assert "PyTorch's SDPA was never run" in outcome.sentence
    assert "7.8x at N 2048" in outcome.sentence and "unfused einsum" in outcome.sentence
    assert rows_text(outcome.rows) == "published/suites.csv:2,3,14,15"


def test_the_published_memory_is_three_times_what_is_kept() -> None:
    outcome = published("suite-memory-column", "LM step")
    assert outcome.verdict == "does not hold"
    # 12385.75 MiB over the 2048 MiB of 8 x 8192 x 8192 floats
    assert outcome.figures["N 8192, d 16"] == pytest.approx(12385.75 / 2048)
    assert "6.05" in outcome.sentence and "3.0x" in outcome.sentence
    lines = (PUBLISHED / "suites.csv").read_text().splitlines()
    assert all("max_memory_allocated" in lines[row["line"] - 1] for row in outcome.rows)


def test_the_published_means_are_ruined_by_outliers() -> None:
    outcome = published("suite-means", "LM step")
    assert outcome.verdict == "does not hold"
    assert "0.426 ± 0.419 ms" in outcome.sentence and "in the next" in outcome.sentence


def test_the_published_growth_is_of_another_quantity() -> None:
    outcome = published("suite-saved-grows", "LM step")
    assert outcome.verdict == "not measured" and outcome.rows
    assert "from 1.93 to 1.95" in outcome.sentence or "from 1.93 to 1.96" in outcome.sentence


def test_the_published_oom_is_at_16384() -> None:
    outcome = published("suite-first-oom", "LM step")
    assert outcome.verdict == "holds" and "8.0 GiB an array of scores" in outcome.sentence


def test_the_published_memory_of_flash_is_its_output() -> None:
    outcome = published("suite-flash-memory", "four-part CPU attention, x86")
    assert outcome.verdict == "does not hold"
    assert "524,288 B of student_flash are its output alone" in outcome.sentence


def test_the_published_threads_leave_the_algorithm_open() -> None:
    outcome = published("suite-flash-slower", "four-part CPU attention, course")
    assert outcome.verdict == "not resolved" and "not told apart" in outcome.sentence


def test_a_limit_that_was_asked_for_says_nothing_of_the_machine(tmp_path: Path) -> None:
    rows = CASES["suite-first-oom"]["holds"]
    header = make_suite_header(rows, limits={"memory_limit_bytes": 2**30})
    source = recorded_source(load_suite_run(write_suite(tmp_path / "run", rows, header)))
    (outcome,) = (o for f, _, o in evaluate_suites([source]) if f.key == "suite-first-oom")
    assert outcome.verdict == "not resolved"
    assert outcome.sentence.startswith("Under a limit of 1.0 GiB for an implementation: ")
    assert "first runs out at N 16384 (predicted), 2.0 GiB" in outcome.sentence


def test_the_size_named_two_point_seven_has_three_point_four(tmp_path: Path) -> None:
    outcome = outcome_of("suite-named-size", tmp_path / "run", [size(10240)])
    assert "3.407 G (3,406,809,600)" in outcome.sentence


def test_a_target_that_is_missed_somewhere_is_missed(tmp_path: Path) -> None:
    rows = [
        timed(SDPA, 2000),
        timed(FLASH, 1000),
        make_suite_row(SDPA, [1100] * MANY, 2048),
        make_suite_row(FLASH, [1000] * MANY, 2048),
    ]
    outcome = outcome_of("suite-forward-target", tmp_path / "run", rows)
    assert outcome.verdict == "does not hold"
    assert outcome.sentence.startswith("Reached: 2.0x") and "missed: 1.10x" in outcome.sentence


def test_many_cases_are_told_by_their_ends(tmp_path: Path) -> None:
    rows = []
    for i, n in enumerate((128, 256, 512, 1024, 2048)):
        rows.append(make_suite_row(SDPA, [1000] * MANY, n))
        rows.append(make_suite_row(EINSUM, [2000 + 1000 * i] * MANY, n))
    outcome = outcome_of("suite-einsum-is-sdpa", tmp_path / "run", rows)
    assert "5 cases, from 2.0x (full, N 128" in outcome.sentence
    assert "to 6.0x (full, N 2048" in outcome.sentence


def test_the_command_prints_the_findings_of_suites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_suite(tmp_path / "run", CASES["suite-forward-target"]["holds"])
    assert main(["findings", str(tmp_path), "--format", "md"]) == 0
    text = capsys.readouterr().out
    assert f"## {SWEEP}: Our forward against SDPA" in text
    assert "- **run**: *holds*: Reached: 2.0x" in text
    assert "Rows: `run/rows.jsonl:1,2`" in text

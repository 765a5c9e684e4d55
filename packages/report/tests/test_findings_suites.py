"""Findings of the other suites: all four verdicts of each, and what the published rows say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from samples import make_attention_row, make_header, make_run, make_untimed, write_run

from ablation_report.findings import (
    FINDINGS,
    VERDICTS,
    Outcome,
    attention_backward,
    attention_parts,
    attention_sweep,
    evaluate_all,
)
from ablation_report.findings.text import findings_text, rows_text
from ablation_report.load import gather
from ablation_report.run import BLOCK, Run

DATA = Path(__file__).parents[3] / "data"
PUBLISHED = DATA / "published"
Rows = Sequence[dict[str, Any]]
SWEEP, STEP = "attention-sweep", "lm-step"
BACKWARD, PARTS = "attention-backward", "attention-parts"
SDPA, FLASH = "torch_sdpa_flash", "ablation_flash"
SIZES = (
    *("B", "H", "Nq", "Nk", "d", "causal", "size", "layers", "d_ff", "vocab"),
    *("study_warmup", "block_q"),
)
TWINS = [SDPA, f"{SDPA}_twin"]
MEMORY = ("saved", "scratch", "method", "disagree")
FLASH_BF16 = "ablation_flash_bf16"
SCORES = 4 * 2 * 1024**2
MANY, FEW = 8, 3


def row_of(
    variant: str, samples: Sequence[int] = (1000,) * MANY, n: int = 1024, **changes: Any
) -> dict[str, Any]:
    """A row of attention over n queries and keys; sizes and entries of memory are changed by
    their name."""
    sizes = {"B": 1, "H": 2, "Nq": n, "Nk": n, "d": 64, "causal": False}
    sizes |= {name: changes.pop(name) for name in SIZES if name in changes}
    memory = {name: changes.pop(name) for name in MEMORY if name in changes}
    row = make_attention_row(variant, list(samples), n, sizes=sizes, **changes)
    return row | {"memory": row["memory"] | memory}


def failed(
    variant: str, status: str = "oom", reason: str = "predicted", n: int = 1024, **changes: Any
) -> dict[str, Any]:
    """A row without a time."""
    return dict(make_untimed(row_of(variant, n=n, **changes), status, reason))


def timed(variant: str, ns: int, n: int = MANY, **changes: Any) -> dict[str, Any]:
    """A row with one time in all of its rounds."""
    return row_of(variant, [ns] * n, **changes)


def twice(ns: int = 10_000, floor: float = 0.0) -> Rows:
    """SDPA under two names, whose times differ by so much."""
    return [timed(TWINS[1], ns), timed(TWINS[0], round(ns * (1 + floor)))]


def crossing(*pairs: tuple[Sequence[int], int]) -> Rows:
    """Rows of a flash kernel and of a fused one of ours at growing lengths."""
    return [
        row_of(form, samples, n, tier="crossover", origin="ablation", factors={"form": form})
        for n, (flash, fused) in zip((256, 1024), pairs, strict=False)
        for form, samples in (("flash", flash), ("fused", [fused] * MANY))
    ]


def spread(variant: str, **changes: Any) -> dict[str, Any]:
    """A row whose times lie on both sides of those of every other."""
    return row_of(variant, [500, 2000] * (MANY // 2), **changes)


def lengths(variant: str, times: Sequence[Sequence[int]], **changes: Any) -> Rows:
    """A row of each of two lengths."""
    return [
        row_of(variant, samples, n, **changes)
        for n, samples in zip((1024, 2048), times, strict=True)
    ]


def backward(variant: str, ns: Sequence[int] = (1000,) * MANY, **changes: Any) -> dict[str, Any]:
    """A row of attention-backward."""
    return row_of(variant, ns, **({"suite": BACKWARD} | changes))


def saved(variant: str, factors: tuple[int, int], disagree: bool = False) -> Rows:
    """Kept bytes of two lengths."""
    measured: dict[str, Any] = {"method": "hwm", "disagree": disagree}
    return [
        backward(variant, n=n, saved=1000 * factor, **measured)
        for n, factor in zip((1024, 2048), factors, strict=True)
    ]


def column(ratio: float, disagree: bool = False) -> dict[str, Any]:
    """A forward whose published column is so many times what it keeps."""
    return backward(
        "torch_unfused_course",
        method="hwm",
        disagree=disagree,
        saved=2 * SCORES,
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
    sizes: dict[str, Any] = {"size": "2.7B-2025", "layers": 32, "d_ff": d_ff, "vocab": 10_000}
    return failed("sdpa", suite=STEP, **({"H": 32, "d": 80} | sizes | changes))


def part(variant: str, ns: Sequence[int] = (1000,) * MANY, **changes: Any) -> dict[str, Any]:
    """A row of attention-parts."""
    return row_of(variant, ns, **({"suite": PARTS, "tier": "course"} | changes))


def forms(flash: int | None, fused: int | None, **changes: Any) -> Rows:
    """The scratch of two forms."""
    return [
        part("ablation_flash_course", scratch=flash, **changes),
        part("ablation_fused_row", scratch=fused, **changes),
    ]


UNFUSED = "torch_unfused_course"
EINSUM = "torch_unfused_einsum"
LAST = 16384
SMALL: dict[str, Any] = {"block_q": 32}
NOISY_QUARTERS = ([100] * 3 + [10**5] * 5, [900] * 8)

# Of each finding rows that lead to each verdict
CASES: dict[str, dict[str, Rows]] = {
    "attention_crossover": {
        "holds": crossing(([1200] * MANY, 1000), ([800] * MANY, 1000)),
        "does not hold": crossing(([800] * MANY, 1000), ([1200] * MANY, 1000)),
        "not resolved": crossing(([800] * MANY, 1000), ([700, 1300] * 4, 1000)),
        "not measured": crossing(([800] * MANY, 1000))[:1],
    },
    "triton_against_sdpa": {
        "holds": [timed(SDPA, 8000), timed("triton_flash", 1000)],
        "does not hold": [timed(SDPA, 1000), timed("triton_flash", 1000)],
        "not resolved": [timed(SDPA, 8000, FEW), timed("triton_flash", 1000, FEW)],
        "not measured": [timed(SDPA, 1000), failed("triton_flash")],
    },
    "einsum_is_sdpa": {
        "holds": [*twice(), timed(EINSUM, 10_000)],
        "does not hold": [timed(SDPA, 1000), timed(EINSUM, 5000)],
        "not resolved": [timed(SDPA, 1000), spread(EINSUM)],
        "not measured": [timed(EINSUM, 1000)],
    },
    "flash_time_grows": {
        "holds": lengths(FLASH, ([1000] * MANY, [4000] * MANY)),
        "does not hold": lengths(FLASH, ([1000] * MANY, [2000] * MANY)),
        "not resolved": lengths(FLASH, NOISY_QUARTERS),
        "not measured": [timed(FLASH, 1000)],
    },
    "forward_target": {
        "holds": [timed(SDPA, 2000), timed(FLASH, 1000)],
        "does not hold": [timed(SDPA, 1400), timed(FLASH, 1000)],
        "not resolved": [timed(SDPA, 2000, FEW), timed(FLASH, 1000, FEW)],
        "not measured": [timed(SDPA, 2000, threads=2), timed(FLASH, 1000, threads=2)],
    },
    "bfloat16_target": {
        "holds": [timed(SDPA, 2000, dtype="bfloat16"), timed(FLASH_BF16, 900, dtype="bfloat16")],
        "does not hold": [
            timed(SDPA, 900, dtype="bfloat16"),
            timed(FLASH_BF16, 900, dtype="bfloat16"),
        ],
        "not resolved": [timed(SDPA, 1500, dtype="bfloat16"), spread(FLASH_BF16, dtype="bfloat16")],
        "not measured": [timed(SDPA, 2000, dtype="bfloat16"), timed(FLASH, 900)],
    },
    "named_size": {
        "holds": [size(7360)],
        "does not hold": [size(10240)],
        "not resolved": [size(7360), size(10240)],
        "not measured": [size(10240, size="xl-2025")],
    },
    "parts_add_up": {
        "holds": [step((300, 600, 100))],
        "does not hold": [step((300, 600, 300))],
        "not resolved": [step((300, 600, 100), FEW)],
        "not measured": [timed("sdpa", 1000, suite=STEP, phase="step")],
    },
    "memory_column": {
        "holds": [column(1.0)],
        "does not hold": [column(3.0)],
        "not resolved": [column(3.0, disagree=True)],
        "not measured": [backward(UNFUSED)],
    },
    "means_stand": {
        "holds": [backward(SDPA)],
        "does not hold": [backward(SDPA, [1000] * 7 + [100_000])],
        "not resolved": [backward(SDPA, [1000] * FEW)],
        "not measured": [failed(SDPA, suite=BACKWARD)],
    },
    "saved_grows": {
        "holds": [*saved(UNFUSED, (1, 4)), *saved(SDPA, (1, 2))],
        "does not hold": [*saved(UNFUSED, (1, 4)), *saved(SDPA, (1, 4))],
        "not resolved": saved(UNFUSED, (1, 3), disagree=True),
        "not measured": [backward(UNFUSED)],
    },
    "first_oom": {
        "holds": [failed(UNFUSED, n=LAST, suite=BACKWARD)],
        "does not hold": [backward(UNFUSED, n=LAST)],
        "not resolved": [failed(UNFUSED, "timeout", "budget", n=LAST, suite=BACKWARD)],
        "not measured": [backward(UNFUSED)],
    },
    "backward_target": {
        "holds": [backward(SDPA, phase="bwd"), backward(FLASH, [800] * MANY, phase="bwd")],
        "does not hold": [backward(SDPA, phase="bwd"), backward(FLASH, phase="bwd")],
        "not resolved": [
            backward(SDPA, [1000] * FEW, phase="bwd"),
            backward(FLASH, [800] * FEW, phase="bwd"),
        ],
        "not measured": [backward(SDPA), backward(FLASH, [800] * MANY)],
    },
    "flash_memory": {
        "holds": forms(1000, 4000),
        "does not hold": forms(695_296, 4096),
        "not resolved": [*forms(695_296, 4096), *forms(1000, 4096, **SMALL)],
        "not measured": forms(None, 4096),
    },
    "cold_run": {
        "holds": [part(FLASH, details={"published_style_ns": 1100})],
        "does not hold": [part(FLASH, details={"published_style_ns": 4000})],
        "not resolved": [
            part(FLASH, [800, 900, 1000, 1100, 1400], details={"published_style_ns": 4000})
        ],
        "not measured": [part(FLASH)],
    },
    "flash_slower": {
        "holds": [part("ablation_flash_course", [2000] * MANY), part("ablation_fused_row")],
        "does not hold": [part("ablation_flash_course", [500] * MANY), part("ablation_fused_row")],
        "not resolved": [
            part("ablation_flash_course", [500, 2000] * (MANY // 2)),
            part("ablation_fused_row"),
        ],
        "not measured": [part("ablation_flash_course")],
    },
}


# Those of attribution have rows of their own
BY_KEY = {f.key: f for f in FINDINGS if f.suite not in (BLOCK, "attribution")}


def run_of(rows: Rows, **changes: Any) -> Run:
    """A run of these rows, whose floor is assumed in a case without twins."""
    known: dict[str, Any] = {"twins": [TWINS], "assumed_floor": 0.05, "baseline": SDPA}
    return make_run(list(rows), "run", **(known | changes))


def outcome_of(key: str, rows: Rows, **changes: Any) -> Outcome:
    """What these rows say of a claim."""
    return BY_KEY[key].evaluate(run_of(rows, **changes))


def test_every_finding_has_rows_for_every_verdict() -> None:
    assert set(CASES) == set(BY_KEY)
    assert all(set(cases) == set(VERDICTS) for cases in CASES.values())


def test_a_study_of_warm_up_says_nothing_of_sums() -> None:
    row = step((300, 600, 300), study_warmup=0)
    assert outcome_of("parts_add_up", [row]).verdict == "not measured"


@pytest.mark.parametrize(
    ("key", "verdict"), [(key, verdict) for key in CASES for verdict in VERDICTS]
)
def test_rows_lead_to_the_verdict(key: str, verdict: str) -> None:
    outcome = outcome_of(key, CASES[key][verdict])
    assert outcome.verdict == verdict, outcome.sentence
    if verdict == "not measured":
        assert outcome.sentence.startswith("Not measured: ") and not outcome.rows
    else:
        assert outcome.rows and rows_text(outcome.rows).startswith("run/rows.jsonl:")


@pytest.mark.parametrize("key", CASES)
def test_no_sentence_without_rows(key: str) -> None:
    suite = BY_KEY[key].suite
    outcome = outcome_of(key, [failed("other", suite=suite)])
    assert outcome.verdict == "not measured" and not outcome.rows


def published(key: str, source: str) -> Outcome:
    """What a published source says of a claim."""
    answers = evaluate_all(gather(PUBLISHED).runs)
    (found,) = (o for f, s, o in answers if f.key == key and s.name.startswith(source))
    return found


def test_what_was_published_as_sdpa_is_named() -> None:
    outcome = published("triton_against_sdpa", "attention forward sweep")
    assert outcome.verdict == "not measured"
    assert "PyTorch's SDPA was never run" in outcome.sentence
    assert "0.13x at N 2048" in outcome.sentence and "unfused einsum" in outcome.sentence
    assert rows_text(outcome.rows) == "published/suites.csv:2,3,14,15"


def test_the_published_memory_is_three_times_what_is_kept() -> None:
    outcome = published("memory_column", "LM step")
    assert outcome.verdict == "does not hold"
    # 12385.75 MiB over the 2048 MiB of 8 x 8192 x 8192 floats
    assert outcome.figures["N 8192, d 16"] == pytest.approx(12385.75 / 2048)
    assert "6.05" in outcome.sentence and "3.0x" in outcome.sentence
    lines = (PUBLISHED / "suites.csv").read_text().splitlines()
    assert all("max_memory_allocated" in lines[row["line"] - 1] for row in outcome.rows)


def test_the_published_means_are_ruined_by_outliers() -> None:
    outcome = published("means_stand", "LM step")
    assert outcome.verdict == "does not hold"
    assert "0.426 ± 0.419 ms" in outcome.sentence and "in another" in outcome.sentence


def test_the_published_growth_is_of_another_quantity() -> None:
    outcome = published("saved_grows", "LM step")
    assert outcome.verdict == "not measured" and outcome.rows
    assert "from 1.93 to 1.95" in outcome.sentence or "from 1.93 to 1.96" in outcome.sentence


def test_the_published_oom_is_at_16384() -> None:
    outcome = published("first_oom", "LM step")
    assert outcome.verdict == "holds" and "8.0 GiB an array of scores" in outcome.sentence


def test_the_published_memory_of_flash_is_its_output() -> None:
    outcome = published("flash_memory", "four-part CPU attention, x86")
    assert outcome.verdict == "does not hold"
    assert "524,288 B of student_flash are its output alone" in outcome.sentence


def test_the_published_threads_leave_the_algorithm_open() -> None:
    outcome = published("flash_slower", "four-part CPU attention, course")
    assert (
        outcome.verdict == "not resolved" and "only the fused form used several" in outcome.sentence
    )


def test_a_limit_that_was_asked_for_says_nothing_of_the_machine() -> None:
    limits = {"memory_limit_bytes": 2**30}
    outcome = outcome_of("first_oom", CASES["first_oom"]["holds"], limits=limits)
    assert outcome.verdict == "not resolved"
    assert outcome.sentence.startswith("Under a limit of 1.0 GiB for a variant: ")
    assert "first runs out at N 16384 (predicted), 2.0 GiB" in outcome.sentence


def test_the_size_named_two_point_seven_has_three_point_four() -> None:
    outcome = outcome_of("named_size", [size(10240)])
    assert "3.407 billion (3,406,809,600)" in outcome.sentence


def test_a_target_that_is_missed_somewhere_is_missed() -> None:
    rows = [
        timed(SDPA, 2000),
        timed(FLASH, 1000),
        row_of(SDPA, [1100] * MANY, 2048),
        row_of(FLASH, [1000] * MANY, 2048),
    ]
    outcome = outcome_of("forward_target", rows)
    assert outcome.verdict == "does not hold"
    assert "reached: 0.50x" in outcome.sentence and "missed: 0.91x" in outcome.sentence


def test_many_cases_are_told_by_their_ends() -> None:
    rows = []
    for i, n in enumerate((128, 256, 512, 1024, 2048)):
        rows.append(row_of(SDPA, [1000] * MANY, n))
        rows.append(row_of(EINSUM, [2000 + 1000 * i] * MANY, n))
    outcome = outcome_of("einsum_is_sdpa", rows)
    assert "5 cases, from 2.0x (full, N 128" in outcome.sentence
    assert "to 6.0x (full, N 2048" in outcome.sentence


def test_the_findings_of_suites_are_printed(tmp_path: Path) -> None:
    rows = CASES["forward_target"]["holds"]
    header = make_header(list(rows), baseline=SDPA, twins=[])
    text = findings_text(gather(write_run(tmp_path / "run", list(rows), header)), "md")
    assert f"## {SWEEP}: On one thread our flash forward is at least" in text
    told = f'Time of "{FLASH}" over that of "{SDPA}", target at most 0.67x: reached: 0.50x'
    assert f"- **run**: *holds*: {told}" in text
    assert "Rows: `run/rows.jsonl:1,2`" in text


def test_findings_ask_for_variants_that_runs_have() -> None:
    """A name that nothing is recorded under makes a finding say "not measured" for ever."""
    recorded = {name for run in gather(DATA / "runs").runs for name in run.header["variants"]}
    asked = {
        *(attention_sweep.SDPA, attention_sweep.FLASH, attention_sweep.FLASH_BF16),
        *(attention_sweep.TRITON, attention_sweep.EINSUM, attention_backward.SDPA),
        *(attention_backward.ABLATION, attention_parts.FLASH, attention_parts.FUSED),
    }
    assert asked <= recorded


def test_a_case_that_is_too_noisy_resolves_no_target() -> None:
    rows = [*twice(floor=0.2), timed(FLASH, 1000)]
    outcome = outcome_of("forward_target", rows)
    assert outcome.verdict == "not resolved"
    assert outcome.sentence.endswith(
        "Too noisy to compare: full, N 1024, B1 H2 d64, 1 thread (floor 20%)."
    )

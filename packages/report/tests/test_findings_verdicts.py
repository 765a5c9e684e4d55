"""Every finding gives each verdict from rows that differ in one time, and says why in figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from finding_rows import Rows, block_run, floor_of_flash, make, wide

from ablation_report.findings import FINDINGS, VERDICTS, Outcome
from ablation_report.run import BLOCK, Run

BY_KEY = {finding.key: finding for finding in FINDINGS if finding.suite == BLOCK}
Times = int | list[int]


def small(time_ns: Times | None) -> Rows:
    """PT naive at Toy and Small: 8 times the best at Toy."""
    rows = [make("passes-none", 1000, config) for config in ("Toy", "Small")]
    rows += [*floor_of_flash("Toy"), *floor_of_flash("Small")]
    if time_ns is None:
        return rows
    return [*rows, make("torch-naive", 8000, "Toy"), make("torch-naive", time_ns, "Small")]


def attention(time_ns: Times | None) -> Rows:
    """The attention group at GPT-2; the step to SIMD takes 18%."""
    rungs = {"unfused-scalar": 12000, "fused-scalar": 11000, "fused-simd": 9000}
    rows = [make(f"attention-{name}", ns, "GPT-2") for name, ns in rungs.items()]
    rows += floor_of_flash("GPT-2")
    more = [] if time_ns is None else [make("attention-fused-parallel", time_ns, "GPT-2")]
    return [*rows, *more]


def flash(time_ns: Times | None) -> Rows:
    """Flash against fused at 1000 ns: at Small 20% slower, at 7B-4K as given."""
    rows = []
    for config, length, ns in (("Small", 128, 1200), ("7B-4K", 4096, time_ns)):
        rows += [
            make("attention-fused-parallel", 1010, config, Nq=length),
            make("layernorm-parallel", 1000, config, Nq=length),
        ]
        if time_ns is not None and ns is not None:
            rows.append(make("attention-flash-parallel", ns, config, Nq=length))
    return rows


def feed_forward(time_ns: Times | None) -> Rows:
    """A block of 1000 ns at 1B of which each product of the feed-forward takes the given time."""
    head_dim = 16 if time_ns is None else 512
    ops = [
        {"name": name, "op": "matmul", "category": "linear", "kernel": "k", "median_ns": time_ns}
        for name in ("up.matmul", "down.matmul", "upper.matmul")
    ]
    profile = {"total": [1000], "attention": [50], "linear": [900], "layer_norm": [50]}
    best = make("layernorm-parallel", 1000, "1B", d=head_dim, profile=profile, ops=ops)
    return [best, *floor_of_flash("1B", d=head_dim)]


def layer_norm(time_ns: Times | None) -> Rows:
    """LayerNorm in SIMD and threads at 1000 ns, SIMD at 1100 ns, scalar as given."""
    rows = []
    for config in ("Medium", "GPT-2"):
        rows += [make("layernorm-simd", 1100, config), make("layernorm-parallel", 1000, config)]
        rows += floor_of_flash(config)
        if time_ns is not None:
            rows.append(make("layernorm-scalar", time_ns, config))
    return rows


def over_1000(variant: str, base: str, **changes: Any) -> Callable[[Times | None], Rows]:
    """Make a variant and a base of 1000 ns."""

    def rows(time_ns: Times | None) -> Rows:
        more = [] if time_ns is None else [make(variant, time_ns, **changes)]
        return [make(base, 1000), *more, *floor_of_flash()]

    return rows


def alone(time_ns: Times | None) -> Rows:
    """Two compiled variants, or none."""
    if time_ns is None:
        return [make("torch-naive", 1000)]
    return over_1000("passes-fold", "passes-none")(time_ns)


def no_floor(time_ns: Times | None) -> Rows:
    """Two rungs with a floor; without one where the second's samples are spread."""
    rows = over_1000("passes-fold", "passes-none")(time_ns)
    return rows[:2] if isinstance(time_ns, list) else rows


def profile(shift: int, n_calls: int = 6) -> dict[str, Any]:
    """A profile of 1000 ns a call, of which so much is attention and not linear."""
    parts = {"attention": 300 + shift, "linear": 400 - shift, "layer_norm": 100}
    parts |= {"element_wise": 100, "movement": 60, "dispatch": 40}
    calls = {name: [ns] * n_calls for name, ns in parts.items()}
    return {"profile": {"total": [1000] * n_calls, **calls}}


def moving(time_ns: Times | None) -> Rows:
    """Two rungs, of which the second has more attention and less linear time at 1001 ns."""
    rows = [make("passes-none", 1000, **profile(0)), *floor_of_flash()]
    if time_ns is None:
        return rows
    moved = profile(0 if time_ns == 1000 else 200)
    return [*rows, make("passes-fold", time_ns, **moved)]


# The time that gives holds, does not hold, not resolved, of the rows of each finding
CASES: dict[str, tuple[Callable[[Times | None], Rows], Times, Times, Times]] = {
    "dispatch_overhead": (small, 8500, 1500, 7000),
    "threading_in_attention": (attention, 5000, 8500, wide(7500)),
    "flash_never_wins": (flash, 1200, 800, 0),
    "feed_forward_dominates": (feed_forward, 325, 200, 250),
    "layer_norm_at_medium": (layer_norm, 1200, 900, wide(1000)),
    "matmul_add_worth": (
        over_1000("passes-matmul-add", "passes-absorb"),
        900,
        1100,
        wide(1000),
    ),
    "published_noise": (no_floor, 800, 1001, wide(1000)),
    "best_variant": (alone, 1200, 1001, wide(1050)),
    "rungs": (over_1000("passes-fold", "passes-none"), 800, 1200, wide(1000)),
    "shifts": (moving, 1001, 1000, wide(1000)),
    "against_baselines": (over_1000("torch-sdpa", "passes-none"), 2000, 900, wide(1000)),
    "flash_crossover": (flash, 800, 1200, wide(1000)),
    "default_never_loses": (over_1000("beyond-default", "passes-none"), 900, 1100, wide(1000)),
}


def unresolved_flash() -> Rows:
    """Flash whose noise is larger than its distance at each config."""
    slow = {"attention-flash-parallel": wide(1000)}
    return [
        row | {"samples_ns": slow.get(row["variant"], row["samples_ns"])} for row in flash(1000)
    ]


def run_for(key: str, verdict: str) -> Run:
    """The run from which a finding gives a verdict."""
    rows, holds, fails, open_at = CASES[key]
    if verdict == "not measured":
        return block_run(rows(None))
    if (key, verdict) == ("flash_never_wins", "not resolved"):
        return block_run(unresolved_flash())
    times = {"holds": holds, "does not hold": fails, "not resolved": open_at}
    return block_run(rows(times[verdict]))


def ask(key: str, verdict: str) -> Outcome:
    return BY_KEY[key].evaluate(run_for(key, verdict))


def test_every_finding_has_a_case() -> None:
    assert list(CASES) == list(BY_KEY)


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("key", CASES)
def test_rows_decide_the_verdict(key: str, verdict: str) -> None:
    outcome = ask(key, verdict)
    assert outcome.verdict == verdict, outcome.sentence
    assert bool(outcome.rows) == (verdict != "not measured")
    lines = [row["line"] for row in outcome.rows]
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("key", CASES)
def test_a_changed_row_changes_the_sentence(key: str) -> None:
    sentences = {ask(key, verdict).sentence for verdict in VERDICTS}
    assert len(sentences) == len(VERDICTS)


@pytest.mark.parametrize(
    ("key", "verdict", "told"),
    [
        ("dispatch_overhead", "holds", '0.12x at Toy ("passes-none"), 0.12x at Small'),
        (
            "dispatch_overhead",
            "does not hold",
            "The claimed range is 0.10x to 0.14x: inside at Toy, outside at Small",
        ),
        ("threading_in_attention", "holds", "faster at GPT-2 (-44%)"),
        ("threading_in_attention", "holds", "faster at GPT-2 (-18%)"),
        ("threading_in_attention", "does not hold", "not the largest at GPT-2"),
        ("flash_never_wins", "does not hold", "faster at 7B-4K (-21%); slower at Small (+19%)"),
        ("feed_forward_dominates", "holds", "65% at 1B"),
        ("feed_forward_dominates", "holds", "All linear layers, with the projections: 90% at 1B"),
        ("layer_norm_at_medium", "holds", "faster at Medium (-17%), GPT-2 (-17%)"),
        ("layer_norm_at_medium", "holds", "The step of threads alone: faster at Medium (-9.1%)"),
        ("matmul_add_worth", "does not hold", "slower at Toy (+10%)"),
        ("published_noise", "does not hold", "1 of 1 steps"),
        ("best_variant", "holds", 'slower at Toy (best "passes-none", then "passes-fold" +20%)'),
        ("rungs", "holds", '1 of 1 rungs save time at some config: "passes-fold".'),
        ("rungs", "does not hold", "0 of 1 rungs save time at some config. At no config: "),
        ("shifts", "holds", "linear -20%, attention +20%; total same, +0.1%"),
        ("against_baselines", "holds", '"torch-sdpa": faster at Toy (0.50x)'),
        ("against_baselines", "does not hold", '"torch-sdpa": slower at Toy (1.1x)'),
        ("flash_crossover", "holds", "Flash wins from seq_len 4096 on, in seq_len 128 to 4096"),
        ("flash_crossover", "does not hold", "No crossover is shown in seq_len 128 to 4096"),
        ("default_never_loses", "holds", 'faster at Toy (against "passes-none", -10%)'),
        ("default_never_loses", "not measured", '"beyond-default" not run'),
    ],
)
def test_a_sentence_has_its_figures(key: str, verdict: str, told: str) -> None:
    assert told in ask(key, verdict).sentence

"""The edges of findings: missing rows, programs with two names, noise that leaves things open."""

from __future__ import annotations

from typing import Any

import pytest
from finding_rows import FAR_NS, Rows, block_run, floor_of_flash, make, wide
from samples import label_of
from test_findings_verdicts import (
    BY_KEY,
    ask,
    attention,
    feed_forward,
    flash,
    no_floor,
    profile,
    run_for,
    small,
)


def test_too_few_rounds_resolve_nothing() -> None:
    three = [0, 1, 2]
    rows = [
        row | {"samples_ns": row["samples_ns"][:3], "sample_rounds": three} for row in small(8500)
    ]
    outcome = BY_KEY["dispatch_overhead"].evaluate(block_run(rows))
    assert outcome.verdict == "not resolved"


def test_what_is_missing_is_named_beside_what_is_judged() -> None:
    rows = [row for row in small(8500) if row["sizes"]["config"] == "Toy"]
    outcome = BY_KEY["dispatch_overhead"].evaluate(block_run(rows))
    assert outcome.verdict == "holds"
    assert outcome.sentence.endswith(" Not measured: Small (not run).")

    failed = [
        row | {"status": "oom", "samples_ns": None, "sample_rounds": None}
        if row["sizes"]["config"] == "Small" and row["variant"] == "attention-flash-parallel"
        else row
        for row in flash(1200)
    ]
    outcome = BY_KEY["flash_never_wins"].evaluate(block_run(failed))
    assert outcome.verdict == "holds"
    told = 'Not measured: Small ("attention-flash-parallel" oom).'
    assert outcome.sentence.endswith(told)


def test_flash_is_judged_by_its_second_pair_where_the_first_is_not_there() -> None:
    rows = [
        make("attention-fused-parallel", 1010),
        make("layernorm-parallel", 1000),
        make("flash-layernorm", 800),
    ]
    outcome = BY_KEY["flash_never_wins"].evaluate(block_run(rows))
    assert outcome.verdict == "does not hold"
    assert '"flash-layernorm" against "layernorm-parallel": faster at Toy (-20%)' in (
        outcome.sentence
    )


def test_two_names_of_the_best_program_are_no_race() -> None:
    rows = [
        make("attention-fused-parallel", 1000),
        make("layernorm-parallel", 1010),
        make("layernorm-simd", 1200),
    ]
    outcome = BY_KEY["best_variant"].evaluate(block_run(rows))
    assert outcome.verdict == "holds"
    assert '"layernorm-simd" +20%' in outcome.sentence


def test_a_rung_that_begins_an_axis_anew_is_shown_and_not_judged() -> None:
    rows = [
        make("attention-fused-parallel", 1000),
        make("layernorm-scalar", 1500),
        make("layernorm-simd", 1200),
        *floor_of_flash("Toy")[1:],
        make("layernorm-parallel", 1010),
    ]
    outcome = BY_KEY["rungs"].evaluate(block_run(rows))
    assert outcome.table is not None
    shown = {row[0]: row[2] for row in outcome.table.rows}
    assert shown["(layernorm-scalar)"] == "1.50x"
    assert shown["layernorm-simd"] == "0.80x"
    assert "layernorm-scalar" not in outcome.sentence


def test_a_shift_below_an_unresolved_total_is_not_claimed() -> None:
    table = ask("shifts", "not resolved").table
    assert table is not None
    assert table.rows[0][3] == "linear -20%, attention +20%"
    assert table.rows[0][4].startswith("not resolved")


def test_a_profile_of_few_or_spread_calls_rules_no_shift_out() -> None:
    # The medians moved far, but one call says the contrary
    spread = profile(0)
    spread["profile"] |= {"attention": [250, *[520] * 5], "linear": [450, *[180] * 5]}
    for child in (profile(0, n_calls=5), spread):
        rows = [make("passes-none", 1000, **profile(0)), make("passes-fold", 1000, **child)]
        outcome = BY_KEY["shifts"].evaluate(block_run([*rows, *floor_of_flash()]))
        assert outcome.verdict == "not resolved"
        assert "At 1 of these the profile is too noisy or too short" in outcome.sentence


def test_one_small_loss_does_not_carry_a_claim_of_never() -> None:
    rows = [
        *flash(1200),
        *(
            make(name, ns, "1B")
            for name, ns in (
                ("attention-fused-parallel", 1010),
                ("layernorm-parallel", 1000),
                ("attention-flash-parallel", wide(1000)),
            )
        ),
    ]
    outcome = BY_KEY["flash_never_wins"].evaluate(block_run(rows))
    assert outcome.verdict == "not resolved"
    assert "slower at Small (+19%), 7B-4K (+19%); not resolved at 1B" in outcome.sentence


def test_a_part_that_only_falls_is_no_shift() -> None:
    fallen = profile(0)
    fallen["profile"] |= {"linear": [200] * 6, "total": [800] * 6}
    rows = [make("passes-none", 1000, **profile(0)), make("passes-fold", 1000, **fallen)]
    outcome = BY_KEY["shifts"].evaluate(block_run([*rows, *floor_of_flash()]))
    assert outcome.verdict == "does not hold"


@pytest.mark.parametrize("key", ["matmul_add_worth", "default_never_loses"])
def test_one_small_gain_does_not_carry_a_claim_of_no_cost(key: str) -> None:
    variant, base = {
        "matmul_add_worth": ("passes-matmul-add", "passes-absorb"),
        "default_never_loses": ("beyond-default", "passes-absorb"),
    }[key]
    rows = [
        *(make(base, 1000, config) for config in ("Toy", "Small")),
        *(make(variant, ns, at) for at, ns in (("Toy", 900), ("Small", wide(1000)))),
        *floor_of_flash("Toy"),
        *floor_of_flash("Small"),
    ]
    outcome = BY_KEY[key].evaluate(block_run(rows))
    assert outcome.verdict == "not resolved"
    assert {c.row["sizes"]["config"]: c.verdict for c in outcome.comparisons}["Toy"] == "faster"


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        # As much as the step to SIMD
        (attention(7400), "not resolved"),
        # Nothing to set it against
        ([row for row in attention(9500) if "scalar" not in row["variant"]], "does not hold"),
        ([row for row in attention(5000) if "scalar" not in row["variant"]], "not resolved"),
    ],
)
def test_threads_are_set_against_the_other_steps(rows: Rows, verdict: str) -> None:
    assert BY_KEY["threading_in_attention"].evaluate(block_run(rows)).verdict == verdict


def test_a_share_within_the_floor_of_half_is_not_resolved() -> None:
    outcome = BY_KEY["feed_forward_dominates"].evaluate(block_run(feed_forward(252)))
    assert (outcome.verdict, outcome.figures["1B: share"]) == ("not resolved", 0.504)


def test_flash_is_judged_once_a_config() -> None:
    rows = [*flash(1200), make("flash-layernorm", 1200, "Small", Nq=128)]
    outcome = BY_KEY["flash_never_wins"].evaluate(block_run(rows))
    assert [c.row["sizes"]["config"] for c in outcome.comparisons] == ["Small", "7B-4K"]


def test_steps_without_a_floor_are_counted_apart() -> None:
    rows = [*no_floor(1001), make("passes-none", 1000, "Small"), make("passes-fold", 900, "Small")]
    sentence = BY_KEY["published_noise"].evaluate(block_run(rows)).sentence
    assert sentence.startswith("1 of 1 steps are within the noise (floor 1.0%)")
    assert sentence.endswith("1 more cannot be compared with the floor.")
    assert "At every config" not in sentence


@pytest.mark.parametrize("key", BY_KEY)
def test_nothing_is_resolved_in_a_case_that_is_too_noisy(key: str) -> None:
    """The rows that make a claim hold or not, under a floor above 10 %."""
    for verdict in ("holds", "does not hold"):
        rows = [dict(row) for row in run_for(key, verdict).rows if row["variant"] not in NOISY]
        configs = dict.fromkeys(row["sizes"]["config"] for row in rows)
        sizes = {row["sizes"]["config"]: row["sizes"] for row in rows}
        noisy = [row for config in configs for row in floor_of_noise(config, sizes[config])]
        outcome = BY_KEY[key].evaluate(block_run([*rows, *noisy], twins=[list(NOISY)]))
        assert outcome.verdict == "not resolved", outcome.sentence
        assert "Too noisy to compare: " in outcome.sentence
        assert {c.verdict for c in outcome.comparisons} <= {"not resolved"}


NOISY = ("flash-layernorm", "percall-native")


def floor_of_noise(config: str, sizes: dict[str, Any]) -> Rows:
    """One program under two names whose times differ by a fifth, slower than every other."""
    changes = {"factors": {"executor": "per_op"}, "sizes": sizes, "parent": None}
    return [
        make(name, ns, config) | changes | {"case": label_of(make(name, ns, config) | changes)}
        for name, ns in zip(NOISY, (FAR_NS, FAR_NS * 6 // 5), strict=True)
    ]


def test_a_case_is_named_once_with_its_floor() -> None:
    rows = [
        make("passes-absorb", 1000),
        make("passes-matmul-add", 500),
        *floor_of_flash(floor=0.2),
        make("passes-absorb", 1000, "Small"),
        make("passes-matmul-add", 900, "Small"),
        *floor_of_flash("Small"),
    ]
    outcome = BY_KEY["matmul_add_worth"].evaluate(block_run(rows))
    assert outcome.verdict == "not resolved"
    assert outcome.sentence == (
        '"passes-matmul-add" against "passes-absorb": faster at Small (-10%); not resolved at Toy '
        "(-50%). Too noisy to compare: Toy (floor 20%)."
    )


def test_a_config_on_two_numbers_of_threads_is_two_cases() -> None:
    rows = [
        make(name, ns, threads=threads)
        for threads in (1, 2)
        for name, ns in (("passes-absorb", 1000), ("passes-matmul-add", 1000 - 100 * threads))
    ]
    noise = [row for threads in (1, 2) for row in floor_of_flash(threads=threads)]
    outcome = BY_KEY["matmul_add_worth"].evaluate(block_run([*rows, *noise]))
    assert "faster at Toy, 1 thread (-10%), Toy, 2 threads (-20%)." in outcome.sentence

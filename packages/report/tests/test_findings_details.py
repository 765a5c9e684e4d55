"""The edges of findings: missing rows, programs with two names, noise that leaves things open."""

from __future__ import annotations

import pytest
from finding_rows import Cells, floor_of_flash, make, make_source, wide
from test_findings_verdicts import (
    BY_KEY,
    ask,
    attention,
    feed_forward,
    flash,
    no_floor,
    profile,
    small,
)


def test_too_few_rounds_resolve_nothing() -> None:
    three = [0, 1, 2]
    cells = [
        cell | {"samples_ns": cell["samples_ns"][:3], "sample_rounds": three}
        for cell in small(8500)
    ]
    outcome = BY_KEY["dispatch_overhead"].evaluate(make_source(cells))
    assert outcome.verdict == "not resolved"


def test_what_is_missing_is_named_beside_what_is_judged() -> None:
    cells = [cell for cell in small(8500) if cell["config"] == "Toy"]
    outcome = BY_KEY["dispatch_overhead"].evaluate(make_source(cells))
    assert outcome.verdict == "holds"
    assert outcome.sentence.endswith(" Not measured: Small (not run).")

    failed = [
        cell | {"status": "oom", "samples_ns": None, "sample_rounds": None}
        if cell["config"] == "Small" and cell["variant"] == "attention-flash-parallel"
        else cell
        for cell in flash(1200)
    ]
    outcome = BY_KEY["flash_never_wins"].evaluate(make_source(failed))
    assert outcome.verdict == "holds"
    told = 'Not measured: Small ("attention-flash-parallel" oom).'
    assert outcome.sentence.endswith(told)


def test_flash_is_judged_by_its_second_pair_where_the_first_is_not_there() -> None:
    cells = [
        make("attention-fused-parallel", 1020),
        make("layernorm-parallel", 1000),
        make("flash-layernorm", 800),
    ]
    outcome = BY_KEY["flash_never_wins"].evaluate(make_source(cells))
    assert outcome.verdict == "does not hold"
    assert '"flash-layernorm" against "layernorm-parallel": faster at Toy (-20%)' in (
        outcome.sentence
    )


def test_two_names_of_the_best_program_are_no_race() -> None:
    cells = [
        make("attention-fused-parallel", 1000),
        make("layernorm-parallel", 1010),
        make("layernorm-simd", 1200),
    ]
    outcome = BY_KEY["best_variant"].evaluate(make_source(cells))
    assert outcome.verdict == "holds"
    assert '"layernorm-simd" +20%' in outcome.sentence


def test_a_rung_that_begins_an_axis_anew_is_shown_and_not_judged() -> None:
    cells = [
        make("attention-fused-parallel", 1000),
        make("layernorm-scalar", 1500),
        make("layernorm-simd", 1200),
        *floor_of_flash("Toy")[1:],
        make("layernorm-parallel", 1010),
    ]
    outcome = BY_KEY["rungs"].evaluate(make_source(cells))
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
    spread = profile(0) | {"profile_attention_ns": [250, *[520] * 5]}
    spread["profile_linear_ns"] = [450, *[180] * 5]
    for child in (profile(0, n_calls=5), spread):
        cells = [make("passes-none", 1000, **profile(0)), make("passes-fold", 1000, **child)]
        outcome = BY_KEY["shifts"].evaluate(make_source([*cells, *floor_of_flash()]))
        assert outcome.verdict == "not resolved"
        assert "At 1 of these the profile is too spread, or too short" in outcome.sentence


def test_one_small_loss_does_not_carry_a_claim_of_never() -> None:
    cells = [
        *flash(1200),
        *(
            make(name, ns, "1B")
            for name, ns in (
                ("attention-fused-parallel", 1020),
                ("layernorm-parallel", 1000),
                ("attention-flash-parallel", wide(1000)),
            )
        ),
    ]
    outcome = BY_KEY["flash_never_wins"].evaluate(make_source(cells))
    assert outcome.verdict == "not resolved"
    assert "slower at Small (+18%), 7B-4K (+18%); not resolved at 1B" in outcome.sentence


def test_a_part_that_only_falls_is_no_shift() -> None:
    fallen = profile(0) | {"profile_linear_ns": [200] * 6, "profile_total_ns": [800] * 6}
    cells = [make("passes-none", 1000, **profile(0)), make("passes-fold", 1000, **fallen)]
    outcome = BY_KEY["shifts"].evaluate(make_source([*cells, *floor_of_flash()]))
    assert outcome.verdict == "does not hold"


@pytest.mark.parametrize("key", ["matmul_add_worth", "default_never_loses"])
def test_one_small_gain_does_not_carry_a_claim_of_no_cost(key: str) -> None:
    variant, base = {
        "matmul_add_worth": ("passes-matmul-add", "passes-absorb"),
        "default_never_loses": ("beyond-default", "passes-absorb"),
    }[key]
    cells = [
        *(make(base, 1000, config) for config in ("Toy", "Small")),
        *(make(variant, ns, at) for at, ns in (("Toy", 900), ("Small", wide(1000)))),
        *floor_of_flash("Toy"),
        *floor_of_flash("Small"),
    ]
    outcome = BY_KEY[key].evaluate(make_source(cells))
    assert outcome.verdict == "not resolved"
    assert {c.config: c.verdict for c in outcome.comparisons}["Toy"] == "faster"


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        # As much as the step to SIMD
        (attention(7400), "not resolved"),
        # Nothing to set it against
        ([cell for cell in attention(9500) if "scalar" not in cell["variant"]], "does not hold"),
        ([cell for cell in attention(5000) if "scalar" not in cell["variant"]], "not resolved"),
    ],
)
def test_threads_are_set_against_the_other_steps(cells: Cells, verdict: str) -> None:
    assert BY_KEY["threading_in_attention"].evaluate(make_source(cells)).verdict == verdict


def test_a_share_within_the_floor_of_half_is_not_resolved() -> None:
    outcome = BY_KEY["feed_forward_dominates"].evaluate(make_source(feed_forward(254)))
    assert (outcome.verdict, outcome.figures["1B: share"]) == ("not resolved", 0.508)


def test_flash_is_judged_once_a_config() -> None:
    cells = [*flash(1200), make("flash-layernorm", 1200, "Small", seq_len=128)]
    outcome = BY_KEY["flash_never_wins"].evaluate(make_source(cells))
    assert [c.config for c in outcome.comparisons] == ["Small", "7B-4K"]


def test_steps_without_a_floor_are_counted_apart() -> None:
    cells = [*no_floor(1001), make("passes-none", 1000, "Small"), make("passes-fold", 900, "Small")]
    sentence = BY_KEY["published_noise"].evaluate(make_source(cells)).sentence
    assert sentence.startswith("1 of 1 steps are not told from no change (floor 2.0%)")
    assert sentence.endswith("1 more cannot be set against it.")
    assert "At every config" not in sentence

"""What the findings of attribution say of runs whose worths are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
from attribution_samples import make_attribution_rows, make_attribution_run, run_of, usual_value
from test_charts_attribution import COUNTERS, FEW, sampled_run

from ablation_report.findings import FINDINGS, Outcome
from ablation_report.run import Run

BY_KEY = {finding.key: finding for finding in FINDINGS if finding.suite == "attribution"}
QUIET = 0.0005


def additive(point: Mapping[str, int]) -> float:
    """Each factor is worth the same in any order."""
    return math.fsum(0.3 * level for level in point.values())


def costing(point: Mapping[str, int]) -> float:
    """SIMD costs time wherever it is switched on."""
    return 0.4 * point["folding"] + 0.4 * point["threads"] - 0.2 * point["simd"]


def somewhere(point: Mapping[str, int]) -> float:
    """SIMD gains alone, and costs time with threads on."""
    gain = 0.6 * point["simd"] if not point["threads"] else -0.2 * point["simd"]
    return 0.4 * point["folding"] + 1.0 * point["threads"] + gain


def ask(key: str, run: Run) -> Outcome:
    """What a run says of a claim."""
    return BY_KEY[key].evaluate(run)


def few(value: Any, **options: Any) -> Run:
    """A run of three factors of two levels."""
    return make_attribution_run(value, FEW, **({"noise": QUIET} | options))


CASES = {
    "worth_of_each": {
        "holds": few(usual_value),
        "does not hold": few(costing),
        "not resolved": few(usual_value, noise=0.8),
    },
    "order_matters": {
        "holds": few(usual_value),
        "does not hold": few(additive),
        "not resolved": few(usual_value, noise=0.2),
    },
    "same_time": {
        "holds": few(usual_value),
        "does not hold": few(additive),
        "not resolved": few(usual_value, noise=0.2),
    },
    "costs_time": {
        "holds": few(usual_value),
        "does not hold": few(costing),
        "not resolved": few(
            lambda point: 0.01 * point["folding"] - 0.01 * point["simd"], noise=0.2
        ),
    },
}


def counters_only() -> Run:
    """A run that counted and timed nothing."""
    missing = dict.fromkeys(itertools.product((0, 1), repeat=3), "skipped")
    rows = make_attribution_rows(
        usual_value, FEW, missing=missing, counters=lambda point: {**COUNTERS}
    )
    return run_of([row for row in rows if row["details"]], FEW)


def test_every_finding_of_attribution_has_its_cases() -> None:
    assert set(CASES) == set(BY_KEY)


@pytest.mark.parametrize(
    ("key", "verdict"), [(key, verdict) for key, cases in CASES.items() for verdict in cases]
)
def test_a_run_leads_to_the_verdict(key: str, verdict: str) -> None:
    run = CASES[key][verdict]
    outcome = ask(key, run)
    assert outcome.verdict == verdict, outcome.sentence
    assert outcome.sentence.startswith("Toy") and outcome.sentence.endswith(".")
    assert {row["variant"] for row in outcome.rows} == {"base", "top"}
    assert outcome.figures


@pytest.mark.parametrize("key", CASES)
def test_counters_alone_measure_no_finding(key: str) -> None:
    outcome = ask(key, counters_only())
    assert outcome.verdict == "not measured" and not outcome.rows
    assert outcome.sentence == "Not measured: Toy (only counters were recorded, no time)."


@pytest.mark.parametrize("key", CASES)
def test_another_run_measures_no_finding(key: str) -> None:
    rows = make_attribution_rows(usual_value, FEW)
    run = run_of([row | {"details": None} for row in rows], FEW)
    assert ask(key, run).verdict == "not measured"
    assert ask(key, run_of([], FEW)).sentence == "Not measured: no case."


def test_the_worths_are_named_with_their_figures() -> None:
    outcome = ask("worth_of_each", few(usual_value, noise=0.0))
    # 0.4, 0.3 and 0.2, of which the first two share 0.1
    assert outcome.sentence == (
        "Toy: all 3 factors together 2.23x; Threads 1.42x, Folding 1.28x, SIMD 1.22x."
    )
    assert outcome.figures["Toy: Threads"] == pytest.approx(math.exp(0.35), rel=1e-5)
    assert outcome.table is not None
    assert outcome.table.rows[-1] == ["All together", "2.23x"]


def test_factors_that_cost_or_do_nothing_are_named() -> None:
    outcome = ask("worth_of_each", CASES["worth_of_each"]["does not hold"])
    assert "cost time: SIMD 0.82x" in outcome.sentence

    def program(point: Mapping[str, int]) -> Any:
        return tuple(level for name, level in point.items() if name != "simd")

    run = few(lambda point: additive({**point, "simd": 0}), program=program)
    outcome = ask("worth_of_each", run)
    assert outcome.verdict == "holds" and outcome.sentence.endswith("no effect here: SIMD.")
    assert outcome.table is not None
    assert ["SIMD", "no effect"] in [list(row) for row in outcome.table.rows]


def test_the_factor_that_depends_most_has_its_range() -> None:
    outcome = ask("order_matters", few(usual_value, noise=0.0))
    assert outcome.sentence.startswith("Toy: ")
    assert "depends on the order most: 1.22x in one order, 1.35x in another" in outcome.sentence
    assert "a factor of 1.11" in outcome.sentence


@pytest.mark.parametrize("key", ["order_matters", "same_time", "costs_time"])
def test_what_is_not_resolved_is_called_noise(key: str) -> None:
    for verdict, run in CASES[key].items():
        assert ("within the noise" in ask(key, run).sentence) is (verdict == "not resolved")


def test_sampled_orders_are_told() -> None:
    run = sampled_run(noise=QUIET)
    assert "(4 sampled orders)" in ask("order_matters", run).sentence
    outcome = ask("same_time", run)
    assert outcome.sentence == "Not measured: Toy (4 sampled orders)."
    assert ask("worth_of_each", run).verdict == "holds"


def test_the_pair_that_buys_the_same_time_is_named() -> None:
    outcome = ask("same_time", few(usual_value, noise=0.0))
    assert outcome.sentence == (
        "Toy: Folding and Threads gain 0.90 of the product of what each gains alone."
    )
    assert list(outcome.figures) == ["Toy: Folding and Threads"]


def test_a_step_that_costs_in_one_context_alone_is_named() -> None:
    outcome = ask("costs_time", few(somewhere, noise=0.0))
    assert outcome.verdict == "does not hold"
    assert outcome.sentence == "Toy: in some contexts SIMD: simd 0.82x."
    outcome = ask("costs_time", few(costing, noise=0.0))
    assert outcome.sentence == (
        "Toy: over all orders SIMD 0.82x; in some contexts SIMD: simd 0.82x."
    )
    outcome = ask("costs_time", few(usual_value, noise=0.0))
    assert "the smallest gain of a step is" in outcome.sentence


def test_a_case_that_is_too_noisy_says_so() -> None:
    outcome = ask("worth_of_each", CASES["worth_of_each"]["not resolved"])
    assert outcome.sentence.startswith("Toy, too noisy to compare (floor ")


def test_a_missing_program_leaves_the_other_orders() -> None:
    run = few(usual_value, missing={(1, 0, 0): "incorrect"})
    assert ask("worth_of_each", run).verdict == "holds"
    assert "(orders that avoid programs without a time)" in ask("order_matters", run).sentence
    assert ask("same_time", run).verdict == "not measured"
    run = few(usual_value, missing={(0, 0, 0): "incorrect"})
    assert ask("worth_of_each", run).sentence == "Not measured: Toy (base: incorrect, check)."

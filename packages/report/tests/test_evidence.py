"""How often verdicts are wrong: what is counted, and that `stats` keeps to 5 %."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pytest
from samples import make_run, make_timed

from ablation_report.evidence import evidence
from ablation_report.evidence.between import run_pairs, time_spreads
from ablation_report.evidence.candidates import CHOSEN, EARLIER, Candidate, signed_rank_outside
from ablation_report.evidence.picture import draw, rows
from ablation_report.evidence.tables import evidence_tables
from ablation_report.evidence.verdicts import Counted, floor_class, qualities, slowed
from ablation_report.load import gather
from ablation_report.run import Run
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.evidence import NOTHING, evidence_block
from ablation_report.stats import Interval

RUNS = Path(__file__).parents[3] / "data" / "runs"
TWINS = [["a", "a_again"], ["b", "b_again"]]
recorded = pytest.mark.skipif(not RUNS.is_dir(), reason="no recorded runs")


def run_of(seed: int = 0, n: int = 12, spread: float = 0.01, **slower: float) -> Run:
    """A run of two programs, each under two names, and of what else is named with its part."""
    draw = random.Random(seed)
    parts = {"a": 0.0, "a_again": 0.0, "b": 0.0, "b_again": 0.0, **slower}
    return make_run(
        [
            make_timed(
                name,
                [round(1e6 * (1 + part + abs(draw.gauss(0, spread)))) for _ in range(n)],
                parent=None,
            )
            for name, part in parts.items()
        ],
        twins=TWINS,
        baseline="a",
    )


def test_twins_are_judged_by_the_other_twins_alone() -> None:
    # One pair lies far apart: by the other's floor it is called, and its own floor hides nothing
    (quality,) = qualities([run_of(a_again=0.5)], [CHOSEN])
    assert quality.twins == Counted(1, 2)
    (calm,) = qualities([run_of()], [CHOSEN])
    assert calm.twins == Counted(0, 2) and calm.exchanged.n == 40


def test_one_pair_of_twins_tests_nothing() -> None:
    rows = [make_timed(name, [10**6] * 8, parent=None) for name in ("a", "a_again")]
    (quality,) = qualities([make_run(rows, twins=TWINS[:1], baseline="a")], [CHOSEN])
    assert quality.twins == Counted(0, 0) and quality.twins.share is None
    assert quality.power_at(0.1) is None


def test_power_grows_with_what_is_injected_and_falls_with_noise() -> None:
    calm, busy = (
        qualities([run_of(seed, spread=spread) for seed in range(6)], [CHOSEN])[0]
        for spread in (0.005, 0.1)
    )
    powers = [calm.power_at(part) or 0.0 for part in (0.02, 0.05, 0.1, 0.2)]
    assert powers == sorted(powers) and powers[-1] == 1.0
    assert (busy.power_at(0.05) or 0.0) < (calm.power_at(0.05) or 0.0)


def test_a_candidate_that_calls_everything_is_found_out() -> None:
    def certain(times: object, base: object) -> Interval:
        return Interval(2.0, 1.9, 2.1, 10)

    # Its floor is what its twins differ by, which is too much to call anything
    (quality,) = qualities([run_of()], [Candidate("certain", min, certain)])
    assert quality.twins.called == 0
    bold = Candidate("bold", min, lambda t, b: Interval(1.2, 1.19, 1.21, 10) if t else None)
    assert bold.said(Interval(1.2, 1.19, 1.21, 10), 0.01) == "slower"
    assert bold.said(Interval(1.2, 1.19, 1.21, 10), None) == "not resolved"


def test_rows_of_few_rounds_are_not_dealt() -> None:
    few, many = (qualities([run_of(n=n)], [CHOSEN])[0] for n in (11, 12))
    assert few.divided.n == 0 and many.divided.n == 4


def test_the_same_rows_give_the_same_figures() -> None:
    assert qualities([run_of()], [CHOSEN]) == qualities([run_of()], [CHOSEN])


@pytest.mark.parametrize(("floor", "end"), [(0.0, 0.01), (0.01, 0.01), (0.06, 0.1), (0.3, None)])
def test_floors_are_in_classes(floor: float, end: float | None) -> None:
    assert floor_class(floor) == end


def test_a_slowed_ratio_is_one_of_longer_times() -> None:
    assert slowed(Interval(1.0, 0.5, 2.0, 8), 0.5) == Interval(1.5, 0.75, 3.0, 8)


def test_the_earlier_rule_asks_the_estimate_and_counts_the_width() -> None:
    ratio = Interval(1.1, 1.02, 1.2, 10)
    assert EARLIER.said(ratio, 0.05) == "slower" and CHOSEN.said(ratio, 0.05) == "not resolved"
    assert EARLIER.floor([ratio]) == pytest.approx(0.1)
    wide = Interval(1.0, 0.9, 1.2, 10)
    assert EARLIER.floor([wide]) == pytest.approx(0.15) and CHOSEN.floor([wide]) == 0


@pytest.mark.parametrize("n", [6, 7, 10])
def test_ranks_are_summed_as_subsets_say(n: int) -> None:
    sums = [sum(s) for size in range(n + 1) for s in combinations(range(1, n + 1), size)]
    outside = signed_rank_outside(n)

    def chance(most: int) -> float:
        return sum(total <= most for total in sums) / len(sums)

    assert chance(outside) <= 0.025 < chance(outside + 1)
    assert len(sums) == 2**n


def test_two_runs_are_set_beside_each_other() -> None:
    first, second = (run_of(seed, c=0.5, d=0.0) for seed in (1, 2))
    (pair,) = run_pairs([first, second])
    assert pair.contradicted.called == 0 and pair.open_now.n == 2 * 5
    spreads = {each.title: each for each in time_spreads([first, second])}
    assert all(each.n == 6 and each.typical <= each.most for each in spreads.values())
    assert run_pairs([first]) == () and time_spreads([first]) == ()


def test_a_comparison_that_turns_round_is_contradicted() -> None:
    (pair,) = run_pairs([run_of(1, c=0.5), run_of(2, c=-0.5)])
    assert pair.contradicted == Counted(1, pair.contradicted.n)


def test_nothing_recorded_says_nothing() -> None:
    assert evidence_tables(evidence([])) == [] and rows(evidence([])).is_empty()
    assert evidence_block(Inputs(gather(RUNS.parent / "published"))) == NOTHING


@recorded
def test_the_definition_keeps_to_five_percent_on_recorded_rows() -> None:
    found = evidence(gather(RUNS).runs)
    earlier = next(q for q in found.qualities if q.candidate is EARLIER)
    chosen = next(q for q in found.qualities if q.candidate is CHOSEN)
    for counted in (chosen.twins, chosen.exchanged, chosen.divided, chosen.false_same):
        assert counted.n >= 100 and counted.share is not None and counted.share <= 0.05
    assert (chosen.resolved.share or 0) > (earlier.resolved.share or 1)
    assert all((chosen.power_at(p) or 0) > (earlier.power_at(p) or 1) for p in (0.02, 0.1))
    contradicted = sum(pair.contradicted.called for pair in found.pairs)
    assert contradicted <= 0.01 * sum(pair.contradicted.n for pair in found.pairs)
    assert len(evidence_tables(found)) == 4
    assert draw(found)["layer"]

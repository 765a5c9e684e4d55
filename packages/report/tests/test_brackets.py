"""Which step a rung is, and where its figure lies among those of all orders."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attribution_samples import BLOCK_FACTORS, usual_value
from ladder_samples import SIX_FACTORS, ladder_run, lattice_run, naive, rung

from ablation_report.attribution import attributions
from ablation_report.attribution.brackets import INSIDE, NEAR, OUTSIDE, Rung, rungs, shapes_of
from ablation_report.load import read_one
from ablation_report.run import Run

DATA = Path(__file__).parents[3] / "data"
# What the ladder holds: all cores, SIMD, the native loop
ON = {"native_loop": 1, "simd": 1, "threads": 1}
FOLDED = ON | {"folding": 1}
FUSED = FOLDED | {"adds": 1, "attention": 1}


def value(point: Any) -> float:
    """Folding is worth 1.2x alone and 1.5x together with threads."""
    both = point.get("folding", 0) and point.get("threads", 0)
    return float(usual_value(point) * 0 + math.log(1.2) * point.get("folding", 0)) + (
        math.log(1.25) if both else 0.0
    )


@pytest.fixture(scope="module")
def lattice() -> Run:
    """A run of attribution of eight factors."""
    return lattice_run(value)


def ask(lattice: Run, ladder: Run, shapes: dict[str, Any] | None = None) -> dict[str, Rung]:
    """The rungs of a ladder by variant."""
    (found,) = attributions(lattice)
    every = rungs(lattice, found, [ladder], shapes or {}).get(ladder.label, [])
    return {rung.row["variant"]: rung for rung in every}


def step_of(rung: Rung) -> tuple[str, str] | None:
    """The factor and the level of the step that a rung is."""
    if rung.worth is None or rung.step is None:
        return None
    return rung.worth.name, rung.step.level


def test_a_rung_is_the_step_that_changes_what_it_changes(lattice: Run) -> None:
    ladder = ladder_run(
        naive(),
        rung("none", "torch-naive", 1400, ON),
        rung("folded", "none", 1000, FOLDED),
        rung("fused", "folded", 990, FOLDED | {"attention": 1}),
        rung("flash", "fused", 980, FOLDED | {"attention": 2}),
        rung("packed", "flash", 970, FOLDED | {"attention": 2, "packed_weights": 1}),
        rung(
            "shared",
            "packed",
            960,
            {**FOLDED, "attention": 2, "packed_weights": 1, "shared_joins": 1},
        ),
        rung("loop", "folded", 2000, FOLDED | {"native_loop": 0}),
    )
    found = ask(lattice, ladder)
    assert {name: step_of(each) for name, each in found.items()} == {
        "none": None,
        "folded": ("folding", "folded"),
        "fused": ("attention", "fused"),
        "flash": ("attention", "flash"),
        "packed": ("packed_weights", "packed"),
        "shared": ("shared_joins", "on"),
        "loop": ("native_loop", "compiled"),
    }
    assert found["none"].why == "torch-naive stands below it"
    figure = found["folded"].figure
    assert figure is not None and figure.value == pytest.approx(math.log(1.4))
    assert (found["folded"].said, found["folded"].why) == (INSIDE, "")
    # Taken back: the time without the native loop over that with it
    figure = found["loop"].figure
    assert figure is not None and figure.value == pytest.approx(math.log(2))
    assert figure.low <= figure.value <= figure.high


def test_rungs_that_are_a_step_together_are_one(lattice: Run) -> None:
    ladder = ladder_run(
        naive(),
        rung("none", "torch-naive", 1500, ON),
        rung("fold", "none", 1400, ON, passes=("fold_constants",)),
        rung("absorb", "fold", 1000, FOLDED),
    )
    found = ask(lattice, ladder)
    assert step_of(found["fold"]) is None
    assert found["fold"].why == "a part of the step Folding: folded"
    assert step_of(found["absorb"]) == ("folding", "folded")
    assert found["absorb"].over is not None and found["absorb"].over["variant"] == "none"
    figure = found["absorb"].figure
    assert figure is not None and figure.value == pytest.approx(math.log(1.5))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            rung("next", "folded", 900, FUSED),
            "several factors at once: Fused adds, Attention",
        ),
        (
            rung("next", "folded", 900, FOLDED | {"simd": 0, "native_loop": 0}),
            "several factors at once: Native loop, SIMD",
        ),
        (
            rung("next", "folded", 900, FOLDED, kernels={"layer_norm": "layer_norm_scalar"}),
            "a part of the step SIMD: simd",
        ),
        (
            rung("next", "folded", 900, FOLDED, kernels={"layer_norm": "layer_norm_simd"}),
            "other kernels or passes than those of any factor",
        ),
        (
            rung("next", "folded", 900, FOLDED, kernels={"matmul": "numpy"}),
            "other kernels or passes than those of any factor",
        ),
        (rung("next", "folded", 900, FOLDED), "the same program as the rung below it"),
        (rung("next", "gone", 900, FOLDED), "the rung below it has no row"),
    ],
)
def test_a_rung_that_is_no_step_says_why(lattice: Run, changed: dict[str, Any], why: str) -> None:
    found = ask(lattice, ladder_run(naive(), rung("folded", None, 1000, FOLDED), changed))
    assert step_of(found["next"]) is None and found["next"].said is None
    assert found["next"].why == why


def folding(time_ns: int, **changes: Any) -> list[dict[str, Any]]:
    """A ladder of one step, folding on all threads."""
    return [
        rung("none", None, 1000, ON, **changes),
        rung("folded", "none", time_ns, FOLDED, **changes),
    ]


def test_a_figure_lies_inside_near_or_outside(lattice: Run) -> None:
    # The range of folding is 1.2x to 1.5x
    assert ask(lattice, ladder_run(*folding(800)))["folded"].said == INSIDE
    assert ask(lattice, ladder_run(*folding(500)))["folded"].said == OUTSIDE
    assert ask(lattice, ladder_run(*folding(1100)))["folded"].said == OUTSIDE
    twins = [rung("again", None, 1100, ON), *folding(640)]
    near = ladder_run(*twins, twins=[["none", "again"]])
    assert ask(lattice, near)["folded"].said == NEAR
    assert ask(lattice, ladder_run(*folding(640)))["folded"].said == OUTSIDE


def test_what_lies_outside_says_why(lattice: Run) -> None:
    assert ask(lattice, ladder_run(*folding(500)))["folded"].why.startswith("another run")
    mixed = {"kernels": {"layer_norm": "layer_norm_scalar"}}
    found = ask(lattice, ladder_run(*folding(500, **mixed)))["folded"]
    assert found.why == "what else is on there is no program of the lattice"


def test_a_published_rung_is_what_the_recorded_one_of_its_name_is(lattice: Run) -> None:
    recorded = ladder_run(*folding(800))
    plain = {"passes": None, "factors": {"executor": "compiled"}, "threads": None}
    rows = [{**row, **plain, "kernels": {"layer_norm": "simd"}} for row in recorded.rows]
    published = replace(recorded, rows=tuple(rows), is_published=True, name="paper")
    shapes = shapes_of([recorded, published])
    found = ask(lattice, published, shapes)["folded"]
    assert step_of(found) == ("folding", "folded") and found.said == INSIDE
    rows[1]["samples_ns"] = [400] * 12
    far = replace(published, rows=tuple(rows))
    assert ask(lattice, far, shapes)["folded"].why == "measured on another machine"
    rows[1]["kernels"] = {"layer_norm": "scalar"}
    other = replace(published, rows=tuple(rows))
    found = ask(lattice, other, shapes)["folded"]
    assert found.said is None and found.why == "in these rows it changes LayerNorm as well"
    assert ask(lattice, published)["folded"].why != ""


def test_a_rung_without_a_time_has_no_figure(lattice: Run) -> None:
    rows = folding(800)
    rows[1] |= {"samples_ns": None, "sample_rounds": None}
    found = ask(lattice, ladder_run(*rows))["folded"]
    assert (found.figure, found.said, found.why) == (None, None, "no time of both")
    assert step_of(found) == ("folding", "folded")


def test_another_case_or_another_suite_has_no_rungs(lattice: Run) -> None:
    assert ask(lattice, ladder_run(*folding(800, threads=1))) == {}
    assert ask(lattice, ladder_run(*folding(800, dtype="bfloat16"))) == {}
    assert ask(lattice, lattice) == {}


def test_the_recorded_ladder_has_the_steps_that_it_should() -> None:
    (ladder,) = read_one(DATA / "runs" / "2026-11-30-zen4-ladder")
    lattice = lattice_run(usual_value, BLOCK_FACTORS)
    found = {
        name: step
        for name, each in ask(lattice, ladder).items()
        if (step := step_of(each)) is not None
    }
    assert found == {
        "percall-native": ("native_loop", "compiled"),
        "passes-absorb": ("folding", "folded"),
        "passes-matmul-add": ("adds", "fused"),
        "attention-fused-scalar": ("attention", "fused"),
        "attention-flash-parallel": ("attention", "flash"),
        "flash-layernorm": ("attention", "flash"),
        "beyond-packed": ("packed_weights", "packed"),
        "beyond-attention": ("attention", "packed"),
        "beyond-layout": ("layout", "direct"),
        "beyond-qkv": ("layout", "merged"),
        "beyond-rows": ("shared_joins", "on"),
    }


def test_without_a_factor_its_rungs_are_no_steps() -> None:
    factors = {name: SIX_FACTORS[name] for name in ("folding", "simd", "threads")}
    ladder = ladder_run(*folding(800), rung("loop", "folded", 2000, FOLDED | {"native_loop": 0}))
    found = ask(lattice_run(value, factors), ladder)
    assert step_of(found["folded"]) == ("folding", "folded")
    assert step_of(found["loop"]) is None

"""Cases: what they cost, and labels that are the way there and back."""

from __future__ import annotations

from typing import Any

import pytest

from ablation_executor.bench.case import Case, case_of, make_case, parse_custom
from ablation_executor.bench.suites import SUITES, find_suite
from ablation_executor.bench.suites.model.cases import MODULE

SWEEP = find_suite("attention-sweep")


def case(**changes: Any) -> Case:
    sizes = {"B": 2, "H": 3, "Nq": 5, "Nk": 7, "d": 16, "causal": False, **changes}
    return make_case("attention-sweep", "cpu", **sizes)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [(1, 1), (1, 9), (9, 1), (5, 7), (7, 5), (6, 6)])
def test_useful_flops_count_the_pairs_that_are_seen(lengths: tuple[int, int], causal: bool) -> None:
    queries, keys = lengths
    seen = sum(not causal or j <= i for i in range(queries) for j in range(keys))
    shape = case(Nq=queries, Nk=keys, causal=causal)
    assert shape.pairs == seen
    assert shape.flops_useful == 2 * 2 * 2 * 3 * 16 * seen


def test_the_convention_of_flash_attention_halves_a_causal_square() -> None:
    assert case(Nk=5).flops_fa == 4 * 2 * 3 * 5 * 5 * 16
    assert case(Nk=5, causal=True).flops_fa == case(Nk=5).flops_fa // 2


@pytest.mark.parametrize("name", SUITES)
def test_labels_of_every_tier_come_back(name: str) -> None:
    suite = find_suite(name)
    for device in suite.devices:
        for tier in suite.tiers:
            cases = suite.cases(tier, [1, 2], device)
            # Modules are named on the command line
            assert cases or tier == MODULE
            assert len({one.label for one in cases}) == len(cases)
            for one in cases:
                assert case_of(one.label) == one
                assert Case.from_dict(one.to_dict()) == one


def test_a_label_has_every_field() -> None:
    shape = make_case(
        "attention-parts",
        "sweep",
        (1, 4, 1024, 512, 32),
        dtype="bfloat16",
        causal=True,
        threads=8,
        Br=256,
        scale=1.0,
        inputs="ramp",
        safe=False,
    )
    assert shape.label == (
        "attention-parts/sweep causal B1 H4 Q1024 K512 d32 bfloat16 t8 cpu "
        "Br=256 inputs=ramp safe=false scale=1.0"
    )
    assert case_of(shape.label) == shape
    assert shape.scale == 1.0
    assert shape.get("safe") is False
    assert case().scale == 0.25


@pytest.mark.parametrize(
    "changes",
    [
        {"B": 0},
        {"dtype": "float8"},
        {"device": "tpu"},
        {"text": "1"},
        {"text": "two words"},
        {"no name": 1},
    ],
)
def test_what_a_label_could_not_carry_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        case(**changes)


def test_sizes_are_sorted_pairs() -> None:
    with pytest.raises(ValueError, match="not sorted pairs"):
        Case("attention-sweep", "cpu", (("b", 1), ("a", 2)))
    with pytest.raises(AttributeError, match="has no Nq"):
        _ = make_case("block", "configs", config="Toy").Nq


@pytest.mark.parametrize(
    "label", ["", "cpu", "a/b full B1", "a/b none B1 H1 Q1 K1 d1 float32 t1 cpu"]
)
def test_what_is_no_label_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="no label"):
        case_of(label)


def test_sizes_given_on_the_command_line() -> None:
    custom = parse_custom("100:200")
    assert custom.shape == (1, 12, 100, 200, 64)
    assert custom.name == "100:200:64:12:1"
    assert parse_custom(custom.name) == custom
    assert parse_custom("7:9:80:2:3").shape == (3, 2, 7, 9, 80)
    for one in SWEEP.custom_cases(custom, [1], "cpu") or []:
        assert case_of(one.label) == one


@pytest.mark.parametrize("text", ["100", "0:5", "5:", "5:x", "1:2:3:4:5:6", "1:2:0", "-1:5"])
def test_sizes_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="accepted: Q:K"):
        parse_custom(text)

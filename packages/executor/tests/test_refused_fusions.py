"""The examples of refused fusions: each is refused by the pass that it names, and by no other."""

from __future__ import annotations

import numpy as np
import pytest
from small_graphs import inputs_of

from ablation_executor.interpreter import interpret
from ablation_executor.passes import PASSES, optimize
from ablation_executor.refused_fusions import EXAMPLES, RefusedFusion


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.what)
def test_the_pass_refuses_it_with_a_reason(example: RefusedFusion) -> None:
    graph, place = example.run()
    assert example.pass_name in PASSES
    assert place.left and place.left_bytes > 0
    assert len(place.reason.removeprefix(f"{example.pass_name}: ").split()) > 2
    inputs = inputs_of(graph)
    after, _ = optimize(graph)
    for want, got in zip(interpret(graph, inputs), interpret(after, inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_reasons_differ_and_names_do() -> None:
    reasons = [example.run()[1].reason for example in EXAMPLES]
    assert len(set(reasons)) == len(EXAMPLES)
    assert len({example.what for example in EXAMPLES}) == len(EXAMPLES)


def test_every_kind_of_place_has_an_example() -> None:
    kinds = {example.run()[1].kind for example in EXAMPLES}
    assert kinds == {"attention", "norm", "gate", "linear"}


def test_an_example_that_fuses_is_told() -> None:
    """What a pass learns to fuse is no example any more."""
    wrong = RefusedFusion("linear", "fuse_attention", "", EXAMPLES[-1].build)
    with pytest.raises(ValueError, match="linear: fuse_attention refuses 0 places, not 1"):
        wrong.run()

"""The examples of refused fusions: each is refused by the pass that it names, each reason once."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from small_graphs import inputs_of

from ablation_executor import passes
from ablation_executor.interpreter import interpret
from ablation_executor.ir import Graph
from ablation_executor.passes import PASSES, optimize
from ablation_executor.refused_fusions import EXAMPLES, RefusedFusion
from ablation_executor.rewrite import Place

SOURCES = [
    path
    for path in sorted(Path(inspect.getfile(passes)).parent.glob("*.py"))
    if path.stem != "_places"
]
#: A reason is a sentence; fewer words are the name of something.
LEAST_WORDS = 4
#: Several passes may give this one.
READ_ELSEWHERE = r".+\ is\ also\ read\ by\ .+"


def reasons_of(path: Path) -> Iterator[str]:
    """The sentences that functions of a source return, as patterns: .+ for what the graph says."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Return) or node.value is None:
            continue
        for part in choices(node.value):
            text = pattern_of(named.get(part.id, part) if isinstance(part, ast.Name) else part)
            if len(text.split()) >= LEAST_WORDS:
                yield text


def choices(value: ast.expr) -> list[ast.expr]:
    """The expressions of which one is the value."""
    return [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]


def pattern_of(value: ast.expr) -> str:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return re.escape(value.value)
    if isinstance(value, ast.JoinedStr):
        return "".join(
            re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+"
            for part in value.values
        )
    return ""


@cache
def run(example: RefusedFusion) -> tuple[Graph, Place]:
    """Run an example, once for all tests."""
    return example.run()


def printed(example: RefusedFusion) -> str:
    """The reason of an example, without the name of its pass."""
    return run(example)[1].reason.removeprefix(f"{example.pass_name}: ")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.what)
def test_the_pass_refuses_it_with_a_reason(example: RefusedFusion) -> None:
    graph, place = run(example)
    assert example.pass_name in PASSES
    assert place.left and place.left_bytes > 0
    inputs = inputs_of(graph)
    after, _ = optimize(graph)
    for want, got in zip(interpret(graph, inputs), interpret(after, inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_each_reason_of_the_passes_has_an_example() -> None:
    """A reason without an example cannot happen, or nobody knows when it does."""
    reasons = {READ_ELSEWHERE, *(reason for path in SOURCES for reason in reasons_of(path))}
    found: Counter[tuple[str, str]] = Counter()
    without = []
    for example in EXAMPLES:
        matching = [reason for reason in reasons if re.fullmatch(reason, printed(example))]
        without += [] if matching else [printed(example)]
        found.update((example.pass_name, reason) for reason in matching)
    assert {reason for _, reason in found} == reasons
    assert set(found.values()) == {1}
    assert without == [
        # What places say where no rule does
        "the softmax is read by mul, not by a product",
        "the nearest pattern is rms_norm, x * rsqrt(mean(x * x) + eps) * weight",
        "no pass joins sigmoid and a product",
    ]
    assert len({example.what for example in EXAMPLES}) == len(EXAMPLES)


def test_every_kind_of_place_has_an_example() -> None:
    kinds = {run(example)[1].kind for example in EXAMPLES}
    assert kinds == {"attention", "rotation", "norm", "activation", "gate", "linear"}


def test_an_example_that_fuses_is_told() -> None:
    """What a pass learns to fuse is no example any more."""
    wrong = RefusedFusion("fuse_attention", "linear", "", EXAMPLES[-1].build)
    with pytest.raises(ValueError, match="linear: fuse_attention refuses 0 places, not 1"):
        wrong.run()

"""Attention by other runtimes, where these are installed: right, and wrong without the mask."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from ablation_executor.bench.case import make_case
from ablation_executor.bench.runtimes import missing_reason
from ablation_executor.bench.suites.attention_sweep import SUITE, runtimes
from ablation_executor.bench.suites.attention_sweep.variants import RUNTIME_NAMES, RUNTIMES

CASE = make_case("attention-sweep", "cpu", (1, 2, 70, 45, 16), causal=True)


class Echo:
    """A runtime that calls the function of a model in NumPy."""

    def build(self, model: Any, options: Any = None) -> Any:
        """Call the module's own attention."""
        from ablation_executor.bench.runtimes.adapter import Runner, as_tensors

        module, given = model.make_module(), as_tensors(model.inputs)
        return Runner(lambda _: module(*given), lambda result: result.numpy())


@pytest.mark.parametrize("name", ["jax", "openvino"])
def test_a_runtime_that_is_installed_is_right(name: str) -> None:
    """Those that build in a second; the others take the same path, and the league's tests."""
    if missing_reason(name):
        pytest.skip(f"{name} is not installed")
    SUITE.start(name, 1)
    program = SUITE.load(name, CASE, 0).build(name)
    assert program.probe().reason is None
    verdict = program.check(["fwd"], None)
    assert verdict.reason is None and set(verdict.errors) == {"o"}
    assert program.memory("fwd")["tracked_peak"] is None


@pytest.mark.parametrize("defect", ["none", "mask", "scale"])
def test_a_runtime_that_is_wrong_fails_the_probe(
    defect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = runtimes.make_module

    def make_wrong(case: Any) -> Any:
        changes: dict[str, dict[str, Any]] = {
            "none": {},
            "mask": {"causal": False},
            "scale": {"scale": 1.0},
        }
        return made(case.with_sizes(**changes[defect]))

    monkeypatch.setattr(runtimes, "make_module", make_wrong)
    program = runtimes.RuntimeAttention(Echo(), CASE, 0)  # type: ignore[arg-type]
    assert (program.probe().reason is None) == (defect == "none")


def test_what_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    package = "ablation_executor.bench.suites.attention_sweep.variants"
    monkeypatch.setattr(f"{package}.missing_reason", lambda name: f"{name}: pip install")
    for variant in RUNTIMES:
        refusal = SUITE.supports(variant, CASE)
        assert refusal is not None and refusal.reason == "not_installed"
    assert set(RUNTIME_NAMES) < {variant.name for variant in SUITE.variants("cpu")}
    assert not set(RUNTIME_NAMES) & {variant.name for variant in SUITE.variants("cuda")}

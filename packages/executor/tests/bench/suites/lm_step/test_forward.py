"""The forward of lm-step outside PyTorch."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from ablation_executor.bench.suites.lm_step import SUITE
from ablation_executor.bench.suites.lm_step import forward as lm_forward
from ablation_executor.bench.suites.lm_step.forward import ForwardProgram, mean_cross_entropy
from ablation_executor.bench.suites.lm_step.model import make_model
from ablation_executor.bench.suites.lm_step.program import StepProgram
from ablation_executor.bench.suites.lm_step.sizes import (
    forward_needs,
    model_shape,
    needs,
)
from ablation_report.rows import CATEGORIES

from .conftest import small_case
from .test_suite import VARIANTS, course_case


def test_the_forward_outside_torch_is_right() -> None:
    case = small_case()
    program = ForwardProgram(case, 0)
    assert program.probe().reason is None
    verdict = program.check(["fwd_nograd"], None)
    assert verdict.reason is None and set(verdict.errors) == {"loss", "logits"}
    program.start_timing("fwd_nograd")
    expected = StepProgram("sdpa", False, case, 0).call("fwd_nograd", None).item()
    for _ in range(3):
        assert program.call("fwd_nograd", None).item() == pytest.approx(expected, rel=1e-6)
    facts = program.facts("fwd_nograd")
    assert facts["kernels"]["attention"].startswith("attention_flash")
    assert facts["memory"] == {
        "arena": program._forward.program.arena_bytes,
        "packed": program._forward.program.packed_weights_bytes,
    }
    details = facts["details"]
    assert {name: len(times) for name, times in details["forward_parts_ns"].items()} == {
        "embedding": 3,
        "program": 3,
        "loss": 3,
    }
    assert details["first_loss"] == pytest.approx(expected, rel=1e-6)
    assert details["n_params"] == model_shape(case).n_params


def test_no_weights_of_torch_live_beside_the_packed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def watched(*arguments: Any) -> Any:
        model = make_model(*arguments)
        made.append(weakref.ref(model.blocks[0].feed_forward.w1.weight.untyped_storage()))
        made.append(weakref.ref(model.head.weight))
        return model

    monkeypatch.setattr(lm_forward, "make_model", watched)
    program = ForwardProgram(small_case(), 0)
    gc.collect()
    assert len(made) == 2 and [reference() for reference in made] == [None, None]
    kept = program.facts("fwd_nograd")["details"]["mem_weights_bytes"]
    weights = 4 * model_shape(small_case()).n_params
    # Panels are filled up, which at this size is much
    assert weights <= kept < 3 * weights


def test_needs_of_the_forward_hold_what_it_keeps() -> None:
    case = small_case(d_ff=256, layers=3, vocab=512)
    forward = ForwardProgram(case, 0)._forward
    kept = forward.weights_bytes + forward.buffer_bytes + forward.program.arena_bytes
    assert 0.5 * kept < forward_needs(case).resident_bytes
    large = course_case("small")
    assert forward_needs(large).resident_bytes > needs(large, "sdpa", "fwd_nograd").resident_bytes
    assert SUITE.needs(VARIANTS["ablation_fwd"], large, "fwd_nograd") == forward_needs(large)


def test_memory_of_the_forward_counts_arena_and_arrays() -> None:
    program = ForwardProgram(small_case(), 0)
    columns = program.memory("fwd_nograd")
    forward = program._forward
    counted = forward.buffer_bytes + forward.program.arena_bytes
    # The loss is returned as well
    assert columns["tracked_peak"] == counted + 8
    assert "arena" in columns["method"]


@pytest.mark.parametrize("change", ["embedding", "logits", "targets", "weights"])
def test_a_wrong_forward_fails_probe_and_check(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = ForwardProgram(small_case(), 0)
    forward = program._forward
    if change == "embedding":
        forward.embedding = forward.embedding[::-1].copy()
        assert program.check(["fwd_nograd"], None).reason is not None
        return
    if change == "logits":
        monkeypatch.setattr(
            lm_forward, "mean_cross_entropy", lambda logits, _: float(np.log(logits.shape[1]))
        )
    elif change == "targets":
        forward._targets = np.roll(forward._targets, 1)
    else:
        made = lm_forward.build

        def other(model: Any, batch: int) -> Any:
            with torch.no_grad():
                model.blocks[0].feed_forward.w3.weight.mul_(1.01)
            return made(model, batch)

        monkeypatch.setattr(lm_forward, "build", other)
        program = ForwardProgram(small_case(), 0)
    if change != "targets":
        assert program.probe().reason is not None
    assert program.check(["fwd_nograd"], None).reason is not None


@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_cross_entropy_where_shares_underflow(spread: float) -> None:
    generator = np.random.default_rng(3)
    logits = (spread * generator.standard_normal((67, 101))).astype(np.float32)
    targets = generator.integers(101, size=67)
    wide = logits.astype(np.float64)
    rows = wide - wide[np.arange(67), targets][:, None]
    expected = np.logaddexp.reduce(rows, axis=-1).mean()
    assert mean_cross_entropy(logits.copy(), targets) == pytest.approx(expected, rel=1e-6)
    logits[5, 7] = np.nan
    assert math.isnan(mean_cross_entropy(logits, targets))


def test_the_parts_of_a_profile_add_up() -> None:
    program = ForwardProgram(small_case(), 0)
    profile = program.profile("fwd_nograd", 3)
    assert len(profile.times_ns) == len(profile.total_ns) == 3
    assert [profile.ops[0]["name"], profile.ops[-1]["name"]] == ["embedding", "loss"]
    assert {op["category"] for op in profile.ops} <= set(CATEGORIES)
    assert {"attention", "linear", "layer_norm"} <= {op["category"] for op in profile.ops}
    for times, total in zip(profile.times_ns, profile.total_ns, strict=True):
        assert len(times) == len(profile.ops)
        assert 0 < sum(times) <= total

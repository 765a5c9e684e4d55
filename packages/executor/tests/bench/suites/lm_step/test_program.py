"""The programs of lm-step that train: right in every phase, and wrong where they are broken."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from ablation_executor.bench.suite import Program
from ablation_executor.bench.suites.lm_step import checks as lm_checks
from ablation_executor.bench.suites.lm_step import make_program
from ablation_executor.bench.suites.lm_step import model as lm_model
from ablation_executor.bench.suites.lm_step.program import StepProgram
from ablation_executor.bench.suites.lm_step.sizes import (
    PHASES,
    UNFUSED,
    model_shape,
)
from ablation_executor.bench.suites.lm_step.warm_up import FreshProgram

from .conftest import small_case


@pytest.mark.parametrize("autocast", ["none", "bfloat16"])
@pytest.mark.parametrize("attention", [UNFUSED, "sdpa", "ablation"])
def test_a_program_is_right_in_every_phase(attention: str, autocast: str) -> None:
    case = small_case(autocast=autocast)
    program = make_program(attention, case, 0)
    for phase in PHASES:
        program.call(phase, program.prepare(phase))
    assert program.probe().reason is None
    verdict = program.check(PHASES, None)
    assert verdict.reason is None
    assert set(verdict.errors) == {"loss", "grad"}
    assert set(program.check(["fwd_nograd"], None).errors) == {"loss"}
    program.start_timing("step")
    for _ in range(3):
        program.call("step", program.prepare("step"))
    details = program.facts("step")["details"]
    assert {name: len(times) for name, times in details["parts_ns"].items()} == dict.fromkeys(
        ("zero_grad", "fwd", "bwd", "opt"), 3
    )
    n_params = model_shape(case).n_params
    assert details["n_params"] == n_params
    assert details["mem_weights_bytes"] == details["mem_grads_bytes"] == 4 * n_params
    # Two moments, and a count of steps for each parameter
    assert 8 * n_params < details["mem_opt_bytes"] < 8 * n_params + 4096
    assert details["last_loss"] < details["first_loss"]
    assert (details["bfloat16"] is None) == (autocast == "none")
    is_ours = attention == "ablation" and autocast == "bfloat16"
    assert ("attention_bf16" in str(program.facts("step").get("kernels"))) == is_ours
    forward = program.facts("fwd_nograd")["details"]
    assert forward["mem_grads_bytes"] is forward["mem_opt_bytes"] is forward["parts_ns"] is None


def test_a_backward_gives_the_gradients_of_a_fresh_graph() -> None:
    program = StepProgram("sdpa", False, small_case(), 0)
    first = [grad.clone() for grad in program.call("bwd", program.prepare("bwd"))]
    again = program.call("bwd", program.prepare("bwd"))
    whole = program.call("fwd_bwd", program.prepare("fwd_bwd"))
    # Not added to those of the call before
    for one, other, third in zip(first, again, whole, strict=True):
        assert torch.allclose(one, other, atol=1e-7)
        assert torch.allclose(one, third, atol=1e-7)


def test_memory_of_a_phase_is_that_of_a_call_without_gradients_before() -> None:
    case = small_case()
    program = StepProgram("sdpa", False, case, 0)
    gradients = 4 * model_shape(case).n_params
    forward, step = program.memory("fwd_grad"), program.memory("step")
    assert 0 < forward["saved"] < 1.1 * forward["before_bwd"]
    assert step["saved"] is None
    # What the forward left is in part given back before the last gradient is there
    assert step["tracked_peak"] > gradients
    # The one before has left its gradients, and they count no second time
    again = program.memory("step")
    assert again["tracked_peak"] == step["tracked_peak"]


def test_a_check_after_steps_is_of_the_initial_weights() -> None:
    program = StepProgram("sdpa", False, small_case(), 0)
    before = program.call("fwd_nograd", None).item()
    for _ in range(5):
        program.call("step", program.prepare("step"))
    assert program.call("fwd_nograd", None).item() < before
    assert program.check(PHASES, None).reason is None
    assert program.call("fwd_nograd", None).item() == before


def test_what_a_wrong_step_left_is_not_blamed_on_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    program = StepProgram("sdpa", False, small_case(), 0)
    monkeypatch.setattr(program, "_is_compiled", True)
    program.call("step", program.prepare("step"))
    with torch.no_grad():
        program._model.head.weight.fill_(math.nan)
    assert program.probe().reason is None


def without_mask(q: Any, k: Any, v: Any) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def of_another_head(q: Any, k: Any, v: Any) -> Any:
    return lm_model.sdpa(q, k.roll(1, dims=1), v)


def not_a_number(q: Any, k: Any, v: Any) -> Any:
    return lm_model.sdpa(q, k, v) * math.nan


def without_gradient_of_keys(q: Any, k: Any, v: Any) -> Any:
    return lm_model.sdpa(q, 0.999 * k.detach() + 0.001 * k, v)


@pytest.mark.parametrize(
    "wrong", [without_mask, of_another_head, not_a_number, without_gradient_of_keys]
)
def test_a_wrong_attention_fails_probe_and_check(
    wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = {**lm_model.ATTENTIONS, "sdpa": wrong}
    monkeypatch.setattr(lm_model, "ATTENTIONS", replaced)
    monkeypatch.setattr(lm_checks, "ATTENTIONS", replaced)
    program = StepProgram("sdpa", False, small_case(), 0)
    assert program.probe().reason is not None
    assert program.check(PHASES, None).reason is not None
    if wrong is without_gradient_of_keys:
        # Only a gradient shows it
        assert program.check(["fwd_nograd"], None).reason is None


def test_weights_far_from_their_start_fail_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    program = StepProgram("sdpa", False, small_case(), 0)
    with torch.no_grad():
        program._model.head.weight.mul_(20)
    verdict = program.check(PHASES, None)
    assert verdict.reason is not None and "the first loss is" in verdict.reason


def test_training_that_goes_astray_is_an_error() -> None:
    program = StepProgram("sdpa", False, small_case(), 0)
    with torch.no_grad():
        program._model.head.weight.fill_(math.inf)
    program.start_timing("step")
    program.call("step", program.prepare("step"))
    with pytest.raises(ArithmeticError, match="the loss after 1 timed steps is nan"):
        program.facts("step")


def test_a_compiled_program_is_right_and_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs and gradients as ever, without the minute that the C++ compiler would take."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    program = make_program("sdpa_compiled", small_case(layers=1), 0)
    program.compile()
    assert program.probe().reason is None
    assert program.check(PHASES, None).reason is None
    for phase in PHASES:
        program.start_timing(phase)
        for _ in range(2):
            program.call(phase, program.prepare(phase))
        counts = program.facts(phase)["details"]
        assert (counts["graph_breaks"], counts["recompiles_timed"]) == (0, 0)


def test_gradients_that_do_not_fit_leave_the_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))

    def fails(message: str) -> Any:
        def backward(self: Any) -> None:
            raise RuntimeError(message)

        return backward

    program = make_program("sdpa_compiled", small_case(layers=1), 0)
    monkeypatch.setattr(
        torch.Tensor, "backward", fails("DefaultCPUAllocator: can't allocate memory")
    )
    program.compile()
    assert program.check(["fwd_nograd"], None).reason is None
    monkeypatch.setattr(torch.Tensor, "backward", fails("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        program.compile()


def test_a_study_of_warm_up_counts_the_calls_of_each_process() -> None:
    case = small_case(study_warmup=2)
    program: Program = FreshProgram("sdpa", case, 0)
    assert program.check(PHASES, None).reason is None
    program.start_timing("step")
    for _ in range(2):
        program.call("step", program.prepare("step"))
    calls = program.facts("step")["details"]["calls_ns"]
    assert [len(times) for times in calls] == [3, 3]
    assert min(map(min, calls)) > 0
    assert program.facts("fwd_nograd")["details"]["calls_ns"] is None

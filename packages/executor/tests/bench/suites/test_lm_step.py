"""lm-step: its cases and predictions, and its programs right and wrong."""

from __future__ import annotations

import functools
import gc
import math
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch.utils.flop_counter import FlopCounterMode

from ablation_executor.bench.suites import language_model, lm_forward, lm_program
from ablation_executor.bench.suites.case import Case, make_case, parse_label
from ablation_executor.bench.suites.language_model import make_batch, make_model, next_token_loss
from ablation_executor.bench.suites.lm_forward import ForwardProgram, mean_cross_entropy
from ablation_executor.bench.suites.lm_program import StepProgram
from ablation_executor.bench.suites.lm_sizes import (
    PHASES,
    UNFUSED,
    forward_needs,
    model_flops,
    model_shape,
    needs,
    saved_bytes,
)
from ablation_executor.bench.suites.lm_step import SUITE, parallel_implementation
from ablation_executor.bench.suites.lm_warm_up import FreshProgram
from ablation_executor.bench.suites.memory import saved_tensors
from ablation_executor.bench.suites.suite import Implementation, Program

GIB = 1 << 30
WAYS = {way.name: way for way in SUITE.implementations("cpu")}


def small_case(**changes: Any) -> Case:
    """A model of 23 000 parameters, on one thread."""
    parameters = {"size": "test", "d_ff": 48, "layers": 2, "vocab": 61, "autocast": "none"}
    shape = (2, 2, 24, 24, 16)
    return make_case("lm-step", "tiny", shape, causal=True, **{**parameters, **changes})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: at these sizes others would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def course_case(size: str, tier: str = "course") -> Case:
    """The case of a size without autocast."""
    cases = SUITE.cases(tier, [2], "cpu")
    return next(c for c in cases if (c.get("size"), c.get("autocast")) == (size, "none"))


def test_labels_parse_back_and_tell_the_year_of_the_table() -> None:
    cases = [case for tier in SUITE.tiers for case in SUITE.cases(tier, [1, 2], "cpu")]
    assert len(set(cases)) == len(cases)
    for case in cases:
        assert parse_label(case.label) == case
        assert ("2025" in case.get("size")) == (case.get("table_year") == 2025)
    assert {"size=xl-2025", "table_year=2025"} <= set(course_case("xl-2025").label.split())


def test_every_tier_says_what_its_cases_are() -> None:
    for tier in SUITE.tiers:
        assert {case.tier for case in SUITE.cases(tier, [2], "cpu")} == {tier}
    published = {case.get("size"): case for case in SUITE.cases("published", [2], "cpu")}
    largest = published["8-512-768-12-12"]
    assert (largest.B, largest.Nq, largest.H, largest.d) == (8, 512, 12, 64)
    assert (largest.get("layers"), largest.get("d_ff"), largest.get("vocab")) == (12, 3072, 50257)
    contexts = {case.Nq for case in SUITE.cases("course-1024", [2], "cpu")}
    assert contexts == {1024}


def test_the_parent_loads_no_framework() -> None:
    code = "import sys; from ablation_executor.bench.suites.lm_step import SUITE; "
    code += "case = SUITE.cases('course', [1], 'cpu')[0]; "
    code += "[SUITE.needs(w, case, p) for w in SUITE.implementations('cpu') for p in w.phases]; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_memory_predicted_for_the_sizes_of_the_course() -> None:
    """Weights, gradients and two moments; 24 GiB hold the forward of 2.7B and no step of xl."""
    sdpa = WAYS["sdpa"]
    for size, weights_gib in (("small", 0.48), ("xl-2025", 7.44), ("2.7B-2025", 12.69)):
        case = course_case(size)
        forward, step = (SUITE.needs(sdpa, case, phase) for phase in ("fwd_nograd", "step"))
        assert forward.resident_bytes / GIB == pytest.approx(weights_gib, abs=0.005)
        assert step.resident_bytes == 4 * forward.resident_bytes
    assert SUITE.needs(sdpa, course_case("2.7B-2025"), "fwd_nograd").total_bytes < 16 * GIB
    assert SUITE.needs(sdpa, course_case("xl-2025"), "fwd_bwd").total_bytes < 24 * GIB
    assert SUITE.needs(sdpa, course_case("xl-2025"), "step").total_bytes > 24 * GIB


def test_phases_need_more_and_more() -> None:
    for case in (small_case(), small_case(autocast="bfloat16"), course_case("small")):
        totals = [needs(case, "sdpa", p).total_bytes for p in ("fwd_nograd", "fwd_grad", "step")]
        assert totals == sorted(totals)
        assert needs(case, UNFUSED, "fwd_grad").total_bytes > totals[1]


@pytest.mark.parametrize("attention", [UNFUSED, "sdpa"])
def test_saved_bytes_are_estimated_from_what_autograd_saves(attention: str) -> None:
    case = small_case(d_ff=256, layers=3)
    program = StepProgram(attention, False, case, 0)
    inputs = [*program._parameters, *program._batch]
    saved = saved_tensors(lambda _: program.call("fwd_grad", None), lambda: None, inputs)
    assert saved <= 1.1 * saved_bytes(case, attention)
    assert saved >= 0.6 * saved_bytes(case, attention)


@pytest.mark.parametrize(("phase", "times"), [("fwd_nograd", 1), ("bwd", 2), ("fwd_bwd", 3)])
def test_flops_are_those_of_the_products(phase: str, times: int) -> None:
    """PyTorch counts every pair of attention; ours are those that the mask leaves."""
    case = small_case()
    model = make_model(model_shape(case), UNFUSED, 0)
    inputs, targets = make_batch(model_shape(case), case.B, 0)
    with FlopCounterMode(display=False) as counter:
        loss = next_token_loss(model(inputs), targets)
        forward = counter.get_total_flops()
        loss.backward()
    counted = {1: forward, 2: counter.get_total_flops() - forward, 3: counter.get_total_flops()}
    hidden = 4 * case.B * case.H * case.d * (case.Nq**2 - case.pairs) * case.get("layers")
    assert model_flops(case, phase) == counted[times] - times * hidden


def refusal(name: str, case: Case) -> tuple[str, str] | None:
    found = SUITE.supports(WAYS[name], case)
    return None if found is None else (found.status, found.reason)


def test_what_is_refused() -> None:
    assert refusal("ablation", small_case()) is None
    assert refusal("ablation", small_case(autocast="bfloat16")) is None
    assert refusal("ablation_compiled", small_case(device="cuda")) == ("unsupported", "no_kernel")
    assert refusal("ablation_fwd", small_case(autocast="bfloat16")) == ("unsupported", "no_kernel")
    assert refusal("ablation_fwd", small_case(device="cuda")) == ("unsupported", "no_kernel")
    assert refusal("ablation_fwd", small_case()) is None
    assert refusal("sdpa", small_case(autocast="bfloat16")) is None
    assert refusal("data_parallel_1", small_case()) == ("skipped", "policy")
    parallel = SUITE.cases("parallel", [1], "cpu")[0]
    assert refusal("data_parallel_1", parallel) is None
    assert refusal("sdpa", parallel) == ("skipped", "policy")
    many = parallel_implementation(100_000)
    found = SUITE.supports(many, parallel)
    assert found is not None and "100000 threads" in found.text
    study = SUITE.cases("warm-up", [1], "cpu")[0]
    assert refusal(UNFUSED, study) == ("skipped", "policy")
    assert refusal("sdpa", study) is None


def test_a_quick_run_compiles_once() -> None:
    compiled = [
        (way.name, case.get("autocast"))
        for case in SUITE.quick_cases([1], "cpu")
        for way in WAYS.values()
        if way.origin == "inductor"
        and (SUITE.supports(way, case) or SUITE.quick_refusal(way, case)) is None
    ]
    assert compiled == [("sdpa_compiled", "none")]


def test_processes_need_their_weights_and_a_copy_of_the_gradients_each() -> None:
    case = SUITE.cases("parallel", [1], "cpu")[0]
    one, two = (SUITE.needs(parallel_implementation(n), case, "step") for n in (1, 2))
    assert two.resident_bytes == 2 * one.resident_bytes
    assert one.resident_bytes == 5 * model_shape(case).weights_bytes


@pytest.mark.parametrize("autocast", ["none", "bfloat16"])
@pytest.mark.parametrize("attention", [UNFUSED, "sdpa", "ablation"])
def test_a_program_is_right_in_every_phase(attention: str, autocast: str) -> None:
    case = small_case(autocast=autocast)
    program = SUITE.load(attention, case, 0)
    for phase in PHASES:
        program.call(phase, program.prepare(phase))
    assert program.probe().reason is None
    verdict = program.check(PHASES)
    assert verdict.reason is None
    assert set(verdict.errors) == {"loss", "grad"}
    assert set(program.check(["fwd_nograd"]).errors) == {"loss"}
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
    assert 0 < forward["mem_saved_bytes"] < 1.1 * forward["mem_before_bwd_bytes"]
    assert step["mem_saved_bytes"] is None
    # What the forward left is in part given back before the last gradient is there
    assert step["mem_tracked_peak_bytes"] > gradients
    # The one before has left its gradients, and they count no second time
    again = program.memory("step")
    assert again["mem_tracked_peak_bytes"] == step["mem_tracked_peak_bytes"]


def test_a_check_after_steps_is_of_the_initial_weights() -> None:
    program = StepProgram("sdpa", False, small_case(), 0)
    before = program.call("fwd_nograd", None).item()
    for _ in range(5):
        program.call("step", program.prepare("step"))
    assert program.call("fwd_nograd", None).item() < before
    assert program.check(PHASES).reason is None
    assert program.call("fwd_nograd", None).item() == before


def test_what_a_wrong_step_left_is_not_blamed_on_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    program = StepProgram("sdpa", False, small_case(), 0)
    monkeypatch.setattr(program, "_is_compiled", True)
    program.call("step", program.prepare("step"))
    with torch.no_grad():
        program._model.head.weight.fill_(math.nan)
    assert program.probe().reason is None


def test_the_forward_outside_torch_is_right_and_has_one_phase() -> None:
    way = WAYS["ablation_fwd"]
    assert way.phases == ("fwd_nograd",) and way.origin == "ablation"
    names = list(WAYS)
    assert names.index("ablation_fwd") == names.index("ablation") + 1
    case = small_case()
    program = SUITE.load("ablation_fwd", case, 0)
    assert program.probe().reason is None
    verdict = program.check(way.phases)
    assert verdict.reason is None and set(verdict.errors) == {"loss", "logits"}
    program.start_timing("fwd_nograd")
    expected = StepProgram("sdpa", False, case, 0).call("fwd_nograd", None).item()
    for _ in range(3):
        assert program.call("fwd_nograd", None).item() == pytest.approx(expected, rel=1e-6)
    facts = program.facts("fwd_nograd")
    assert "attention_flash_packed_simd_parallel" in facts["kernels"] or "accelerate" in str(
        facts["kernels"]
    )
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
    assert SUITE.needs(WAYS["ablation_fwd"], large, "fwd_nograd") == forward_needs(large)


def test_memory_of_the_forward_counts_arena_and_arrays() -> None:
    program = ForwardProgram(small_case(), 0)
    columns = program.memory("fwd_nograd")
    forward = program._forward
    counted = forward.buffer_bytes + forward.program.arena_bytes
    # The loss is returned as well
    assert columns["mem_tracked_peak_bytes"] == counted + 8
    assert "arena" in columns["mem_method"]


@pytest.mark.parametrize("change", ["embedding", "logits", "targets", "weights"])
def test_a_wrong_forward_fails_probe_and_check(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = ForwardProgram(small_case(), 0)
    forward = program._forward
    if change == "embedding":
        forward.embedding = forward.embedding[::-1].copy()
        assert program.check(["fwd_nograd"]).reason is not None
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
    assert program.check(["fwd_nograd"]).reason is not None


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


def without_mask(q: Any, k: Any, v: Any) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def of_another_head(q: Any, k: Any, v: Any) -> Any:
    return language_model.sdpa(q, k.roll(1, dims=1), v)


def not_a_number(q: Any, k: Any, v: Any) -> Any:
    return language_model.sdpa(q, k, v) * math.nan


def without_gradient_of_keys(q: Any, k: Any, v: Any) -> Any:
    return language_model.sdpa(q, 0.999 * k.detach() + 0.001 * k, v)


@pytest.mark.parametrize(
    "wrong", [without_mask, of_another_head, not_a_number, without_gradient_of_keys]
)
def test_a_wrong_attention_fails_probe_and_check(
    wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = {**language_model.ATTENTIONS, "sdpa": wrong}
    monkeypatch.setattr(language_model, "ATTENTIONS", replaced)
    monkeypatch.setattr(lm_program, "ATTENTIONS", replaced)
    program = StepProgram("sdpa", False, small_case(), 0)
    assert program.probe().reason is not None
    assert program.check(PHASES).reason is not None
    if wrong is without_gradient_of_keys:
        # Only a gradient shows it
        assert program.check(["fwd_nograd"]).reason is None


def test_weights_far_from_their_start_fail_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    program = StepProgram("sdpa", False, small_case(), 0)
    with torch.no_grad():
        program._model.head.weight.mul_(20)
    verdict = program.check(PHASES)
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
    program = SUITE.load("sdpa_compiled", small_case(layers=1), 0)
    program.compile()
    assert program.probe().reason is None
    assert program.check(PHASES).reason is None
    for phase in PHASES:
        program.start_timing(phase)
        for _ in range(2):
            program.call(phase, program.prepare(phase))
        facts = program.facts(phase)
        assert (facts["graph_breaks"], facts["recompiles_timed"]) == (0, 0)


def test_gradients_that_do_not_fit_leave_the_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))

    def fails(message: str) -> Any:
        def backward(self: Any) -> None:
            raise RuntimeError(message)

        return backward

    program = SUITE.load("sdpa_compiled", small_case(layers=1), 0)
    monkeypatch.setattr(
        torch.Tensor, "backward", fails("DefaultCPUAllocator: can't allocate memory")
    )
    program.compile()
    assert program.check(["fwd_nograd"]).reason is None
    monkeypatch.setattr(torch.Tensor, "backward", fails("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        program.compile()


def test_a_study_of_warm_up_counts_the_calls_of_each_process() -> None:
    case = small_case(study_warmup=2)
    program: Program = FreshProgram("sdpa", case, 0)
    assert program.check(PHASES).reason is None
    program.start_timing("step")
    for _ in range(2):
        program.call("step", program.prepare("step"))
    calls = program.facts("step")["details"]["calls_ns"]
    assert [len(times) for times in calls] == [3, 3]
    assert min(map(min, calls)) > 0
    assert program.facts("fwd_nograd")["details"]["calls_ns"] is None


def test_implementations_have_distinct_names_and_say_what_they_are() -> None:
    assert len(WAYS) == len(SUITE.implementations("cpu"))
    assert all(isinstance(way, Implementation) and way.what for way in WAYS.values())
    assert SUITE.baseline in WAYS

"""Attention forward and backward: right where it is right, wrong where it is broken, and the memory
of a graph in units of the scores."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from ablation_executor.bench.case import Case, case_of, make_case
from ablation_executor.bench.memory import c10_trace
from ablation_executor.bench.suite import Variant
from ablation_executor.bench.suites.attention.gradients import attention_reference, make_inputs
from ablation_executor.bench.suites.attention_backward import NAME, SUITE, programs
from ablation_executor.bench.suites.attention_backward.programs import AttentionProgram, Form
from ablation_executor.bench.suites.attention_backward.variants import (
    ABLATION,
    BWD,
    BWD_SUM,
    COMPILED_SUFFIX,
    COURSE,
    FWD,
    FWD_NOGRAD,
    PHASES,
    SDPA,
    SOFTMAX,
    TRITON,
    VARIANTS,
    saved_bytes,
)

EAGER = (COURSE, SOFTMAX, SDPA, ABLATION)
BY_NAME = {variant.name: variant for variant in VARIANTS}
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler for torch.compile"
)


def small(length: int, head_dim: int = 16, causal: bool = True, batch: int = 2) -> Case:
    shape = (batch, 1, length, length, head_dim)
    return make_case(NAME, "causal" if causal else "full", shape, causal=causal, threads=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the cases say."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_reference_in_blocks_is_autograd_over_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ablation_executor.bench.suites.attention.gradients.BLOCK_SCORES", 7 * 50)
    for causal in (False, True):
        case = make_case(NAME, "test", (2, 1, 40, 50, 8), causal=causal)
        q, k, v, grad = (tensor.double() for tensor in make_inputs(case, 3))
        found = attention_reference(q, k, v, causal=causal, scale=case.scale, grad=grad)
        leaves = [tensor.requires_grad_() for tensor in (q, k, v)]
        scores = torch.einsum("bqd,bkd->bqk", q, k) * case.scale
        if causal:
            visible = torch.ones(40, 50, dtype=torch.bool).tril()
            scores = scores.masked_fill(~visible, -torch.inf)
        output = torch.einsum("bqk,bkd->bqd", scores.softmax(-1), v)
        expected = (output, *torch.autograd.grad(output, leaves, grad))
        for name, tensor in zip(("o", "dq", "dk", "dv"), expected, strict=True):
            torch.testing.assert_close(found[name], tensor.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", EAGER)
def test_a_program_is_right(name: str, causal: bool) -> None:
    program = AttentionProgram(name, small(96, causal=causal), seed=1)
    for verdict in (program.probe(), program.check(PHASES, None)):
        assert verdict.reason is None
        assert set(verdict.errors) == set(verdict.limits) == {"o", "dq", "dk", "dv"}
        assert all(0 < verdict.errors[key] <= verdict.limits[key] for key in verdict.errors)


def test_gradients_are_compared_only_where_some_are_timed() -> None:
    program = AttentionProgram(SOFTMAX, small(32), seed=1)
    assert set(program.check((FWD, FWD_NOGRAD), None).errors) == {"o"}
    assert set(program.check((FWD, BWD), None).errors) == {"o", "dq", "dk", "dv"}


def test_phases_give_what_they_say() -> None:
    program = AttentionProgram(SDPA, small(32), seed=1)
    with_graph, without = (program.call(phase, None) for phase in (FWD, FWD_NOGRAD))
    assert with_graph.requires_grad and not without.requires_grad
    for phase in (BWD, BWD_SUM):
        # A graph serves one backward: a second call has a graph of its own.
        for _ in range(2):
            gradients = program.call(phase, program.prepare(phase))
            assert [tuple(gradient.shape) for gradient in gradients] == [(2, 32, 16)] * 3


@needs_compiler
def test_compiled_is_right_and_not_compiled_again() -> None:
    program = AttentionProgram(COURSE + COMPILED_SUFFIX, small(64), seed=1)
    program.compile()
    assert program.probe().reason is None
    assert program.check(PHASES, None).reason is None
    for phase in PHASES:
        program.start_timing(phase)
        program.call(phase, program.prepare(phase))
        counts = program.facts(phase)["details"]
        assert counts["recompiles_timed"] == 0
        assert counts["graph_breaks"] == 0
        assert counts["lowered_to_sdpa"] == 0


class DenseGradient(torch.autograd.Function):
    """The identity, whose backward reads the first elements of memory as if they were dense."""

    @staticmethod
    def forward(context: Any, x: Any) -> Any:
        """The same values."""
        return x.clone()

    @staticmethod
    def backward(context: Any, grad: Any) -> Any:
        """Right for a dense gradient alone."""
        dense = grad.is_contiguous()
        return grad if dense else torch.full_like(grad, 0.5).contiguous()


class HalfGradient(torch.autograd.Function):
    """The identity with half its gradient."""

    @staticmethod
    def forward(context: Any, x: Any) -> Any:
        """The same values."""
        return x.clone()

    @staticmethod
    def backward(context: Any, grad: Any) -> Any:
        """Half of it."""
        return grad / 2


def broken(defect: str) -> Callable[[Case], Form]:
    """Attention with one defect; with "none" it has none."""

    def make(case: Case) -> Form:
        def forward(q: Any, k: Any, v: Any) -> Any:
            if defect == "wrong_head":
                k = k.roll(1, dims=0)
            if defect == "half_dk":
                k = HalfGradient.apply(k)
            scores = q @ k.mT * (1.0 if defect == "scale_missing" else case.scale)
            if case.causal and defect != "causal_ignored":
                offset = case.Nk - case.Nq if defect == "bottom_right" else 0
                visible = torch.ones(case.Nq, case.Nk, dtype=torch.bool).tril(offset)
                scores = torch.where(visible, scores, -torch.inf)
            if defect == "last_block_dropped" and case.Nk > 16:
                whole = (case.Nk - 1) // 16 * 16
                scores, v = scores[..., :whole], v[:, :whole]
            if defect == "no_maximum":
                weights = torch.exp(scores)
                weights = weights / weights.sum(-1, keepdim=True)
            else:
                weights = torch.softmax(scores, -1)
            output = weights @ v
            if defect == "dense_gradient":
                output = DenseGradient.apply(output)
            return output * 0 if defect == "zeros" else output

        return Form(forward)

    return make


DEFECTS = (
    *("zeros", "wrong_head", "causal_ignored", "bottom_right", "scale_missing", "no_maximum"),
    *("last_block_dropped", "half_dk", "dense_gradient"),
)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_fails_the_probe(monkeypatch: pytest.MonkeyPatch, defect: str) -> None:
    monkeypatch.setitem(programs.FORMS, SOFTMAX, broken(defect))
    assert AttentionProgram(SOFTMAX, small(40), seed=0).probe().reason is not None


def test_without_a_defect_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(programs.FORMS, SOFTMAX, broken("none"))
    program = AttentionProgram(SOFTMAX, small(40), seed=0)
    assert program.probe().reason is program.check(PHASES, None).reason is None


def memory_of(name: str, case: Case, phase: str = FWD) -> dict[str, Any]:
    return AttentionProgram(name, case, seed=0).memory(phase)


@pytest.mark.parametrize("causal", [False, True])
def test_unfused_graphs_keep_whole_scores(causal: bool) -> None:
    case = small(512, causal=causal)
    unit, rows = case.scores_bytes, case.B * case.Nq
    # Of a row also its sum (4 bytes) and the place of its maximum (8); a number for the scale.
    course = memory_of(COURSE, case)["saved"] - 2 * unit
    assert 12 * rows <= course <= 12 * rows + 16
    softmax = memory_of(SOFTMAX, case)["saved"] - unit
    assert 0 <= softmax <= 16
    assert saved_bytes(COURSE, case) == 2 * unit
    assert saved_bytes(SOFTMAX, case) == unit


@pytest.mark.parametrize("name", [SDPA, ABLATION])
def test_flash_graphs_keep_the_output_and_a_number_for_each_query(name: str) -> None:
    case = small(512)
    entries = memory_of(name, case)
    assert entries["saved"] == case.B * case.Nq * (case.d + 1) * 4
    assert entries["saved"] == entries["details"]["mem_saved_predicted_bytes"]
    if name == SDPA:
        assert entries["before_bwd"] == entries["saved"]


def test_the_published_memory_is_three_times_what_a_graph_keeps() -> None:
    entries = memory_of(COURSE, small(1024))
    published = entries["details"]["mem_published_style_bytes"]
    assert published / entries["saved"] == pytest.approx(3.0, abs=0.1)


def test_what_only_the_process_sees_is_null_without_it() -> None:
    details = memory_of(ABLATION, small(64))["details"]
    assert details["mem_published_style_bytes"] is None
    assert "MALLOC_" in details["mem_published_style_reason"]


def test_a_quick_run_compiles_once() -> None:
    (short, longer) = SUITE.quick_cases([2], "cpu")
    compiled = [variant for variant in VARIANTS if variant.origin == "inductor"]
    left = [
        (variant.name, case.Nq)
        for variant in compiled
        for case in (short, longer)
        if SUITE.quick_refusal(variant, case) is None
    ]
    assert left == [(COURSE + COMPILED_SUFFIX, 1024)]
    assert not SUITE.measures_memory(short, is_quick=True)
    assert SUITE.measures_memory(short, is_quick=False)


def test_memory_of_other_phases_tells_no_graph() -> None:
    entries = memory_of(SOFTMAX, small(64), FWD_NOGRAD)
    assert entries["saved"] is entries["before_bwd"] is None
    assert "mem_published_style_bytes" not in entries["details"]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", [COURSE, SOFTMAX, SDPA])
def test_predicted_memory_is_what_a_call_takes(name: str, phase: str) -> None:
    case = small(1024, causal=False)
    program = AttentionProgram(name, case, seed=0)
    needs = SUITE.needs(BY_NAME[name], case, phase)
    peak = c10_trace(lambda _: program.call(phase, program.prepare(phase))).peak_bytes
    assert peak == pytest.approx(needs.transient_bytes, rel=0.03)


def test_the_grid_is_the_published_one() -> None:
    causal = SUITE.cases("causal", [2], "cpu")
    assert len(causal) == 20 and all(case.causal and case.B == 8 for case in causal)
    assert {case.d for case in causal} == {16, 32, 64, 128}
    assert max(case.Nq for case in causal) == 16384
    assert not any(case.causal for case in SUITE.cases("full", [2], "cpu"))
    quick = SUITE.quick_cases([2], "cpu")
    assert [(case.Nq, case.d) for case in quick] == [(256, 64), (1024, 64)]
    for case in (*causal, *quick):
        assert case_of(case.label) == case


def refused(name: str, device: str) -> str | None:
    case = make_case(NAME, "causal", (8, 1, 256, 256, 64), causal=True, device=device)
    refusal = SUITE.supports(BY_NAME[name], case)
    return refusal.status if refusal else None


def test_what_cannot_run_here_is_unsupported() -> None:
    assert refused(TRITON, "cpu") == "unsupported"
    assert refused(ABLATION, "cuda") == "unsupported"
    assert refused(SDPA, "cpu") is None


def test_a_backward_has_twice_the_operations() -> None:
    case = small(64)
    forward, backward = (SUITE.flops(case, phase) for phase in (FWD, BWD))
    assert forward.useful == case.flops_useful == 4 * 2 * 16 * (64 * 65 // 2)
    assert backward.useful == 2 * forward.useful
    assert forward.convention is not None and backward.convention == 2.5 * forward.convention


def test_unfused_scores_of_a_long_sequence_do_not_fit_where_tiles_do() -> None:
    case = make_case(NAME, "causal", (8, 1, 4096, 4096, 64), causal=True)
    room = 1 << 30

    def needed(variant: Variant) -> int:
        return max(SUITE.needs(variant, case, phase).total_bytes for phase in PHASES)

    assert needed(BY_NAME[COURSE]) > room > needed(BY_NAME[SDPA])
    assert needed(BY_NAME[ABLATION]) < room

"""The four teaching forms: right where they are right, wrong where they are broken, their scratch
to the byte, and tables of operations that add up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import ablation_kernels
from ablation_executor.bench.case import Case, CustomTier, case_of
from ablation_executor.bench.suites.attention_parts import SUITE
from ablation_executor.bench.suites.attention_parts.cases import BLOCKS, course_case
from ablation_executor.bench.suites.attention_parts.op_tables import RANGE, lines_of_spans
from ablation_executor.bench.suites.attention_parts.programs import TeachingProgram, make_program
from ablation_executor.bench.suites.attention_parts.variants import (
    FLASH_COURSE,
    FORMS,
    NAIVE,
    SDPA_FLASH,
    SDPA_MATH,
    VARIANTS,
)
from ablation_kernels import teaching

BY_NAME = {variant.name: variant for variant in VARIANTS}
LINE_KEYS = {
    *("name", "self_cpu_share", "self_cpu_ns", "cpu_total_share", "cpu_total_ns", "cpu_avg_ns"),
    *("cpu_mem_bytes", "self_cpu_mem_bytes", "calls"),
}
MOST_THREADS = min(2, ablation_kernels.get_num_threads())


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """One, as most cases here say."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_case(threads: int = 1, **changes: Any) -> Case:
    tiles = {"block_q": 32, "block_k": 16, **changes}
    return course_case("course", threads, 80, 16, **tiles)


def scratch_by_hand(form: str, case: Case) -> int:
    """The published formulas, for each worker, where there is work for every thread."""
    n, d = case.Nq, case.d
    rows, keys = (min(int(case.get(name)), n) for name in ("block_q", "block_k"))
    floats: dict[str, int] = {
        "naive": n * n,
        "blocked": n * n,
        "fused_row": n,
        "flash": 3 * rows * d + 2 * keys * d + 2 * rows * keys + n + 3 * rows,
    }
    return 4 * case.threads * floats[form]


@pytest.mark.parametrize("changes", [{}, {"softmax": "unsafe"}, {"inputs": "ramp"}], ids=str)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_program_is_right(name: str, changes: dict[str, Any]) -> None:
    program = make_program(name, small_case(**changes), seed=1)
    assert program.probe().reason is None
    verdict = program.check(("fwd",), None)
    assert verdict.reason is None
    assert 0 < verdict.errors["o"] <= verdict.limits["o"]


@pytest.mark.parametrize("threads", sorted({1, MOST_THREADS}))
@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("name", FORMS)
def test_scratch_is_the_formula(name: str, blocks: tuple[int, int], threads: int) -> None:
    rows, keys = blocks
    case = course_case("blocks", threads, 300, 16, block_q=rows, block_k=keys)
    program = make_program(name, case, seed=0)
    program.call("fwd", None)
    assert program.arena_bytes is not None
    assert program.arena_bytes() == scratch_by_hand(FORMS[name], case)


@pytest.mark.parametrize("threads", sorted({1, MOST_THREADS}))
def test_the_courses_case_has_the_published_bytes(threads: int) -> None:
    case = course_case("course", threads)
    scratch, published = {}, {}
    for name in FORMS:
        entries = make_program(name, case, seed=0).memory("fwd")
        scratch[name] = entries["scratch"]
        published[name] = entries["details"]["published_style_mem_bytes"]
        assert entries["details"]["published_style_ns"] > 0
        assert entries["out"] == 524288
        assert entries["tracked_peak"] == 524288 + scratch[name]
    assert list(scratch.values()) == [
        *(4194304 * threads, 4194304 * threads, 4096 * threads, 695296 * threads)
    ]
    assert list(published.values()) == [4718592, 4718592, 524288 + 4096 * threads, 524288]


def test_what_pytorch_leaves_is_the_output() -> None:
    case = small_case()
    for name in (SDPA_MATH, SDPA_FLASH):
        entries = make_program(name, case, seed=0).memory("fwd")
        assert entries["out"] == case.output_bytes
    flash = entries["details"]["published_style_mem_bytes"]
    # Its log-sum-exp is dropped with the call that asked for no gradient.
    assert case.output_bytes <= flash <= case.output_bytes + 4 * case.H * case.Nq


def broken_attention(defect: str) -> Any:
    """Attention in NumPy with one defect, called as the kernels are; with "none" it has none."""

    def attention(q: Any, k: Any, v: Any, *, scale: float, softmax: str, **options: Any) -> Any:
        if defect == "wrong_head":
            k, v = (np.broadcast_to(array[:, :1], array.shape) for array in (k, v))
        scores = q.astype(np.float64) @ k.swapaxes(-1, -2)
        scores = scores * (1.0 if defect == "scale_missing" else scale)
        if defect == "last_block_dropped" and k.shape[2] > options["block_k"]:
            whole = (k.shape[2] - 1) // options["block_k"] * options["block_k"]
            scores, v = scores[..., :whole], v[:, :, :whole]
        if softmax == "safe" and defect != "no_maximum":
            scores = scores - scores.max(-1, keepdims=True)
        with np.errstate(all="ignore"):
            weights = np.exp(scores.astype(np.float32))
            output = (weights / weights.sum(-1, keepdims=True) @ v).astype(np.float32)
        if defect == "zeros":
            output = np.zeros_like(output)
        return teaching.TeachingResult(output, 1, 1, None)

    return attention


DEFECTS = ("zeros", "wrong_head", "scale_missing", "last_block_dropped", "no_maximum")


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_fails_the_probe(monkeypatch: pytest.MonkeyPatch, defect: str) -> None:
    on_probe, _ = reasons(monkeypatch, defect, small_case(scale=0.25))
    assert on_probe is not None


def reasons(monkeypatch: pytest.MonkeyPatch, defect: str, case: Case) -> list[str | None]:
    """The reasons of probe and check of a form with a defect."""
    monkeypatch.setattr(teaching, "attention", broken_attention(defect))
    program = TeachingProgram(NAIVE, case, seed=0)
    return [program.probe().reason, program.check(("fwd",), None).reason]


def test_without_a_defect_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reasons(monkeypatch, "none", small_case(scale=0.25)) == [None, None]


def test_inputs_that_are_the_same_in_all_heads_hide_a_wrong_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Why checks do not rest on the course's ramps: a form that gives every query the keys of
    head 0 passes on them, and fails on the random inputs that the probes always have."""
    on_probe, on_ramp = reasons(monkeypatch, "wrong_head", small_case(inputs="ramp"))
    assert on_ramp is None
    assert on_probe is not None
    _, on_random = reasons(monkeypatch, "wrong_head", small_case(inputs="randn"))
    assert on_random is not None


@pytest.mark.parametrize("name", BY_NAME)
def test_a_table_of_operations_adds_up(name: str) -> None:
    details = make_program(name, small_case(), seed=0).facts("fwd")["details"]
    table = details["op_table"]
    assert all(set(line) == LINE_KEYS for line in table)
    root = next(line for line in table if line["name"] in (name, RANGE))
    self_ns = sum(line["self_cpu_ns"] for line in table)
    assert self_ns == pytest.approx(root["cpu_total_ns"], rel=0.02)
    assert sum(line["self_cpu_share"] for line in table) == pytest.approx(1.0)
    assert all(line["self_cpu_ns"] <= line["cpu_total_ns"] for line in table)
    assert details["op_table_with_ns"] > 0 and details["op_table_without_ns"] > 0


@pytest.mark.parametrize(
    ("name", "spans"),
    [(NAIVE, {"qk", "softmax", "pv"}), (FLASH_COURSE, {"qk", "softmax", "pv", "rescale", "copy"})],
)
def test_lines_of_a_form_are_its_spans(name: str, spans: set[str]) -> None:
    case = small_case()
    table = make_program(name, case, seed=0).facts("fwd")["details"]["op_table"]
    assert table[0]["name"] == name
    assert table[0]["cpu_mem_bytes"] == case.output_bytes
    assert {line["name"] for line in table[1:]} == spans
    assert all(line["cpu_mem_bytes"] is None for line in table[1:])
    tiles = case.H * 3 * 5
    if name == FLASH_COURSE:
        assert next(line for line in table if line["name"] == "qk")["calls"] == tiles


def test_lines_of_pytorch_name_its_operators() -> None:
    table = make_program(SDPA_MATH, small_case(), seed=0).facts("fwd")["details"]["op_table"]
    names = {line["name"] for line in table}
    assert {RANGE, "aten::_scaled_dot_product_attention_math", "aten::bmm"} <= names


def test_a_line_has_what_its_spans_leave() -> None:
    spans = teaching.Spans(
        100,
        {
            "qk": teaching.SpanTime(60, 2),
            "other": teaching.SpanTime(10, 1),
            "pv": teaching.SpanTime(30, 3),
        },
    )
    root, first, second = lines_of_spans("form", spans, 8)
    assert (root["self_cpu_ns"], root["cpu_total_ns"], root["cpu_total_share"]) == (10, 100, 1.0)
    assert (first["name"], first["cpu_avg_ns"], first["self_cpu_share"]) == ("qk", 30, 0.6)
    assert (second["name"], second["cpu_avg_ns"], second["calls"]) == ("pv", 10, 3)


def test_facts_have_the_scratch_by_count_and_by_formula() -> None:
    case = small_case()
    program = TeachingProgram(FLASH_COURSE, case, seed=0)
    facts = program.facts("fwd")
    expected = scratch_by_hand("flash", case)
    assert facts["memory"]["scratch"] == facts["details"]["scratch_formula_bytes"] == expected


def test_tiers_hold_the_sweep() -> None:
    by_tier = {tier: SUITE.cases(tier, [2], "cpu") for tier in SUITE.tiers}
    counts = {tier: len(cases) for tier, cases in by_tier.items()}
    assert counts == {"course": 2, "lengths": 28, "blocks": 12, "inputs": 16, "odd": 2}
    for cases in by_tier.values():
        assert {case.threads for case in cases} == {1, 2}
        assert all(case_of(case.label) == case for case in cases)
    (default,) = SUITE.cases("course", [1], "cpu")
    assert (default.B, default.H, default.Nq, default.d, default.scale) == (1, 4, 1024, 32, 1.0)
    quick = SUITE.quick_cases([2], "cpu")
    assert [(case.tier, case.threads) for case in quick] == [
        *(("course", 1), ("odd", 1), ("course", 2), ("odd", 2))
    ]


def test_what_a_variant_cannot_do_is_refused() -> None:
    (rectangle, *_) = SUITE.custom_cases(CustomTier(64, 80), [1], "cpu") or []
    refusal = SUITE.supports(BY_NAME[NAIVE], rectangle)
    assert refusal is not None and (refusal.status, refusal.reason) == ("unsupported", "shape")
    assert SUITE.supports(BY_NAME[SDPA_FLASH], rectangle) is None
    unsafe = small_case(softmax="unsafe")
    refusal = SUITE.supports(BY_NAME[SDPA_MATH], unsafe)
    assert refusal is not None and refusal.status == "skipped"
    assert SUITE.supports(BY_NAME[NAIVE], unsafe) is None


def test_predicted_memory_follows_the_threads() -> None:
    one = course_case("course", 1)
    two = dataclasses.replace(one, threads=2)
    needs = [SUITE.needs(BY_NAME[NAIVE], case, "fwd").transient_bytes for case in (one, two)]
    assert needs == [524288 + 4194304, 524288 + 2 * 4194304]

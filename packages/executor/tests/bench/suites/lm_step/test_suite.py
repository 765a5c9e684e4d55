"""lm-step: its cases, what they need and what is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode

from ablation_executor.bench.case import Case, case_of
from ablation_executor.bench.memory import saved_tensors
from ablation_executor.bench.suites.lm_step import SUITE
from ablation_executor.bench.suites.lm_step.model import make_batch, make_model, next_token_loss
from ablation_executor.bench.suites.lm_step.program import StepProgram
from ablation_executor.bench.suites.lm_step.sizes import (
    UNFUSED,
    model_flops,
    model_shape,
    needs,
    saved_bytes,
)
from ablation_executor.bench.suites.lm_step.variants import parallel_variant

from .conftest import small_case

GIB = 1 << 30
VARIANTS = {variant.name: variant for variant in SUITE.variants("cpu")}


def course_case(size: str, tier: str = "course") -> Case:
    """The case of a size without autocast."""
    cases = SUITE.cases(tier, [2], "cpu")
    return next(c for c in cases if (c.get("size"), c.get("autocast")) == (size, "none"))


def test_labels_parse_back_and_tell_the_year_of_the_table() -> None:
    cases = [case for tier in SUITE.tiers for case in SUITE.cases(tier, [1, 2], "cpu")]
    assert len(set(cases)) == len(cases)
    for case in cases:
        assert case_of(case.label) == case
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


def test_memory_predicted_for_the_sizes_of_the_course() -> None:
    """Weights, gradients and two moments; 24 GiB hold the forward of 2.7B and no step of xl."""
    sdpa = VARIANTS["sdpa"]
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
    found = SUITE.supports(VARIANTS[name], case)
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
    many = parallel_variant(100_000)
    found = SUITE.supports(many, parallel)
    assert found is not None and "100000 threads" in found.text
    study = SUITE.cases("warm-up", [1], "cpu")[0]
    assert refusal(UNFUSED, study) == ("skipped", "policy")
    assert refusal("sdpa", study) is None


def test_a_quick_run_compiles_once() -> None:
    compiled = [
        (variant.name, case.get("autocast"))
        for case in SUITE.quick_cases([1], "cpu")
        for variant in VARIANTS.values()
        if variant.origin == "inductor"
        and (SUITE.supports(variant, case) or SUITE.quick_refusal(variant, case)) is None
    ]
    assert compiled == [("sdpa_compiled", "none")]


def test_processes_need_their_weights_and_a_copy_of_the_gradients_each() -> None:
    case = SUITE.cases("parallel", [1], "cpu")[0]
    one, two = (SUITE.needs(parallel_variant(n), case, "step") for n in (1, 2))
    assert two.resident_bytes == 2 * one.resident_bytes
    assert one.resident_bytes == 5 * model_shape(case).weights_bytes


def test_variants_have_distinct_names_and_say_what_they_are() -> None:
    assert len(VARIANTS) == len(SUITE.variants("cpu"))
    assert all(variant.what for variant in VARIANTS.values())
    assert SUITE.baseline in VARIANTS
    forward = VARIANTS["ablation_fwd"]
    assert forward.phases == ("fwd_nograd",) and forward.origin == "ablation"

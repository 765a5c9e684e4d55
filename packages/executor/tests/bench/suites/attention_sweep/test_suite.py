"""attention-sweep: its tiers and refusals, its reference, and its programs against it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ablation_kernels
from ablation_executor.bench.case import Case, make_case
from ablation_executor.bench.suite import Program
from ablation_executor.bench.suites.attention.check import (
    attention_reference,
    make_inputs,
    sampled_rows,
)
from ablation_executor.bench.suites.attention_sweep import SUITE
from ablation_executor.bench.suites.attention_sweep.bfloat16 import FLASH_BF16, NATIVE
from ablation_executor.bench.suites.attention_sweep.variants import (
    FLASH,
    attention_kernels,
    products,
)
from ablation_executor.bench.suites.pytorch import triton_refusal

CASE = make_case("attention-sweep", "cpu", (2, 2, 300, 45, 16), causal=True)
EAGER = ("torch_unfused_einsum", "torch_unfused_lse", "torch_sdpa_flash", "torch_sdpa_math")
VARIANTS = {variant.name: variant for variant in SUITE.variants("cpu")}


def test_the_reference_at_sampled_rows_of_a_long_sequence() -> None:
    rows = sampled_rows(CASE, 0)
    assert (rows[0], rows[-1], len(rows)) == (0, 299, 64)
    q, k, v = inputs = make_inputs(CASE, 0)
    out, lse = attention_reference(CASE, inputs, rows)
    for place, row in enumerate(rows):
        seen = min(row + 1, 45)
        scores = np.float64(k[1, 0, :seen]) @ q[1, 0, row] * 0.25
        expected = np.exp(scores) @ v[1, 0, :seen] / np.exp(scores).sum()
        np.testing.assert_allclose(out[1, 0, place], expected, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(lse[1, 0, place], np.log(np.exp(scores).sum()), rtol=1e-12)


def test_inputs_differ_by_head_and_not_by_mask() -> None:
    q, k, _ = make_inputs(CASE, 0)
    assert not np.array_equal(q[0, 0], q[0, 1])
    assert not np.array_equal(q[0, 0], q[1, 0])
    full = make_inputs(dataclasses.replace(CASE.with_sizes(causal=False), threads=2), 0)
    assert np.array_equal(full[1], k)
    assert not np.array_equal(make_inputs(CASE, 1)[0], q)


def test_tiers_are_those_that_are_documented() -> None:
    paper = SUITE.cases("paper", [2], "cpu")
    assert [case.Nq for case in paper] == [2048, 4096, 8192, 16384]
    assert {(case.B, case.H, case.d, case.causal) for case in paper} == {(4, 12, 64, True)}
    assert {case.dtype for case in SUITE.cases("paper", [2], "cuda")} == {"float16"}
    assert len(SUITE.cases("cpu", [1, 2], "cpu")) == 2 * 2 * 5
    assert len(SUITE.cases("crossover", [1], "cpu")) == 2 * 3 * 7
    quick = SUITE.quick_cases([1], "cpu")
    assert {case.tier for case in quick} == {"cpu", "rect", "odd"}
    assert max(case.Nq for case in quick) <= 1024


def test_kernels_of_the_table_are_measured_by_name() -> None:
    assert attention_kernels()[FLASH] == "attention_flash_packed_simd_parallel"
    assert {"ablation_flash", "attention_fused_scalar", "ablation_unfused"} <= set(VARIANTS)
    assert "ablation_unfused" in products()


def refusal(name: str, case: Case) -> str | None:
    found = SUITE.supports(VARIANTS[name], case)
    return None if found is None else f"{found.status}/{found.reason}"


def test_what_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    short = dataclasses.replace(CASE, dtype="bfloat16")
    assert refusal(FLASH, short) == "unsupported/dtype_not_accelerated"
    assert refusal(FLASH, CASE) is None
    half = dataclasses.replace(CASE, dtype="float16")
    long = SUITE.cases("paper", [1], "cpu")[-1]
    assert refusal("attention_fused_scalar", long) == "skipped/policy"
    package = "ablation_executor.bench.suites"
    monkeypatch.setattr(f"{package}.pytorch.find_spec", lambda name: object())
    assert refusal("torch_sdpa_flash", half) == "unsupported/dtype_not_accelerated"
    assert refusal("triton_flash", CASE) == "unsupported/no_triton_driver"
    on_gpu = dataclasses.replace(CASE, device="cuda")
    assert triton_refusal(on_gpu) is None
    monkeypatch.setattr(f"{package}.pytorch.find_spec", lambda name: None)
    assert refusal("triton_flash", on_gpu) == "unsupported/no_triton"
    monkeypatch.setattr(f"{package}.pytorch.find_spec", lambda name: None)
    assert refusal("torch_sdpa_flash", CASE) == "unsupported/no_torch"
    monkeypatch.setattr(f"{package}.pytorch.find_spec", lambda name: object())
    monkeypatch.setattr(f"{package}.pytorch.shutil.which", lambda name: None)
    assert refusal("torch_flex_compiled", CASE) == "unsupported/no_compiler"


def test_whole_scores_need_what_they_take() -> None:
    needs = SUITE.needs(VARIANTS["ablation_unfused"], CASE, "fwd")
    assert needs.resident_bytes >= CASE.scores_bytes + CASE.input_bytes
    flash = SUITE.needs(VARIANTS[FLASH], CASE.with_sizes(Nq=8192, Nk=8192), "fwd")
    large = CASE.with_sizes(Nq=8192, Nk=8192)
    assert (
        flash.total_bytes
        < SUITE.needs(VARIANTS["torch_unfused_lse"], large, "fwd").total_bytes / 10
    )


def test_bfloat16_has_a_kernel_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    short = dataclasses.replace(CASE, dtype="bfloat16")
    assert refusal(FLASH_BF16, CASE) == "unsupported/dtype_not_accelerated"
    for used, expected in (*((name, None) for name in NATIVE), ("avx2", "unsupported/isa")):
        monkeypatch.setattr(ablation_kernels, "attention_bf16_instruction_set", lambda u=used: u)
        assert refusal(FLASH_BF16, short) == expected
    needs = SUITE.needs(VARIANTS[FLASH_BF16], short, "fwd")
    assert needs.resident_bytes == short.input_bytes
    assert needs.transient_bytes > short.output_bytes
    cases = {(case.dtype, case.Nq, case.causal) for case in SUITE.cases("half", [1], "cpu")}
    assert cases == {
        ("bfloat16", 1024, False),
        ("bfloat16", 1024, True),
        ("bfloat16", 4096, True),
        ("float16", 1024, True),
    }


@pytest.mark.parametrize("causal", [False, True])
def test_the_bfloat16_kernel_is_right(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the path of this machine, whichever it is; and wrong where it forgets the scale."""
    case = dataclasses.replace(CASE.with_sizes(causal=causal), dtype="bfloat16")
    loaded = program(FLASH_BF16, case)
    assert loaded.probe().reason is None
    verdict = loaded.check(["fwd"], None)
    assert verdict.reason is None
    assert verdict.errors["o"] > 1e-5
    facts = loaded.facts("fwd")
    assert facts["kernels"] == {
        "attention": f"attention_bf16:{ablation_kernels.build_info()['isa_bf16']}"
    }
    assert facts["memory"]["scratch"] > 0
    right = ablation_kernels.attention_bf16
    monkeypatch.setattr(
        ablation_kernels, "attention_bf16", lambda *qkv, scale, **rest: right(*qkv, scale=1, **rest)
    )
    assert "o is off by" in str(loaded.check(["fwd"], None).reason)


@pytest.fixture
def no_gradients() -> Iterator[None]:
    """As `start_torch` has it, and back."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        yield


def program(name: str, case: Case) -> Program:
    return SUITE.load(name, case, 0).build(name)


@pytest.mark.parametrize("name", [*EAGER, FLASH, "ablation_unfused"])
@pytest.mark.parametrize("causal", [False, True])
def test_programs_are_right(name: str, causal: bool, no_gradients: None) -> None:
    case = CASE.with_sizes(causal=causal)
    loaded = program(name, case)
    for verdict in (loaded.probe(), loaded.check(["fwd"], None)):
        assert verdict.reason is None
        assert verdict.errors and set(verdict.errors) == set(verdict.limits)
    result = loaded.call("fwd", loaded.prepare("fwd"))
    assert result is not None
    assert loaded.facts("fwd") is not None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["torch_unfused_lse", "torch_sdpa_flash"])
def test_sixteen_bits_keep_their_own_limits(name: str, dtype: str, no_gradients: None) -> None:
    case = dataclasses.replace(CASE, dtype=dtype)
    loaded = program(name, case)
    assert loaded.probe().reason is None
    verdict = loaded.check(["fwd"], None)
    assert verdict.reason is None
    assert verdict.errors["o"] > 1e-5


def test_a_query_on_its_own_and_strange_sizes(no_gradients: None) -> None:
    for shape in ((1, 1, 1, 1, 16), (1, 2, 1, 300, 16), (1, 1, 129, 3, 80)):
        case = make_case("attention-sweep", "cpu", shape, causal=True)
        for name in (FLASH, *EAGER):
            assert program(name, case).check(["fwd"], None).reason is None


def test_memory_of_whole_scores_is_that_of_scores_made_anew() -> None:
    loaded: Any = program("ablation_unfused", CASE)
    columns = loaded.memory("fwd")
    assert columns["out"] == CASE.output_bytes
    assert columns["tracked_peak"] >= CASE.scores_bytes + CASE.output_bytes

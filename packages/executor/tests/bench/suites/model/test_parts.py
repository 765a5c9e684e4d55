"""The parts of suite `model`: arguments by position, the reference, the ladder, named models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import ablation_kernels
from ablation_executor import DEFAULT_PASSES
from ablation_executor.bench.case import Case, case_of
from ablation_executor.bench.interrupt import UsageError
from ablation_executor.bench.options import find_named_suite
from ablation_executor.bench.runtimes import is_installed, make_adapter
from ablation_executor.bench.runtimes.adapter import Runner
from ablation_executor.bench.suites.attribution.lattice import BASE, TOP
from ablation_executor.bench.suites.attribution.programs import AttributionLoaded
from ablation_executor.bench.suites.kernel_sets import kernel_set
from ablation_executor.bench.suites.model import SUITE, coverage, ladder
from ablation_executor.bench.suites.model.architectures import BY_NAME, FAMILIES, NAMES, SMALL
from ablation_executor.bench.suites.model.cases import (
    is_of_module,
    model_case,
    model_lines,
    module_case,
)
from ablation_executor.bench.suites.model.planning import plan_of, told_of
from ablation_executor.bench.suites.model.positional import (
    Positional,
    named_tensors,
    shown_path,
)
from ablation_executor.bench.suites.model.programs import ModuleInputs, ModuleProgram
from ablation_executor.bench.suites.model.reference import (
    LEAST_UNITS,
    MULTIPLE,
    Reference,
    compare,
    compute_reference,
)
from ablation_executor.bench.suites.model.subject import Subject, load_subject, unpacked


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads(), ablation_kernels.get_num_threads()
    yield
    torch.set_num_threads(before[0])
    ablation_kernels.set_num_threads(before[1])


# Arguments and results --------------------------------------------------------------------------


@dataclass
class Pair:
    """A result that is a dataclass."""

    first: Any
    second: Any = None


class Many(torch.nn.Module):
    """Takes containers and keywords, and gives a dataclass in a dict."""

    def forward(self, x: Any, pair: Any, *, scale: float, y: Any = None) -> Any:
        """Add all."""
        return {"sum": Pair(scale * x + pair[0] + y, None), "product": [x * y]}


def test_a_module_takes_its_tensors_by_position() -> None:
    x, first, y = (torch.randn(3) for _ in range(3))
    module = Positional(Many(), (x, [first, 7]), {"scale": 2.0, "y": y})
    total, product = module(x, first, y)
    assert torch.equal(total, 2 * x + first + y) and torch.equal(product, x * y)
    names = [name for name, _ in named_tensors(Many()(x, [first], scale=2.0, y=y))]
    assert names == ["output.sum.first", "output.product.0"]
    assert shown_path("module.layers.0") == "layers.0" and shown_path("modules.a") == "modules.a"


def test_a_result_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"output\.1 of the module is a int; accepted: tensors"):
        list(named_tensors([torch.ones(1), 3]))


MODULE = torch.nn.Identity()
X = torch.ones(2)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((MODULE, (X,)), ((X,), {})),
        ((MODULE, {"input": X}), ((), {"input": X})),
        ((MODULE, (X,), {"y": 3}), ((X,), {"y": 3})),
        ((MODULE,), None),
        ((MODULE, X), None),
        ((MODULE, {"y": 3}, (X,)), None),
        (([], (X,)), None),
    ],
)
def test_what_a_factory_may_give(given: Any, expected: Any) -> None:
    refused = pytest.raises(UsageError, match="accepted:") if expected is None else None
    with refused or contextlib.nullcontext():
        found = unpacked(given)
        assert (found[1], dict(found[2])) == expected


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("make = 3", "make is a int, not a function"),
        ("def make(): return 3", "the factory returns a int; accepted: (module"),
        ("def make(): raise OSError('no')", "OSError: no (own.py:1)"),
        ("import torch\ndef make(): return torch.nn.ReLU().double(), (3,)", "have no tensor"),
        ("import torch\ndef make(): return torch.nn.ReLU(), (torch.ones(2).half(),)", "float16"),
        ("import torch\ndef make(): return torch.nn.Linear(2, 2).half(), ()", "call float()"),
    ],
)
def test_a_bad_factory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(source)
    failure = told_of(module_case("own.py:make", 1).label, 0)["failure"]
    assert text in failure.replace(f"{tmp_path}/", "")


# The reference ----------------------------------------------------------------------------------


class CastingNorm(torch.nn.Module):
    """RMSNorm that casts to float32, in both ways that are common."""

    def forward(self, x: Any) -> Any:
        """(..., d) -> the same."""
        size = x.float().pow(2).mean(-1, keepdim=True, dtype=torch.float32)
        return (x.to(torch.float32) * torch.rsqrt(size + 1e-6)).to(x.dtype)


def reference_of(module: Any, *inputs: Any) -> Reference:
    arrays = tuple(each.numpy() for each in inputs)
    return compute_reference(Subject(module.eval(), arrays, ("output",), ""))


def test_the_reference_stays_in_float64_where_a_module_casts() -> None:
    x = torch.randn(5, 64)
    wide = x.double().numpy()
    exact = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6)
    found = reference_of(CastingNorm(), x)
    assert np.abs(found.expected[0] - exact).max() < 1e-14
    assert 1e-9 < found.eager[0] < 1e-6
    assert torch.get_default_dtype() == torch.float32


def test_a_limit_is_a_multiple_of_eagers_error_but_some_units_at_least() -> None:
    x = torch.randn(7, 300)
    linear = reference_of(torch.nn.Linear(300, 9).requires_grad_(False), x)
    assert linear.eager[0] > 0
    assert linear.limit(0) == max(
        MULTIPLE * linear.eager[0], LEAST_UNITS * 2.0**-24 * np.abs(linear.expected[0]).max()
    )
    exact = reference_of(torch.nn.ReLU(), x)
    assert exact.eager == (0.0,)
    assert exact.limit(0) == LEAST_UNITS * 2.0**-24 * float(x.max())


@pytest.mark.parametrize(
    ("change", "is_right"),
    [
        (lambda y: y, True),
        (lambda y: y + 1e-7, True),
        (lambda y: y + 1e-3, False),
        (lambda y: y.astype(np.float16).astype(np.float32), False),
        (lambda y: np.where(y == y.max(), np.nan, y), False),
        (lambda y: np.where(y == y.max(), np.inf, y), False),
        (lambda y: y[:, :-1], False),
    ],
    ids=["same", "rounded", "off", "float16", "nan", "infinite", "short"],
)
def test_a_wrong_result_is_found(change: Any, is_right: bool) -> None:
    x = torch.randn(7, 30)
    module = torch.nn.Linear(30, 9).requires_grad_(False)
    reference = reference_of(module, x)
    given = change(module.float()(x).numpy())
    verdict = compare([given.astype(np.float32)], reference)
    assert (verdict.reason is None) == is_right, verdict
    assert verdict.details["eager_error"] == reference.eager[0]


def test_other_weights_in_another_process_are_told_as_such() -> None:
    x = torch.randn(7, 30)
    module = torch.nn.Linear(30, 9).requires_grad_(False)
    reference = reference_of(module, x)
    given = module.float()(x).numpy()
    same = compare([given], reference, lambda: reference.fingerprint)
    assert same.reason is None
    told = compare([given], reference, lambda: reference.fingerprint + 1).reason
    assert told is not None and "other weights or inputs" in told


def test_infinite_and_nan_results_have_to_be_the_same() -> None:
    x = torch.tensor([[0.0, 1.0, -1.0]])

    class Divided(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.log(x) / x

    reference = reference_of(Divided(), x)
    assert not np.isfinite(reference.expected[0][0, [0, 2]]).any()
    same = np.array([[-np.inf, 0.0, np.nan]], np.float32)
    assert compare([same], reference).reason is None
    assert compare([np.array([[np.inf, 0.0, np.nan]], np.float32)], reference).reason


class ModuleRunner(Runner):
    """A module in a runtime; `frozen` has taken its inputs as it was built."""

    def __init__(self, module: Any, inputs: tuple[Any, ...], *, frozen: bool) -> None:
        held = tuple(x.copy() if frozen else x for x in inputs)

        def call(_: Any) -> Any:
            with torch.no_grad():
                return module(*map(torch.from_numpy, held))

        super().__init__(call, lambda result: [result.numpy()])


@pytest.mark.parametrize("frozen", [False, True])
def test_inputs_that_a_runtime_has_frozen_are_found(frozen: bool, tmp_path: Path) -> None:
    case, path = small("nanogpt"), tmp_path / "reference.npz"
    SUITE.write_reference(case, 0, path)
    inputs = ModuleInputs(case, 0)
    before = [array.copy() for array in inputs.inputs]
    module = load_subject(case, 0).module
    program = ModuleProgram("kernels", inputs, ModuleRunner(module, inputs.inputs, frozen=frozen))
    program.keep_output("fwd", program.call("fwd", None))
    reason = program.check(["fwd"], path).reason
    assert (reason is not None) == frozen
    assert reason is None or reason.startswith("call with other inputs: output: row")
    for array, held in zip(inputs.inputs, before, strict=True):
        np.testing.assert_array_equal(array, held)


def test_a_module_that_wants_its_inputs_in_order_has_no_other_reference(tmp_path: Path) -> None:
    class Sorted(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            if x[0] > x[-1]:
                raise ValueError("x has to be sorted")
            return x * 2

    x = torch.arange(5.0)
    found = reference_of(Sorted(), x)
    assert found.other is None and x.tolist() == [0, 1, 2, 3, 4]
    found.save(tmp_path / "reference.npz")
    assert Reference.load(tmp_path / "reference.npz").other is None


# The ladder -------------------------------------------------------------------------------------


def test_a_rung_differs_from_the_one_below_on_its_axis() -> None:
    for passes in (DEFAULT_PASSES, DEFAULT_PASSES[1::2], ()):
        rungs = ladder.rungs_of(passes)
        below = {rung.name: ladder.parent_of(rung.name, passes) for rung in rungs}
        assert list(below.values()) == [ladder.EAGER, *(rung.name for rung in rungs[:-1])]
        for rung, lower in zip(rungs[1:], rungs, strict=False):
            changed = [
                axis
                for axis, differs in (
                    ("passes", rung.passes(passes) != lower.passes(passes)),
                    ("share_rows", rung.share_rows != lower.share_rows),
                    ("kernels", bool(rung.kernels) != bool(lower.kernels)),
                    *(
                        (op, rung.kernels[op] != lower.kernels[op])
                        for op in (rung.kernels.keys() & lower.kernels.keys())
                    ),
                )
                if differs
            ]
            assert changed == [rung.changed]
        assert rungs[-1].passes(passes) == tuple(passes)


def test_kernels_that_are_given_exist() -> None:
    known = {info.name for info in ablation_kernels.op_table()}
    for vector in ("scalar", "simd", "simd_parallel"):
        assert set(kernel_set(vector).values()) <= known
    assert kernel_set(matmul="matmul_scalar")["matmul"] == "matmul_scalar"


# Named models -----------------------------------------------------------------------------------


def test_there_are_29_models_of_23_families() -> None:
    assert len(set(NAMES)) == 29 and len(FAMILIES) == 23
    lines = model_lines()
    assert lines[0] == "29 models of 23 families" and len(lines) == 31


@pytest.mark.parametrize("name", NAMES)
def test_the_case_of_a_model_comes_back_from_its_label(name: str) -> None:
    case = model_case(
        name, is_whole=True, layers=2, attention="eager", size=SMALL, batch=3, length=9
    )
    assert case_of(case.label) == case and is_of_module(case)


def test_the_suite_is_named_by_its_options() -> None:
    assert find_named_suite(["--model", "gpt2"]) is SUITE
    assert find_named_suite(["--list-models"]) is SUITE
    assert find_named_suite(["--suite", "attribution", "--model", "gpt2"]).name == "attribution"
    assert find_named_suite(["--configs", "Toy"]).name == "block"


def small(name: str, **others: Any) -> Case:
    return model_case(name, size=SMALL, length=16, **others)


def test_every_process_makes_the_same_weights() -> None:
    first, second = (load_subject(small("nanogpt"), 3).fingerprint() for _ in range(2))
    assert first == second != load_subject(small("nanogpt"), 4).fingerprint()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_is_fused_or_written_out(attention: str) -> None:
    subject = load_subject(small("nanogpt", attention=attention), 0)
    program = torch.export.export(subject.module, tuple(map(torch.from_numpy, subject.inputs)))
    named = {str(node.target) for node in program.graph.nodes}
    assert ("aten.scaled_dot_product_attention.default" in named) == (attention == "sdpa")


def test_a_plan_says_what_a_layer_is() -> None:
    case = small("encoder-pre-norm")
    plan = plan_of(case, 0)
    length, width = 16, 128
    assert plan.is_covered and plan.passes
    # As a block of the bench: 24 S d^2 + 4 S^2 d
    assert plan.flops == 24 * length * width**2 + 4 * length**2 * width
    assert plan.weights_bytes == 4 * (12 * width**2 + 13 * width)
    assert plan.calls is not None and plan.exported_calls is not None
    assert plan.calls < plan.exported_calls


def test_programs_of_the_lattice_are_right_on_a_module(tmp_path: Any) -> None:
    case = small("encoder-pre-norm", threads=2)
    path = tmp_path / "reference.npz"
    SUITE.write_reference(case, 0, path)
    loaded = AttributionLoaded(make_adapter("kernels", 2), case, 0)  # type: ignore[arg-type]
    for name in (BASE, TOP, "default"):
        program = loaded.build(name)
        program.prepare("fwd")
        program.keep_output("fwd", program.call("fwd", None))
        verdict = program.check(["fwd"], path)
        assert verdict.reason is None and verdict.errors["output"] > 0


def test_coverage_of_a_layer_has_every_figure() -> None:
    line = coverage.cover("encoder-pre-norm", "layer", "sdpa")
    assert line.failure is None and not line.refused
    assert line.ops and line.calls and line.passes and line.error and line.eager_error
    compiled = line.compiled
    assert compiled is not None and compiled.failure is None and not compiled.eager
    assert (compiled.graphs, compiled.parts) == (1, 1) and compiled.ops and compiled.error


@pytest.mark.parametrize("name", ["opt-1.3b", "bert-base", "vit-base"])
def test_a_layer_of_a_library_is_covered(name: str) -> None:
    if not is_installed(BY_NAME[name].source):
        pytest.skip(f"{BY_NAME[name].source} is not installed")
    line = coverage.cover(name, "layer", "sdpa")
    assert line.failure is None and line.calls

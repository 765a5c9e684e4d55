"""Programs of one module for many shapes: values, one capture, shared weights, bound, threads."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_export_models import HEADS, WIDTH, WORDS, Decoder
from torch import Tensor, nn
from torch.nn import functional
from torch_modules import Block, Gpt2Block

import ablation_kernels
from ablation_executor import ExportError, ShapePrograms, export, model_copy, optimize
from ablation_executor.capture import capture as capture_module

PACKED = {"matmul": "packed_simd_parallel"}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = ablation_kernels.get_num_threads()
    torch.manual_seed(0)
    yield
    ablation_kernels.set_num_threads(before)


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each capture left sizes open."""
    found: list[bool] = []
    original = capture_module

    def capture(*args: Any, any_sizes: bool = False) -> Any:
        found.append(any_sizes)
        return original(*args, any_sizes=any_sizes)

    monkeypatch.setattr(model_copy, "capture", capture)
    return found


def normal(*shape: int) -> Tensor:
    return torch.randn(shape)


def ids(*shape: int) -> Tensor:
    return torch.randint(0, WORDS, shape)


class Function(nn.Module):
    """A function of a linear layer and inputs."""

    def __init__(self, function: Callable[..., Any], width: int = 16) -> None:
        super().__init__()
        self.function, self.linear = function, nn.Linear(width, width)

    def forward(self, *args: Any) -> Any:
        return self.function(self.linear, *args)


class Small(nn.Module):
    """What is captured fast: two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, src: Tensor) -> Tensor:
        return self.second(self.first(src).relu())


def check(model: ShapePrograms, module: nn.Module, *inputs: Tensor) -> None:
    """The values are the module's, in float64."""
    with torch.no_grad():
        wide = [x.double() if x.is_floating_point() else x for x in inputs]
        want = module.double()(*wide).numpy()
        module.float()
    got = model(*inputs)
    assert got.shape == want.shape
    scale = float(np.sqrt((want**2).mean()))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5 * scale)


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 64, batch_first=True)


def decoder_inputs(batch: int, length: int) -> tuple[Tensor, ...]:
    return ids(batch, length), torch.ones(batch, length, dtype=torch.long)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int, int], tuple[Tensor, ...]]]] = {
    "decoder": (Decoder, decoder_inputs),
    "encoder layer": (encoder, lambda batch, length: (normal(batch, length, WIDTH),)),
    "GPT-2": (lambda: Gpt2Block(seq_len=8), lambda batch, length: (normal(batch, length, 16),)),
    "causal sdpa": (
        lambda: Block(mask="sdpa_causal", split="chunk"),
        lambda batch, length: (normal(batch, length, 16),),
    ),
    "mask made of the length": (
        lambda: Block(mask="inline", split="unbind"),
        lambda batch, length: (normal(batch, length, 16),),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_one_capture_serves_all_sizes_above_one(name: str, captures: list[bool]) -> None:
    """And the graph is the one that export gives for these shapes."""
    make, inputs_of = MODELS[name]
    module = make().eval()
    model = ShapePrograms(module, inputs_of(2, 6), ranges=ranges_of(name))
    for batch, length in ((2, 6), (3, 9), (2, 13), (5, 2), (3, 9)):
        inputs = inputs_of(batch, length)
        check(model, module, *inputs)
    assert captures == [True] and len(model.shapes) == 4
    graph, _ = optimize(export(module, inputs, ranges=ranges_of(name)))
    assert str(model.program(*inputs).graph) == str(graph)


def test_a_size_of_1_has_a_capture_of_its_own(captures: list[bool]) -> None:
    """It is no open size of PyTorch's; the other sizes stay open."""
    module = Small().eval()
    model = ShapePrograms(module, (normal(1, 6, WIDTH),))
    for batch, length in ((1, 9), (4, 6), (5, 7), (1, 2)):
        check(model, module, normal(batch, length, WIDTH))
    assert captures == [True, True]
    assert model.accepted.splitlines()[0] == f"src [1, a, {WIDTH}]; a from 2"


def ranges_of(name: str) -> dict[str, tuple[int, int]] | None:
    return {"mask": (0, 1)} if name == "decoder" else None


def test_inputs_by_name_and_outputs_by_name() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor, *, scale: float, others: dict[str, Tensor]) -> Any:
            return {"sum": x * scale + others["y"], "product": x @ others["y"].mT}

    x, y = normal(3, 4), normal(3, 4)
    model = ShapePrograms(Pair().eval(), (x,), {"others": {"y": y}, "scale": 2.0})
    assert model.input_names == ["x", "others_y"] and model.output_names == ["sum", "product"]
    x, y = normal(5, 7), normal(5, 7)
    found = model.named(others_y=y, x=x)
    np.testing.assert_allclose(found["sum"], 2 * x + y, rtol=1e-6)
    np.testing.assert_allclose(found["product"], x @ y.T, rtol=1e-4, atol=1e-5)
    out = [np.empty((5, 7), np.float32), np.empty((5, 5), np.float32)]
    assert model(x, others_y=y, out=out)[0] is out[0]
    np.testing.assert_array_equal(out[0], found["sum"])


# Branches and shapes that cannot be taken ---------------------------------------------------------


def by_length(linear: Any, x: Tensor) -> Tensor:
    y: Tensor = linear(x)
    return y.sum(1) if x.shape[1] > 8 else y.amax(1)


def unrolled(linear: Any, x: Tensor) -> Tensor:
    """As many steps as the sequence is long."""
    state = x[:, 0]
    for step in range(x.shape[1]):
        state = linear(state) + x[:, step]
    return state


def halves(linear: Any, x: Tensor) -> Tensor:
    first, second = linear(x).view(x.shape[0], 2, x.shape[1] // 2, x.shape[2]).unbind(1)
    result: Tensor = first * second
    return result


def test_each_branch_has_a_capture(captures: list[bool]) -> None:
    module = Function(by_length).eval()
    model = ShapePrograms(module, (normal(2, 6, 16),))
    for length in (6, 12, 7, 9, 8, 20, 3):
        check(model, module, normal(2, length, 16))
    assert captures == [True, True]
    assert "from 2" in model.accepted and "2 to 8" in model.accepted and "from 9" in model.accepted


def test_a_loop_over_a_size_is_captured_for_each(captures: list[bool]) -> None:
    module = Function(unrolled).eval()
    model = ShapePrograms(module, (normal(2, 3, 16),))
    for batch, length in ((2, 3), (4, 3), (2, 5), (7, 5)):
        check(model, module, normal(batch, length, 16))
    assert captures == [True, True]
    assert "x_0 [a, 3, 16]" in model.accepted or "args_0 [a, 3, 16]" in model.accepted


def test_sizes_that_depend_on_one_another() -> None:
    module = Function(halves).eval()
    model = ShapePrograms(module, (normal(2, 6, 16),))
    check(model, module, normal(3, 10, 16))
    with pytest.raises(ExportError, match=r"no program for \w+ \[2, 7, 16\](.|\n)*Mod\(b, 2\)"):
        model(normal(2, 7, 16))
    check(model, module, normal(2, 8, 16))


def test_a_module_without_open_sizes_is_captured_for_each(
    captures: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = vars(model_copy)["capture"]

    def capture(*args: Any, any_sizes: bool = False) -> Any:
        if any_sizes:
            raise ExportError("sizes have to be fixed")
        return original(*args, any_sizes=any_sizes)

    monkeypatch.setattr(model_copy, "capture", capture)
    module = Small().eval()
    model = ShapePrograms(module, (normal(2, 6, WIDTH),))
    for length in (6, 9, 6):
        check(model, module, normal(2, length, WIDTH))
    assert captures == [False, False]
    assert model.accepted == (
        "each set of shapes apart, since sizes stay fixed: sizes have to be fixed"
    )


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (lambda: (normal(2, 6, 31),), ExportError, r"x? ?\[2, 6, 31\](.|\n)*accepted: src \[a, b,"),
        (lambda: (normal(31),), ExportError, r"no program for src \[31\]"),
        (lambda: (normal(2, 7, WIDTH).double(),), TypeError, "'src' is float64, expected float32"),
        (lambda: (normal(2, 7, WIDTH).int(),), TypeError, "'src' is int32, expected float32"),
        (lambda: (np.zeros((2, 0, WIDTH), np.float32),), ValueError, "no axis of size 0"),
        (lambda: (), TypeError, "0 inputs given, expected 1: 'src'"),
        (lambda: (normal(2, 6, WIDTH),) * 2, TypeError, "2 inputs given, expected 1"),
    ],
)
def test_inputs_that_do_not_fit(
    given: Any, error: type[Exception], text: str, captures: list[bool]
) -> None:
    model = ShapePrograms(Small().eval(), (normal(2, 6, WIDTH),))
    for _ in range(2):
        with pytest.raises(error, match=text):
            model(*given())
    assert (len(captures) > 1) == (error is ExportError)
    assert len(model.shapes) == 1 and model(normal(2, 6, WIDTH)).shape == (2, 6, WIDTH)


def test_other_types_of_integers_are_taken_and_floats_are_not() -> None:
    model = ShapePrograms(Decoder().eval(), decoder_inputs(2, 6), ranges={"mask": (0, 1)})
    words, mask = (x.numpy() for x in decoder_inputs(3, 4))
    want = model(words, mask)
    np.testing.assert_array_equal(model(words.astype(np.int8), mask.astype(bool)), want)
    with pytest.raises(TypeError, match="'ids' is float32, expected int64 or another integer type"):
        model(words.astype(np.float32), mask)
    with pytest.raises(ValueError, match=r"'ids' has the value 50 at \[0, 0\]"):
        model(np.full((3, 4), WORDS), mask)


@pytest.mark.parametrize(
    ("given", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), (2.0, TypeError)]
)
def test_a_bound_that_is_none(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"max_programs is .*accepted: a whole number of at least 1"):
        ShapePrograms(Small().eval(), (normal(2, 6, WIDTH),), max_programs=given)


# Weights and memory -------------------------------------------------------------------------------


def test_weights_are_there_once_whatever_the_shapes() -> None:
    module = encoder().eval()
    model = ShapePrograms(module, (normal(2, 6, WIDTH),), kernels=PACKED)
    packed, constants = model.packed_bytes, model.constant_bytes
    assert packed > 0
    for length in (7, 8, 21, 64):
        model(normal(3, length, WIDTH))
    assert len(model.shapes) == 5
    assert (model.packed_bytes, model.constant_bytes) == (packed, constants)
    total = sum(parameter.numel() * 4 for parameter in module.parameters())
    # The parameters, and the weights of q, k and v as one product reads them
    assert constants < total + 4 * 3 * WIDTH * (WIDTH + 1) + 64


def test_the_programs_that_were_used_last_stay() -> None:
    module = Small().eval()
    model = ShapePrograms(module, (normal(2, 6, WIDTH),), kernels=PACKED, max_programs=2)
    packed = model.packed_bytes
    model(normal(2, 7, WIDTH))
    model(normal(2, 6, WIDTH))
    dropped = weakref.ref(model.program(normal(2, 7, WIDTH)))
    model(normal(2, 6, WIDTH))
    model(normal(2, 8, WIDTH))
    gc.collect()
    assert model.shapes == [((2, 6, WIDTH),), ((2, 8, WIDTH),)]
    assert dropped() is None and model.packed_bytes == packed
    check(model, module, normal(2, 7, WIDTH))
    assert model.shapes == [((2, 8, WIDTH),), ((2, 7, WIDTH),)]


def test_one_program_at_a_time_keeps_the_weights_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new program is there before the old one goes."""
    model = ShapePrograms(Small().eval(), (normal(2, 6, WIDTH),), kernels=PACKED, max_programs=1)
    held = model.packed_bytes
    for length in (7, 9, 6):
        model(normal(2, length, WIDTH))
        assert len(model.shapes) == 1 and model.packed_bytes == held


def test_programs_are_the_model_as_it_was(captures: list[bool]) -> None:
    """For later shapes too, of the first capture and of another one."""
    module = Function(by_length).eval()
    x, longer, longest = normal(2, 6, 16), normal(2, 7, 16), normal(2, 12, 16)
    with torch.no_grad():
        want = [module(part).numpy() for part in (longer, longest)]
        model = ShapePrograms(module, (x,))
        module.linear.weight.fill_(7)
        del module
    for part, expected in zip((longer, longest), want, strict=True):
        np.testing.assert_allclose(model(part), expected, rtol=1e-4, atol=1e-5)
    assert len(captures) == 2


def test_tied_weights_are_one_constant() -> None:
    model = ShapePrograms(
        Decoder().eval(), decoder_inputs(2, 6), ranges={"mask": (0, 1)}, passes=()
    )
    before = model.constant_bytes
    model(*decoder_inputs(2, 8))
    assert [array.shape for array in model._model.arrays.values()].count((WORDS, WIDTH)) == 2
    assert (
        len({id(array) for array in model._model.arrays.values()}) == len(model._model.arrays) - 1
    )
    assert model.constant_bytes < before + 4000  # of the length: angles and masks


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    module = Function(lambda linear, x: linear(x))
    module.lock = threading.Lock()
    with pytest.raises(ExportError, match=r"module Function cannot be copied: .*TypeError"):
        ShapePrograms(module.eval(), (normal(2, 16),))


# Threads ------------------------------------------------------------------------------------------


def test_threads_share_the_programs(captures: list[bool]) -> None:
    module = Small().eval()
    model = ShapePrograms(module, (normal(2, 6, WIDTH),), max_programs=3)
    xs = [normal(2, length, WIDTH) for length in (6, 7, 8, 9)]
    with torch.no_grad():
        wanted = [module(x).numpy() for x in xs]
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def work(first: int) -> None:
        try:
            start.wait()
            for turn in range(12):
                which = (first + turn // 2) % 4
                np.testing.assert_allclose(model(xs[which]), wanted[which], rtol=1e-4, atol=1e-5)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and captures == [True] and len(model.shapes) == 3


def test_threads_that_come_with_one_shape_build_one_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ShapePrograms(Small().eval(), (normal(2, 6, WIDTH),))
    built: list[Any] = []
    original = model._build

    def build(*args: Any) -> Any:
        built.append(args)
        return original(*args)

    monkeypatch.setattr(model, "_build", build)
    x, start = normal(2, 9, WIDTH), threading.Barrier(3)

    def work() -> None:
        start.wait()
        model(x)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_more_threads_than_a_program_was_built_for() -> None:
    model = ShapePrograms(Small().eval(), (normal(2, 6, WIDTH),), threads=1)
    x = normal(2, 6, WIDTH)
    want = model(x)
    ablation_kernels.set_num_threads(2)
    np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-6)
    assert model.program(x).threads == 2 and len(model.shapes) == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_of_fork_makes_programs() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = ShapePrograms(Small().eval(), (normal(2, 6, WIDTH),))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if model(normal(3, 5, WIDTH)).shape == (3, 5, WIDTH) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        torch.set_num_threads(before)


def test_masks_given_at_run_time() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return functional.scaled_dot_product_attention(x, x, x, mask[:, None])

    def inputs(batch: int, length: int) -> tuple[Tensor, Tensor]:
        mask = torch.rand(batch, length, length) > 0.3
        mask |= torch.eye(length, dtype=torch.bool)
        return normal(batch, 2, length, 8), mask

    module = Masked().eval()
    model = ShapePrograms(module, inputs(2, 6))
    check(model, module, *inputs(3, 9))
    with pytest.raises(ExportError, match=r"no program for x \[2, 2, 6, 8\], mask \[2, 7, 7\]"):
        model(normal(2, 2, 6, 8), torch.ones(2, 7, 7, dtype=torch.bool))

"""flash_attention: values and gradients against float64 autograd, opcheck, torch.compile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import ablation_kernels
from ablation_executor.torch_ops import flash_attention

Sizes = tuple[int, int, int, int, int]
each_causal = pytest.mark.parametrize("causal", [False, True])
#: (B, H, Sq, Sk, D)
SHAPES = [(1, 1, 1, 1, 1), (2, 3, 33, 65, 17), (1, 2, 150, 90, 64), (2, 1, 90, 200, 32)]

#: Rounding of float32 in sums of at most 200 terms of size 1, relative to the largest element.
TOLERANCE = 5e-6
#: Of bfloat16, whose output the backward reads as it was rounded; and the size below which a
#: gradient is what is left of terms of size 1 that cancel.
BF16_TOLERANCE, BF16_SMALLEST = 2.5e-2, 0.1


def make(shape: Sizes, seed: int = 0) -> list[torch.Tensor]:
    """q, k and v, which require gradients, and the gradient of the output."""
    batch, heads, queries, keys, size = shape
    generator = torch.Generator().manual_seed(seed)
    lengths = (queries, keys, keys, queries)
    tensors = [torch.randn(batch, heads, n, size, generator=generator) for n in lengths]
    return [*(x.requires_grad_() for x in tensors[:3]), tensors[3]]


def formula(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scale: float | None
) -> torch.Tensor:
    """softmax(scale * q @ k^T) @ v as it is written, over the whole matrix of scores."""
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1) @ v


def expected_of(
    tensors: list[torch.Tensor], causal: bool = False, scale: float | None = None
) -> list[torch.Tensor]:
    """Output and gradients by autograd in float64."""
    q, k, v = (x.detach().double().requires_grad_() for x in tensors[:3])
    output = formula(q, k, v, causal, scale)
    output.backward(tensors[3].double())
    return [output.detach(), q.grad, k.grad, v.grad]


def check(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for mine, wanted in zip(actual, expected, strict=True):
        assert mine.dtype == torch.float32 and mine.shape == wanted.shape
        largest = float(wanted.abs().max())
        assert float((mine.double() - wanted).abs().max()) <= TOLERANCE * max(largest, 1.0)


def run(tensors: list[torch.Tensor], function: Any = flash_attention, **keywords: Any) -> Any:
    q, k, v, grad_output = tensors
    output = function(q, k, v, **keywords)
    gradients = torch.autograd.grad(output, (q, k, v), grad_output)
    return [output.detach(), *gradients]


@pytest.mark.parametrize("shape", SHAPES)
@each_causal
@pytest.mark.parametrize("scale", [None, 0.3])
def test_output_and_gradients(shape: Sizes, causal: bool, scale: float | None) -> None:
    tensors = make(shape)
    check(run(tensors, causal=causal, scale=scale), expected_of(tensors, causal, scale))


@each_causal
def test_agrees_with_scaled_dot_product_attention(causal: bool) -> None:
    tensors = make((2, 3, 70, 70, 32))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    for mine, theirs in zip(
        run(tensors, causal=causal), run(tensors, sdpa, is_causal=causal), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def rounded(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same in bfloat16, with gradients of their own."""
    short = [x.detach().bfloat16() for x in tensors]
    return [*(x.requires_grad_() for x in short[:3]), short[3]]


@pytest.mark.parametrize("shape", SHAPES)
@each_causal
def test_bfloat16_output_and_gradients(shape: Sizes, causal: bool) -> None:
    tensors = rounded(make(shape))
    for mine, wanted in zip(run(tensors, causal=causal), expected_of(tensors, causal), strict=True):
        assert mine.dtype == torch.bfloat16 and mine.shape == wanted.shape
        error = float((mine.double() - wanted).abs().max())
        assert error <= BF16_TOLERANCE * max(float(wanted.abs().max()), BF16_SMALLEST)


def test_derivative_along_a_direction() -> None:
    """The gradient against differences of the function itself, through a float64 shim.

    float32 keeps 7 digits: a step of 1e-2 has 1e-5 of rounding and about 1e-4 of curvature.
    """

    def shim(*inputs: torch.Tensor) -> torch.Tensor:
        return flash_attention(*(x.float() for x in inputs), causal=True).double()

    inputs = tuple(x.detach().double().requires_grad_() for x in make((1, 2, 7, 9, 5))[:3])
    assert torch.autograd.gradcheck(
        shim, inputs, eps=1e-2, atol=2e-3, rtol=1e-2, nondet_tol=0.0, fast_mode=False
    )


def test_layers_of_a_model() -> None:
    """Heads come from a view and a transpose, the gradient of the output from an expansion."""
    x = torch.randn(2, 40, 48, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(48, 144, generator=torch.Generator().manual_seed(2)) / 7

    def gradient(dtype: torch.dtype, attention: Any) -> torch.Tensor:
        leaf = weight.to(dtype).requires_grad_()
        heads = (x.to(dtype) @ leaf).view(2, 40, 3, 3, 16).permute(2, 0, 3, 1, 4)
        attention(*heads).transpose(1, 2).sum().backward()
        grad: torch.Tensor = leaf.grad
        return grad

    wanted = gradient(torch.float64, lambda q, k, v: formula(q, k, v, True, None))
    actual = gradient(torch.float32, lambda q, k, v: flash_attention(q, k, v, causal=True))
    check([actual], [wanted])


@pytest.mark.parametrize("shape", SHAPES[1:3])
@each_causal
def test_opcheck(shape: Sizes, causal: bool) -> None:
    q, k, v, grad_output = make(shape)
    transposed = q.detach().mT.contiguous().mT.requires_grad_()
    for query in (q, q.detach(), transposed):
        torch.library.opcheck(torch.ops.ablation.flash_attention, (query, k, v, causal, 0.25))
    output, lse = torch.ops.ablation.flash_attention(q, k, v, causal, 0.25)
    arguments = (x.detach() for x in (q, k, v, output, lse, grad_output))
    torch.library.opcheck(torch.ops.ablation.flash_attention_backward, (*arguments, causal, 0.25))


@each_causal
def test_opcheck_of_bfloat16(causal: bool) -> None:
    q, k, v, grad_output = rounded(make(SHAPES[1]))
    transposed = q.detach().mT.contiguous().mT.requires_grad_()
    for query in (q, q.detach(), transposed):
        torch.library.opcheck(torch.ops.ablation.flash_attention, (query, k, v, causal, 0.25))
    output, lse = torch.ops.ablation.flash_attention(q, k, v, causal, 0.25)
    assert (output.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    arguments = (x.detach() for x in (q, k, v, output, lse, grad_output))
    torch.library.opcheck(torch.ops.ablation.flash_attention_backward, (*arguments, causal, 0.25))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(backend: str, dynamic: bool) -> None:
    def model(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return flash_attention(torch.tanh(q), k, v, causal=True) * 2

    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend, dynamic=dynamic)
    for shape in SHAPES[1:]:
        tensors = make(shape)
        for mine, eager in zip(run(tensors, compiled), run(tensors, model), strict=True):
            torch.testing.assert_close(mine, eager, rtol=1e-5, atol=1e-6)


@pytest.fixture
def threads() -> Iterator[None]:
    before = ablation_kernels.get_num_threads()
    yield
    ablation_kernels.set_num_threads(before)


@each_causal
@pytest.mark.usefixtures("threads")
def test_same_for_any_number_of_threads(causal: bool) -> None:
    tensors = make((1, 1, 500, 500, 32))
    ablation_kernels.set_num_threads(1)
    serial = run(tensors, causal=causal)
    for count in (2, 3):
        ablation_kernels.set_num_threads(count)
        assert all(map(torch.equal, run(tensors, causal=causal), serial))


def test_lse_is_not_differentiable() -> None:
    q, k, v, _ = make(SHAPES[1])
    output, lse = torch.ops.ablation.flash_attention(q, k, v, False, 0.25)
    assert output.requires_grad and not lse.requires_grad
    wanted = (q.detach().double() @ k.detach().double().mT * 0.25).logsumexp(-1)
    torch.testing.assert_close(lse.double(), wanted, rtol=0, atol=1e-5)


def test_second_derivatives_are_refused() -> None:
    q, k, v, _ = make(SHAPES[1])
    (gradient,) = torch.autograd.grad(flash_attention(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="flash_attention_backward"):
        gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int32])
@pytest.mark.parametrize("at,name", [(0, "q"), (1, "k"), (2, "v")])
def test_other_dtypes_are_refused(dtype: torch.dtype, at: int, name: str) -> None:
    tensors = [x.detach() for x in make(SHAPES[1])[:3]]
    tensors[at] = tensors[at].to(dtype)
    with pytest.raises(TypeError, match=f"'{name}' has dtype {dtype}; accepted: torch.float32"):
        flash_attention(*tensors)


@pytest.mark.parametrize("at,name", [(1, "k"), (2, "v")])
def test_mixed_dtypes_are_refused(at: int, name: str) -> None:
    tensors = [x.detach() for x in make(SHAPES[1])[:3]]
    tensors[at] = tensors[at].bfloat16()
    with pytest.raises(TypeError, match=f"'{name}' has dtype torch.bfloat16; .*that of q"):
        flash_attention(*tensors)


@pytest.mark.parametrize(
    "name,shapes",
    [
        ("q", [(2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)]),
        ("k", [(1, 2, 3, 4), (1, 2, 5, 3), (1, 2, 5, 3)]),
        ("k", [(1, 4, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)]),
        ("v", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 6, 4)]),
        ("q", [(1, 2, 0, 4), (1, 2, 5, 4), (1, 2, 5, 4)]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name: str, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=f"'{name}' has shape .*accepted"):
        flash_attention(*(torch.zeros(shape) for shape in shapes))


def test_other_devices_are_refused() -> None:
    with pytest.raises(TypeError, match="'k' is on device meta; accepted: cpu"):
        flash_attention(torch.zeros(1, 1, 2, 3), *(torch.zeros(1, 1, 2, 3, device="meta"),) * 2)

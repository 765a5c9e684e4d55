"""flash_attention under autocast, by torch.func and in forward mode: right, or a clear error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn.functional import scaled_dot_product_attention

from ablation_executor.torch_ops import flash_attention

Attention = Callable[..., torch.Tensor]
FLOAT32, BFLOAT16, FLOAT16, FLOAT64 = (
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float64,
)


def make(*dtypes: torch.dtype) -> list[torch.Tensor]:
    """q, k and v of the types given, which require gradients."""
    generator = torch.Generator().manual_seed(2)
    shapes = ((1, 2, 9, 8), (1, 2, 11, 8), (1, 2, 11, 8))
    return [
        torch.randn(shape, generator=generator).to(dtype).requires_grad_()
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]


def raw(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The operator under flash_attention."""
    output: torch.Tensor = torch.ops.ablation.flash_attention(q, k, v, False, 8**-0.5)[0]
    return output


def formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (q @ k.mT * 8**-0.5).softmax(-1) @ v


def forward_and_gradients(attention: Attention, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Under autocast the output, and outside of it the gradients."""
    with torch.autocast("cpu", BFLOAT16):
        output = attention(*tensors)
    return [output.detach(), *torch.autograd.grad(output.float().square().sum(), tensors)]


# Autocast


@pytest.mark.parametrize("attention", [flash_attention, raw])
@pytest.mark.parametrize(
    "dtypes",
    [
        (FLOAT32, FLOAT32, FLOAT32),
        (FLOAT32, FLOAT32, BFLOAT16),
        (BFLOAT16, FLOAT32, BFLOAT16),
        (FLOAT16, FLOAT32, FLOAT32),
        (BFLOAT16, BFLOAT16, BFLOAT16),
    ],
)
def test_autocast_casts_as_pytorchs_attention(
    attention: Attention, dtypes: tuple[torch.dtype, ...]
) -> None:
    """Types of output and gradients are PyTorch's, values those of float64 to bfloat16's digits."""
    mine = forward_and_gradients(attention, make(*dtypes))
    theirs = forward_and_gradients(scaled_dot_product_attention, make(*dtypes))
    exact = [part.detach().double().requires_grad_() for part in make(*dtypes)]
    output = formula(*exact)
    wanted = [output.detach(), *torch.autograd.grad(output.square().sum(), exact)]
    for got, other, want in zip(mine, theirs, wanted, strict=True):
        assert got.dtype == other.dtype
        assert float((got.double() - want).abs().max()) <= 2e-2 * max(1, float(want.abs().max()))


def test_autocast_off_inside_of_autocast_casts_nothing() -> None:
    tensors = make(FLOAT32, FLOAT32, FLOAT32)
    with torch.autocast("cpu", BFLOAT16), torch.autocast("cpu", enabled=False):
        for attention in (flash_attention, raw):
            assert torch.equal(attention(*tensors), flash_attention(*tensors))
            assert attention(*tensors).dtype == FLOAT32


def test_a_backward_pass_under_autocast_is_that_outside() -> None:
    tensors = make(FLOAT32, FLOAT32, FLOAT32)
    want = torch.autograd.grad(flash_attention(*tensors).sum(), tensors)
    output = flash_attention(*tensors).sum()
    with torch.autocast("cpu", BFLOAT16):
        got = torch.autograd.grad(output, tensors)
    assert all(map(torch.equal, got, want))


def test_autocast_to_float16_and_of_float64_is_refused() -> None:
    with torch.autocast("cpu", FLOAT16), pytest.raises(TypeError, match=r"float16; .*autocast"):
        flash_attention(*make(FLOAT32, FLOAT32, FLOAT32))
    with torch.autocast("cpu", BFLOAT16), pytest.raises(TypeError, match=r"'q' has dtype.*float64"):
        flash_attention(*make(FLOAT64, FLOAT32, FLOAT32))


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
def test_autocast_in_a_compiled_function() -> None:
    def model(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", BFLOAT16):
            return flash_attention(q, k, v.bfloat16())

    tensors = make(FLOAT32, FLOAT32, FLOAT32)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert compiled(*tensors).dtype == BFLOAT16
    assert torch.equal(compiled(*tensors), model(*tensors))
    gradients = [
        torch.autograd.grad(function(*tensors).float().sum(), tensors)
        for function in (compiled, model)
    ]
    assert all(map(torch.equal, *gradients))


# Derivatives of other kinds


def along(attention: Attention, requires_grad: bool) -> Any:
    """The derivative in forward mode, by dual numbers."""
    q, k, v = (x.detach().requires_grad_(requires_grad) for x in make(FLOAT32, FLOAT32, FLOAT32))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(q, torch.ones_like(q))
        return forward_ad.unpack_dual(attention(dual, k, v)).tangent


@pytest.mark.parametrize("attention", [flash_attention, raw])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_forward_mode_is_refused(attention: Attention, requires_grad: bool) -> None:
    with pytest.raises(NotImplementedError, match="no derivative in forward mode"):
        along(attention, requires_grad)


TRANSFORMS: dict[str, Callable[[Attention, torch.Tensor], Any]] = {
    "jvp": lambda f, q: torch.func.jvp(f, (q,), (q,)),
    "jvp of vmap": lambda f, q: torch.func.jvp(torch.vmap(f), (q[None],), (q[None],)),
    "jacfwd": lambda f, q: torch.func.jacfwd(f)(q),
    "hessian": lambda f, q: torch.func.hessian(lambda x: f(x).sum())(q),
    "jvp of grad": lambda f, q: torch.func.jvp(torch.func.grad(lambda x: f(x).sum()), (q,), (q,)),
    "grad of grad": lambda f, q: torch.func.grad(
        lambda y: torch.func.grad(lambda x: f(x).square().sum())(y).sum()
    )(q),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_forward_mode_and_second_order_by_transforms_are_refused(name: str) -> None:
    q, k, v = (x.detach() for x in make(FLOAT32, FLOAT32, FLOAT32))
    with pytest.raises(NotImplementedError, match="has no derivative"):
        TRANSFORMS[name](lambda x: flash_attention(x, k, v), q)


@pytest.mark.usefixtures("fresh_compiler")
def test_forward_mode_in_a_compiled_function_is_refused() -> None:
    q, k, v = (x.detach() for x in make(FLOAT32, FLOAT32, FLOAT32))

    def derivative(x: torch.Tensor) -> Any:
        return torch.func.jvp(lambda y: flash_attention(y, k, v), (x,), (x,))[1]

    with pytest.raises(Exception, match=r"no derivative in forward mode|no rules for torch\.func"):
        torch.compile(derivative, backend="aot_eager")(q)


def test_transforms_of_the_operator_itself_are_refused() -> None:
    q, k, v = (x.detach() for x in make(FLOAT32, FLOAT32, FLOAT32))
    with pytest.raises(NotImplementedError, match=r"no rules for torch\.func"):
        torch.func.jvp(lambda x: raw(x, k, v), (q,), (q,))
    with pytest.raises(NotImplementedError, match=r"no rules for torch\.func"):
        torch.func.grad(lambda x: raw(x, k, v).sum())(q)


def test_gradients_and_maps_by_transforms() -> None:
    """grad, vjp, vmap with other axes, vmap in vmap, and both orders of grad and vmap."""
    q, k, v = (x.detach() for x in make(FLOAT32, FLOAT32, FLOAT32))
    factors = torch.arange(1.0, 4.0).view(3, 1, 1, 1, 1)
    many = [x * factors for x in (q, k, v)]

    def results(attention: Attention, *inputs: torch.Tensor) -> list[torch.Tensor]:
        one, three = inputs[:3], inputs[3:]

        def total(*tensors: torch.Tensor) -> torch.Tensor:
            return attention(*tensors).sin().sum()

        every = (0, 1, 2)
        axes = (None, 3, -1)
        moved = (one[0], three[1].movedim(0, 3), three[2].movedim(0, -1))
        return [
            *torch.func.grad(total, every)(*one),
            torch.func.vjp(attention, *one)[1](one[0])[2],
            torch.vmap(attention, in_dims=axes)(*moved),
            torch.vmap(torch.vmap(attention))(*(x[None] for x in three)),
            *torch.vmap(torch.func.grad(total, every))(*three),
            *torch.func.grad(lambda *x: torch.vmap(total)(*x).sum(), every)(*three),
            torch.func.jacrev(attention, 1)(*one),
        ]

    mine = results(flash_attention, q, k, v, *many)
    wanted = results(formula, *(x.double() for x in (q, k, v, *many)))
    for got, want in zip(mine, wanted, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)


# What is refused besides


def test_a_scale_with_a_gradient_is_refused() -> None:
    tensors = make(FLOAT32, FLOAT32, FLOAT32)
    with pytest.raises(TypeError, match="'scale' is a tensor"):
        flash_attention(*tensors, scale=torch.tensor(0.5, requires_grad=True))


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)])
def test_axes_of_size_zero_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"'q' has shape .*none of size 0"):
        flash_attention(*(torch.zeros(shape) for _ in range(3)))


def test_what_is_no_dense_tensor_is_refused() -> None:
    q, k, v = (x.detach() for x in make(FLOAT32, FLOAT32, FLOAT32))
    for other in (q.numpy(), q.to_sparse()):
        with pytest.raises(TypeError, match=r"'q' is no dense torch.Tensor"):
            flash_attention(other, k, v)


def test_the_operator_refuses_mixed_types() -> None:
    q, k, v = (x.detach() for x in make(FLOAT32, FLOAT32, BFLOAT16))
    with pytest.raises(TypeError, match=r"'v' has dtype torch.bfloat16; .*that of q"):
        raw(q, k, v)

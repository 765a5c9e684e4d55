"""Tensors of torch and arrays of jax: what a call gives back, and what shares no values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ablation_kernels

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

ONES = np.ones(4, np.float32)


def fake() -> Any:
    fake_tensor = pytest.importorskip("torch._subclasses.fake_tensor")
    with fake_tensor.FakeTensorMode():
        return torch.empty(4)


def resized(size: int) -> Any:
    x = torch.ones(4)
    x.untyped_storage().resize_(size)
    return x


#: What it is, a word of the message.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "requires grad": (lambda: torch.ones(4, requires_grad=True), "does not compute: give x.detach"),
    "parameter": (lambda: torch.nn.Parameter(torch.ones(4)), "detach"),
    "view of a parameter": (lambda: torch.nn.Parameter(torch.ones(4)).view(2, 2), "detach"),
    "negated": (lambda: torch.ones(4, dtype=torch.complex64).conj().imag, "contiguous|resolve_neg"),
    "negated and contiguous": (lambda: torch.ones(4)._neg_view(), "resolve_neg"),
    "fake": (fake, "no memory"),
    "zero": (lambda: torch._efficientzerotensor(4), "no memory"),
    "storage of nothing": (lambda: resized(0), "no memory"),
    "smaller storage": (lambda: resized(12), "storage of 12 bytes"),
    "meta": (lambda: torch.ones(4, device="meta"), "no memory: .*meta"),
    "sparse": (lambda: torch.ones(4).to_sparse(), "no memory"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(4)]), "no memory"),
    "float64": (lambda: torch.ones(4).double(), "float64"),
    "repeated": (lambda: torch.ones(1).expand(4), "contiguous"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_as_input_and_output(name: str) -> None:
    make, word = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=rf"'x' .*({word}).*; accepted: "):
        ablation_kernels.relu(make())
    with pytest.raises((TypeError, ValueError), match=r"'out' .*; accepted: "):
        ablation_kernels.relu(ONES, out=make())


#: A call of tensors, each with results of float32.
CALLS: dict[str, Callable[..., Any]] = {
    "softmax": ablation_kernels.softmax,
    "matmul": lambda x: ablation_kernels.matmul(x[0, 0], x[0, 1], transpose_b=True),
    "optional slot": lambda x: ablation_kernels.matmul(x, x, addend=x),
    "attention": lambda x: ablation_kernels.attention(x, x, x, causal=True),
    "attention_lse": lambda x: ablation_kernels.attention_lse(x, x, x),
    "attention_backward": lambda x: ablation_kernels.attention_backward(
        x, x, x, *ablation_kernels.attention_lse(x, x, x), x
    ),
    "teaching": lambda x: ablation_kernels.teaching.attention(x, x, x, "flash").output,
}


@pytest.mark.parametrize("name", CALLS)
def test_tensors_give_tensors_and_arrays_arrays(name: str) -> None:
    call, x = CALLS[name], torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    of_tensors, of_arrays = call(x), call(x.numpy())
    pairs = (
        zip(of_tensors, of_arrays, strict=True)
        if isinstance(of_tensors, tuple)
        else [(of_tensors, of_arrays)]
    )
    for tensor, array in pairs:
        assert type(tensor) is torch.Tensor and type(array) is np.ndarray
        assert tensor.dtype == torch.float32 and not tensor.requires_grad
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_one_tensor_among_arrays_gives_a_tensor() -> None:
    assert type(ablation_kernels.add(ONES, torch.ones(4))) is torch.Tensor
    assert type(ablation_kernels.add(ONES.data, ONES)) is np.ndarray
    out = np.empty(4, np.float32)
    assert ablation_kernels.relu(torch.ones(4), out=out) is out


def test_parts_of_a_tensor_given_as_out() -> None:
    x, out = torch.ones(1, 1, 2, 4), torch.empty(10)
    parts: Any = ablation_kernels.attention_lse(x, x, x, out=out)
    for part in parts:
        assert part.untyped_storage().data_ptr() == out.data_ptr()


def test_an_object_that_looks_like_a_tensor_gives_an_array() -> None:
    class Storage:
        def nbytes(self) -> int:
            return ONES.nbytes

    class Alike:
        def __dlpack__(self, **keywords: Any) -> Any:
            return ONES.__dlpack__()

        requires_grad = False

        def untyped_storage(self) -> Any:
            return Storage()

        def is_neg(self) -> bool:
            return False

        def storage_offset(self) -> int:
            return 0

    assert type(ablation_kernels.relu(Alike())) is np.ndarray


def test_what_a_gradient_is_had_by() -> None:
    x = torch.ones(1, 1, 2, 4, requires_grad=True)
    with pytest.raises(TypeError, match=r"'q' .*ablation_executor.torch_ops.flash_attention"):
        ablation_kernels.attention(x, x, x)
    with pytest.raises(TypeError, match=r"'x' .*give x.detach\(\); accepted"):
        ablation_kernels.softmax(x)


def test_the_sign_of_a_negated_tensor_is_kept() -> None:
    x = torch.tensor([1 + 2j]).conj().imag
    with pytest.raises(TypeError, match="resolve_neg"):
        ablation_kernels.relu(x)
    assert ablation_kernels.relu(x.resolve_neg()).tolist() == [0.0]


@pytest.mark.parametrize("transform", ["vmap", "grad", "jvp", "functionalize"])
def test_tensors_inside_a_transform(transform: str) -> None:
    def function(x: Any) -> Any:
        with pytest.raises((TypeError, ValueError), match="'x' "):
            ablation_kernels.relu(x)
        return x.sum()

    x = torch.ones(3, 4)
    if transform == "jvp":
        torch.func.jvp(function, (x,), (x,))
    else:
        getattr(torch.func, transform)(function)(x)


def test_a_forward_mode_tangent_is_not_lost() -> None:
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        dual = forward.make_dual(torch.ones(4), torch.ones(4))
        with pytest.raises(TypeError, match="tangent"):
            ablation_kernels.relu(dual)
        assert ablation_kernels.relu(torch.ones(4)).tolist() == [1, 1, 1, 1]


def test_tensors_of_inference_and_of_other_classes_are_taken() -> None:
    class Subclass(torch.Tensor):
        pass

    with torch.inference_mode():
        x = torch.ones(4)
    parameter = torch.nn.Parameter(torch.ones(4))
    for given in (x, torch.ones(4).as_subclass(Subclass), parameter.detach()):
        assert ablation_kernels.relu(given).tolist() == [1, 1, 1, 1]


def test_bfloat16_tensors_are_held_to_the_same() -> None:
    x = torch.ones(1, 1, 2, 4, dtype=torch.bfloat16)
    made = ablation_kernels.attention_bf16(x, x, x)
    assert made.dtype == torch.bfloat16 and torch.equal(made, x)
    made, lse = ablation_kernels.attention_bf16_lse(x, x, x)
    assert (made.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    bits = x.view(torch.uint16)
    assert ablation_kernels.attention_bf16(bits, bits, bits).dtype == torch.uint16
    assert (
        type(ablation_kernels.attention_bf16(bits.numpy(), bits.numpy(), bits.numpy()))
        is np.ndarray
    )
    for wrong in (x._neg_view(), torch.nn.Parameter(x), torch.zeros_like(x, device="meta")):
        with pytest.raises(TypeError, match="attention_bf16: argument 'k' "):
            ablation_kernels.attention_bf16(x, wrong, x)


def test_arrays_of_jax_are_read_only() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x = jax.device_put(ONES)
    assert ablation_kernels.relu(x).tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="'out' is read-only"):
        ablation_kernels.relu(ONES, out=x)
    x.delete()
    with pytest.raises(TypeError, match=r"'x' is ArrayImpl.*deleted"):
        ablation_kernels.relu(x)

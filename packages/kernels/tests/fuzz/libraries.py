"""Arrays of torch and jax, where they are installed: right ones, and lazy ones or empty ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from harness import Float32

from fuzz.case import Chance

INPUTS: list[Callable[[Chance, Float32], Any]] = []
DEFECTS: list[Callable[[Chance, Float32], Any]] = []
OUTPUTS: list[Callable[[Chance, Float32], tuple[Any, Float32]]] = []
READ_ONLY: list[Callable[[Chance, Float32], Any]] = []
NAMES: list[str] = []


def _add_torch() -> None:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    class Subclass(torch.Tensor):
        pass

    class Wrapper(torch.Tensor):
        @staticmethod
        def __new__(cls: Any, x: Any) -> Any:
            return torch.Tensor._make_wrapper_subclass(cls, x.shape, dtype=x.dtype)

        @classmethod
        def __torch_dispatch__(cls, *_: Any) -> Any:
            return NotImplemented

    def tensor(x: Float32) -> Any:
        return torch.tensor(x)

    def of_inference(_: Chance, x: Float32) -> Any:
        with torch.inference_mode():
            return torch.tensor(x)

    mode = FakeTensorMode()

    def fake(_: Chance, x: Float32) -> Any:
        with mode:
            return torch.empty(x.shape)

    def resized(chance: Chance, x: Float32) -> Any:
        made = tensor(x)
        made.untyped_storage().resize_(chance.randrange(x.nbytes))
        return made

    def negated(_: Chance, x: Float32) -> Any:
        return tensor(x)._neg_view()

    def require_grad_view(_: Chance, x: Float32) -> Any:
        return tensor(x).requires_grad_().view(x.shape)

    def of_dtype(chance: Chance, x: Float32) -> Any:
        return tensor(x).to(chance.choice((torch.float64, torch.bfloat16, torch.int32, torch.bool)))

    def transposed(_: Chance, x: Float32) -> Any:
        return torch.zeros(3, 5).t() if x.size else None

    def output(_: Chance, x: Float32) -> tuple[Any, Float32]:
        made = torch.empty(x.shape)
        return made, made.numpy()

    sparse = torch.zeros(3, 3).to_sparse()
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    quantized = torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8)

    INPUTS.extend(
        (
            lambda chance, x: tensor(x),
            of_inference,
            lambda chance, x: tensor(x).as_subclass(Subclass),
            lambda chance, x: torch.nn.Parameter(tensor(x)).detach(),
            lambda chance, x: torch._lazy_clone(tensor(x)),
        )
    )
    DEFECTS.extend(
        (
            fake,
            resized,
            negated,
            require_grad_view,
            of_dtype,
            transposed,
            lambda chance, x: torch.nn.Parameter(tensor(x)),
            lambda chance, x: Wrapper(tensor(x)),
            lambda chance, x: torch.empty(x.shape, device="meta"),
            lambda chance, x: torch._efficientzerotensor(x.shape),
            lambda chance, x: chance.choice((sparse, nested, quantized)),
        )
    )
    OUTPUTS.append(output)
    NAMES.append(f"torch {torch.__version__}")


def _add_jax() -> None:
    import jax
    import jax.numpy as jnp

    def deleted(_: Chance, x: Float32) -> Any:
        made = jax.device_put(np.array(x))
        made.delete()
        return made

    INPUTS.append(lambda chance, x: jax.device_put(np.array(x)))
    READ_ONLY.append(lambda chance, x: jax.device_put(np.array(x)))
    narrow = jnp.zeros((3, 5), jnp.bfloat16)
    DEFECTS.extend((deleted, lambda chance, x: narrow))
    NAMES.append(f"jax {jax.__version__}")


def add_libraries() -> None:
    """Add what is installed, once."""
    warnings.simplefilter("ignore")
    if not NAMES:
        for name, add in (("torch", _add_torch), ("jax", _add_jax)):
            if find_spec(name) is not None:
                add()
    np.seterr(all="ignore")

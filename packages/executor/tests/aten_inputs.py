"""What the calls of ATen overloads in the tables take: inputs, constants, ranges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

ops: Any = torch.ops.aten
Function = Callable[..., Any]


def make_inputs() -> dict[str, Tensor]:
    """Floats x, y, v, q, image, ids (2, 3) of [0, 3] and a mask (2, 3, 4)."""
    generator = torch.Generator().manual_seed(7)
    shapes = {"x": (2, 3, 4), "y": (2, 3, 4), "v": (4,), "q": (1, 2, 3, 4), "image": (1, 4, 6, 5)}
    floats = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    ids = torch.randint(4, (2, 3), generator=generator)
    return {**floats, "ids": ids, "mask": torch.rand(2, 3, 4, generator=generator) > 0.4}


#: The ranges of the inputs of whole numbers.
RANGES = {"ids": (0, 3)}

KEEP = torch.tensor([[True, False, True, True], [False, False, True, True], [True] * 4])
KERNELS = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(8))
IMAGE_KERNELS = torch.randn(6, 4, 3, 2, generator=torch.Generator().manual_seed(9))


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Means and variances of four channels."""
    return torch.linspace(-1, 1, 4, dtype=x.dtype), torch.linspace(0.5, 2, 4, dtype=x.dtype)


CAUSAL = torch.ones(3, 3).tril().bool()
HALF = torch.linspace(-1, 1, 4, dtype=torch.float16)
INF = math.inf

"""Whether the weights of a program are still those that it was built from.

A program holds copies of its weights. PyTorch counts the writes to a tensor (`_version`); a tensor
whose memory is replaced has another address. Both are compared before each call. Writes through
`.data`, NumPy or a detached memory are not counted. So a few elements of each weight are compared
as well, which finds what changes a weight as a whole.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# Elements of each weight that are compared: about 0.1 us of a call.
SAMPLES = 8

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Watch:
    """Weights as they were: addresses, counts of writes, and samples."""

    def __init__(self, weights: Sequence[torch.Tensor], on_death: Callable[[], None]) -> None:
        """`on_death` is called when one of the tensors is gone, so that its id may be another's."""
        self._references = [weakref.ref(weight, lambda _: on_death()) for weight in weights]
        self._state = _state(weights)
        views: dict[int, list[NDArray[Any]]] = {}
        for weight in weights:
            if weight.numel() and weight.element_size() in _BITS:
                views.setdefault(weight.element_size(), []).append(_sample(weight))
        self._views = list(views.values())
        self._samples = [np.concatenate(group) for group in self._views]

    def is_current(self, weights: Sequence[torch.Tensor]) -> bool:
        """Whether nothing is known to have changed; `weights` are the tensors of before."""
        # Samples last: they read memory that only an unchanged address says to be there.
        return _state(weights) == self._state and all(
            np.array_equal(np.concatenate(group), before)
            for group, before in zip(self._views, self._samples, strict=True)
        )


def _state(weights: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    return [(weight.data_ptr(), weight._version) for weight in weights]


def _sample(weight: torch.Tensor) -> NDArray[Any]:
    """A view of the bits of a few elements: element i is at i * step on every axis."""
    bits = weight.detach().resolve_conj().resolve_neg().view(_BITS[weight.element_size()])
    count = min(SAMPLES, max(bits.shape, default=1))
    steps = [(size - 1) // max(1, count - 1) for size in bits.shape]
    stride = sum(step * along for step, along in zip(steps, bits.stride(), strict=True))
    view: NDArray[Any] = bits.as_strided((count,), (stride,), bits.storage_offset()).numpy()
    return view

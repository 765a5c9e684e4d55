"""What an adapter takes, a model with its inputs, and what it gives, one that can be called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

from ..suite import Needs, Profile

Array = npt.NDArray[Any]


@dataclass
class Model:
    """A PyTorch module in eval mode, and its inputs.

    `make_module` is called once; a runtime that copies the weights calls `release` then, after
    which the suite holds them no longer. `function` is what JAX runs: it takes parameters by name
    and the inputs, and `parameters` has them. `arrays` are the module's parameters where an export
    may take them without a copy.
    """

    make_module: Callable[[], torch.nn.Module]
    inputs: tuple[Array, ...]
    release: Callable[[], None] = lambda: None
    arrays: Mapping[str, Array] | None = None
    function: Callable[..., Any] | None = None
    parameters: dict[str, Array] = field(default_factory=dict)
    # What an adapter has made of the module, for all of its variants.
    exported: Any = None


class Runner:
    """One model in one runtime; `call` takes an argument that it ignores and returns when the
    result is there.

    `to_numpy` turns what `call` returns into an array, or into a list of them where the model has
    several results. `profile` gives the times of its operations, where the runtime has some.
    """

    is_traced = False

    def __init__(
        self, call: Callable[[Any], Any], to_numpy: Callable[[Any], Any] | None = None
    ) -> None:
        self.call = call
        self._to_numpy = to_numpy

    def outputs(self, result: Any) -> tuple[Array, ...]:
        """Return copies of the results: a runtime may write its next ones to the same places."""
        found = self._to_numpy(result) if self._to_numpy else result
        parts = found if isinstance(found, list | tuple) else (found,)
        return tuple(np.array(part) for part in parts)

    def output(self, result: Any) -> Array:
        """Return a copy of the result of a model that has one."""
        (array,) = self.outputs(result)
        return array

    def profile(self, repeat: int) -> Profile | None:
        """Return None: a runtime that fuses as it likes has no times of our parts."""
        return None

    def needs(self) -> Needs | None:
        """Return bytes besides the weights, where the runtime knows them."""
        return None

    def facts(self) -> dict[str, Any]:
        """Return columns of a row that are known once it is built."""
        return {}


class Adapter(ABC):
    """A runtime in this process, made by `Adapter(name, threads)`."""

    @abstractmethod
    def build(self, model: Model, options: Any = None) -> Runner:
        """Build a model; `options` are those that the adapter has of its own."""


def clock_read_ns(count: int = 2000) -> float:
    """Return the mean cost of one read of Python's clock, in nanoseconds."""
    start = perf_counter_ns()
    for _ in range(count):
        perf_counter_ns()
    return (perf_counter_ns() - start) / count


def as_tensors(arrays: Sequence[Array]) -> tuple[Any, ...]:
    """Return tensors over the memory of arrays."""
    import torch

    return tuple(torch.from_numpy(array) for array in arrays)


def as_arrays(result: Any) -> list[Array]:
    """Return arrays over the memory of a tensor, or of each of several."""
    parts = result if isinstance(result, list | tuple) else (result,)
    return [part.numpy() for part in parts]

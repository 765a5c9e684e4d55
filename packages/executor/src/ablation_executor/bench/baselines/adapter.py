"""What the adapters of the league share: a runner without a breakdown, and weights given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..configs import Config, peak_activation_bytes
from ..weights import Array

Weights = dict[str, Array]


class BaselineRunner:
    """One baseline with its input; `call` takes no argument and returns when the result is there.

    `to_numpy` turns what `call` returns into an array.
    """

    def __init__(
        self, config: Config, call: Callable[[], Any], to_numpy: Callable[[Any], Any]
    ) -> None:
        self._config = config
        self._call = call
        self._to_numpy = to_numpy

    def __call__(self) -> Any:
        """One call."""
        return self._call()

    def output(self, result: Any) -> npt.NDArray[Any]:
        """A copy of the result: a runtime may write its next one to the same place."""
        return np.array(self._to_numpy(result))

    def profile(self, repeat: int) -> None:
        """None: a runtime that fuses as it likes has no times of our parts."""

    def facts(self) -> dict[str, Any]:
        """Bytes; the activations are those of the unfused block, the most that a runtime needs.

        The weights are counted where the worker is admitted, so that nothing stays which could be
        given up and built again: building is what takes these runtimes long.
        """
        return {
            "resident_bytes": 0,
            "transient_bytes": peak_activation_bytes(self._config, is_manual=True),
            "weights_bytes": self._config.weights_bytes,
        }


class BaselinePrepared:
    """A config's arrays until its one baseline is built.

    `build` gets them to itself: of weights that it copies, it drops the source.
    """

    def __init__(
        self,
        config: Config,
        weights: Weights,
        x: Array,
        build: Callable[[Config, Weights, Array], BaselineRunner],
    ) -> None:
        self._config = config
        self._weights = weights
        self._x = x
        self._build = build

    def build(self, variant: str) -> BaselineRunner:
        """Build the worker's baseline; RuntimeError the second time, the weights being gone."""
        if not self._weights:
            raise RuntimeError(f"{variant} of {self._config.name} is built already")
        weights, self._weights = self._weights, {}
        return self._build(self._config, weights, self._x)

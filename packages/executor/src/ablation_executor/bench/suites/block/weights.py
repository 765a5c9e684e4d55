"""Random weights and inputs from a seed, the same in every process (numpy only)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .configs import Config

Array = npt.NDArray[np.float32]
# Streams of random numbers: weights of the first layer, input, weights of the layers after it.
FIRST_STREAM, INPUT_STREAM = 0, 1

LINEAR_SHAPES: dict[str, tuple[int, int]] = {
    # name -> (outputs, inputs) in units of d_model
    "query": (1, 1),
    "key": (1, 1),
    "value": (1, 1),
    "out": (1, 1),
    "up": (4, 1),
    "down": (1, 4),
}


def _generator(config: Config, seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(config.name.encode()), stream])


def make_weights(config: Config, seed: int) -> dict[str, Array]:
    """Float32 parameters by their torch names: `query.weight` of a single block, `1.query.weight`
    of the second of several layers.

    The first layer has the weights of the single block.
    """
    if config.layers == 1:
        return make_layer(config, seed, 0)
    return {
        f"{layer}.{name}": array
        for layer in range(config.layers)
        for name, array in make_layer(config, seed, layer).items()
    }


def layers_of(config: Config, weights: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The weights of each layer by their names within a block, from those of `make_weights`."""
    if config.layers == 1:
        return [dict(weights)]
    layers: list[dict[str, Any]] = [{} for _ in range(config.layers)]
    for name, array in weights.items():
        layer, _, inner = name.partition(".")
        layers[int(layer)][inner] = array
    return layers


def make_layer(config: Config, seed: int, layer: int) -> dict[str, Array]:
    """Float32 parameters of a layer by their names within a block.

    Linear weights (outputs, inputs) have variance 1 / inputs, so that every activation stays of
    order one; the norms' weights and all biases differ from one and zero, so that none can be
    left out unnoticed.
    """
    rng = _generator(config, seed, FIRST_STREAM if layer == 0 else INPUT_STREAM + layer)
    d = config.d_model
    weights: dict[str, Array] = {}
    for name, (outputs, inputs) in LINEAR_SHAPES.items():
        matrix = rng.standard_normal((outputs * d, inputs * d), dtype=np.float32)
        matrix *= np.float32((inputs * d) ** -0.5)
        if name in ("query", "key"):
            matrix *= np.float32(config.query_key_gain)
        weights[f"{name}.weight"] = matrix
        bias = rng.standard_normal(outputs * d, dtype=np.float32)
        weights[f"{name}.bias"] = bias * np.float32(0.1)
    for name in ("norm_attention", "norm_feed_forward"):
        weights[f"{name}.weight"] = 1 + np.float32(0.1) * rng.standard_normal(d, dtype=np.float32)
        weights[f"{name}.bias"] = np.float32(0.1) * rng.standard_normal(d, dtype=np.float32)
    return weights


def make_input(config: Config, seed: int) -> Array:
    """Float32 input (batch, seq_len, d_model) of unit variance, from a stream of its own."""
    rng = _generator(config, seed, INPUT_STREAM)
    shape = (config.batch, config.seq_len, config.d_model)
    return rng.standard_normal(shape, dtype=np.float32)

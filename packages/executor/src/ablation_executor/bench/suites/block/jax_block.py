"""The block in jax.numpy.

Attention is written out: `jax.nn.dot_product_attention` has no CPU implementation of its own, and
XLA made 3 to 5% slower code of its layout of heads.
"""

from __future__ import annotations

import math
from typing import Any

from .configs import Config
from .weights import layers_of


def model(config: Config, weights: dict[str, Any], x: Any) -> Any:
    """Return the layers of x, (B, S, d) float32, one after another; weights as `block` takes them,
    by the names of `make_weights`."""
    for layer in layers_of(config, weights):
        x = block(config, layer, x)
    return x


def block(config: Config, weights: dict[str, Any], x: Any) -> Any:
    """Return the block of x, (B, S, d) float32; weights are (inputs, outputs), as in JAX's own
    layers."""
    import jax
    import jax.numpy as jnp

    def linear(name: str, value: Any) -> Any:
        return value @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(name: str, value: Any) -> Any:
        centered = value - value.mean(axis=-1, keepdims=True)
        variance = jnp.square(centered).mean(axis=-1, keepdims=True)
        scaled = centered * jax.lax.rsqrt(variance + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def split(value: Any) -> Any:
        heads = (config.batch, config.seq_len, config.n_heads, config.head_dim)
        return value.reshape(heads).transpose(0, 2, 1, 3)

    h = norm("norm_attention", x)
    q, k, v = (split(linear(name, h)) for name in ("query", "key", "value"))
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(config.head_dim)
    if config.causal:
        hidden = jnp.triu(jnp.ones((config.seq_len, config.seq_len), dtype=bool), k=1)
        scores = jnp.where(hidden, -jnp.inf, scores)
    context = (jax.nn.softmax(scores, axis=-1) @ v).transpose(0, 2, 1, 3)
    x = x + linear("out", context.reshape(x.shape))
    return x + linear("down", jax.nn.relu(linear("up", norm("norm_feed_forward", x))))

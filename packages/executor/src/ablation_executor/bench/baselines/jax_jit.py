"""JAX: the block in jax.numpy, jitted by XLA for the CPU and compiled ahead.

Attention is written out: `jax.nn.dot_product_attention` has no CPU implementation of its own, and
XLA made 3 to 5% slower code of its layout of heads. Weights are (inputs, outputs) as in JAX's own
layers, and arguments of the compiled function, as its guides have it. Closed over, they become
constants of the program: 16 arguments less in a tiny call (a tenth of its time), but slower
products and several copies of the weights in a large one.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from ..configs import Config
from ..weights import Array
from .adapter import BaselinePrepared, BaselineRunner, Weights


class Adapter:
    """JAX on the CPU.

    XLA has no option for the threads within an operation: it sizes its pool by the environment
    variable NPROC, which the bench sets for every worker, or by the cores it may use.
    """

    def __init__(self, name: str, threads: int) -> None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_default_matmul_precision", "highest")

    def prepare(self, config: Config, weights: Weights, x: Array) -> BaselinePrepared:
        """Keep the arrays."""
        return BaselinePrepared(config, weights, x, self._build)

    def _build(self, config: Config, weights: Weights, x: Array) -> BaselineRunner:
        """Lower and compile for these shapes; each source array goes as JAX takes it over."""
        taken = {name: jnp.asarray(weights.pop(name).T.copy()) for name in list(weights)}
        given = jnp.asarray(x)
        function = jax.jit(lambda weights, x: block(config, weights, x))
        compiled = function.lower(taken, given).compile()
        return BaselineRunner(
            config, lambda: compiled(taken, given).block_until_ready(), lambda result: result
        )


def block(config: Config, weights: dict[str, Any], x: Any) -> Any:
    """The block of (B, S, d) float32 arrays; weights are (inputs, outputs)."""

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

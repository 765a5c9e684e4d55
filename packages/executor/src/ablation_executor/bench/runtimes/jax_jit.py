"""JAX: a function in jax.numpy, jitted by XLA for the CPU and compiled ahead.

Weights are arguments of the compiled function, as JAX's guides have it. Closed over, they become
constants of the program: 16 arguments less in a tiny call of a block (a tenth of its time), but
slower products and several copies of the weights in a large one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from . import adapter
from .adapter import Model, Runner


class Adapter(adapter.Adapter):
    """JAX on the CPU.

    XLA has no option for the threads within an operation: it sizes its pool by the environment
    variable NPROC, which the bench sets for every worker, or by the cores it may use.
    """

    def __init__(self, name: str, threads: int) -> None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_default_matmul_precision", "highest")

    def build(self, model: Model, options: Any = None) -> Runner:
        """Lower and compile for these shapes; each parameter goes as JAX takes it over.

        NotImplementedError for a model without a function.
        """
        if model.function is None:
            raise NotImplementedError("JAX runs a function, and this model has none")
        given = tuple(jnp.asarray(array) for array in model.inputs)
        parameters = model.parameters
        taken = {name: jnp.asarray(parameters.pop(name)) for name in list(parameters)}
        model.release()
        compiled = jax.jit(model.function).lower(taken, *given).compile()
        return Runner(lambda _: compiled(taken, *given).block_until_ready())

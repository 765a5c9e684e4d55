"""The programs of the block: a rung of the ladder in its runtime, with weights and input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...runtimes import adapter
from ...runtimes.adapter import Model, Runner
from ...suite import Loaded, Needs, Verdict
from ..runner_program import RunnerProgram
from .check import Reference, block_reference, compare, other_growth, stack_reference
from .configs import Config, peak_activation_bytes, probes_of
from .jax_block import model as jax_model
from .ladder import BY_NAME, Rung
from .weights import Array, make_input, make_layer, make_weights

OURS = ("kernels", "numpy")


def options_of(rung: Rung) -> Any:
    """Return what our adapter takes for a rung; None for other runtimes."""
    if rung.runtime not in OURS:
        return None
    from ...runtimes.ours import Options

    return Options(
        rung.executor,
        rung.passes,
        rung.kernels,
        rung.share_rows,
        other_arithmetic=rung.arithmetic == "other",
    )


def growth_of(runner: Runner) -> float | None:
    """Return by what the limits grow where products are of another arithmetic; None elsewhere."""
    products: str = runner.facts().get("kernels", {}).get("matmul", "")
    if "strassen" not in products:
        return None
    from ablation_kernels import strassen

    return other_growth(max(map(strassen.levels_of, products.split("+"))))


class BlockInputs:
    """Weights and input of a config; what a runtime copies is given up."""

    def __init__(self, config: Config, seed: int) -> None:
        self.config = config
        self.weights: dict[str, Array] = make_weights(config, seed)
        self.x = make_input(config, seed)
        self._model: Model | None = None

    def model(self, rung: Rung) -> Model:
        """Return what a runtime is given; our variants share one, as they do its export.

        RuntimeError where the weights were given up.
        """
        if rung.runtime in OURS:
            self._model = self._model or self._make("manual", arrays=self.weights)
            return self._model
        if not self.weights:
            raise RuntimeError(f"{rung.name} of {self.config.name} is built already")
        if rung.runtime != "jax":
            return self._make(rung.module)
        taken = {name: array.T.copy() for name, array in self.weights.items()}
        return self._make("manual", parameters=taken, function=partial(jax_model, self.config))

    def _make(self, kind: str, **others: Any) -> Model:
        def make_module() -> Any:
            from .models import make_module

            return make_module(self.config, self.weights, kind)

        return Model(make_module, (self.x,), self.release, **others)

    def release(self) -> None:
        """Give up the weights, which the runtime has copied."""
        self.weights = {}


class BlockProgram(RunnerProgram):
    """A rung that is built."""

    def __init__(
        self, rung: Rung, config: Config, runner: Runner, probes: Callable[[], Verdict]
    ) -> None:
        super().__init__(rung.runtime, runner, config.weights_bytes)
        self._rung = rung
        self._config = config
        self._probes = probes
        self._output: Array | None = None

    def probe(self) -> Verdict:
        """Run the probes by the same rung."""
        return self._probes()

    def keep_output(self, phase: str, result: Any) -> None:
        """Keep the first call's output."""
        self._output = self._runner.output(result)

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """Compare the first call's output with the reference file."""
        output, self._output = self._output, None
        if output is None or reference is None:
            raise RuntimeError("check without a first call, or without a reference")
        return compare(output, Reference.load(reference), growth_of(self._runner))

    def needs(self) -> Needs:
        """Return bytes besides the weights, which the worker holds; the activations of a runtime
        that plans nothing are a formula."""
        is_manual = self._rung.module == "manual" or self._rung.runtime != "torch"
        return self._runner.needs() or Needs(0, peak_activation_bytes(self._config, is_manual))


class BlockLoaded(Loaded):
    """A config in a worker: its weights, its input, and the probes once they are asked for."""

    def __init__(self, runtime: adapter.Adapter, config: Config, seed: int) -> None:
        self._runtime = runtime
        self._seed = seed
        self._inputs = BlockInputs(config, seed)
        self._references: list[Reference] | None = None
        self._probe_inputs: list[BlockInputs] = []

    def build(self, variant: str) -> BlockProgram:
        """Build a rung."""
        rung = BY_NAME[variant]
        runner = self._runtime.build(self._inputs.model(rung), options_of(rung))
        return BlockProgram(rung, self._inputs.config, runner, partial(self._probe, rung))

    def _probe(self, rung: Rung) -> Verdict:
        if self._references is None:
            probes = probes_of(self._inputs.config)
            self._probe_inputs = [BlockInputs(config, self._seed) for config in probes]
            self._references = [
                block_reference(inputs.config, inputs.weights, inputs.x)
                for inputs in self._probe_inputs
            ]
        return probed(
            (inputs.config.name, self._runtime.build(inputs.model(rung), options_of(rung)), wanted)
            for inputs, wanted in zip(self._probe_inputs, self._references, strict=True)
        )


def probed(probes: Iterable[tuple[str, Runner, Reference]]) -> Verdict:
    """Call each probe twice and compare; the verdict says which call of which was wrong first."""
    for name, runner, reference in probes:
        # The second call meets memory that the first has used.
        for call in ("first", "second"):
            verdict = compare(runner.output(runner.call(None)), reference, growth_of(runner))
            if verdict.reason is not None:
                verdict.reason = f"{name}, {call} call: {verdict.reason}"
                return verdict
    return Verdict()


def write_reference(config: Config, seed: int, path: Path) -> None:
    """Compute the reference of a config and write it."""
    layers = (make_layer(config, seed, layer) for layer in range(config.layers))
    stack_reference(config, layers, make_input(config, seed)).save(path)

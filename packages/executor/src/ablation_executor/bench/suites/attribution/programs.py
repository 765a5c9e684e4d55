"""The programs of the lattice in a worker: many native programs and loops of one model, which share
its weights, their packed copies and one arena."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch

import ablation_kernels

from ....exporter import export
from ....ir import Graph
from ....passes import optimize
from ....workspace import Workspace
from ...case import Case
from ...runtimes.ours import Adapter, Exported, GraphRunner, Options, program_hash
from ...suite import Loaded, Needs, Profile, Verdict
from ..block.check import Reference, block_reference, compare
from ..block.configs import Config, config_of, probes_of
from ..block.ladder import BY_NAME, Rung
from ..block.models import empty_module, make_module
from ..block.programs import BlockInputs, BlockProgram, options_of
from ..twins import program_name
from .factors import Program as Settings
from .factors import program_of
from .lattice import Lattice, identity

# The rung whose model our runtimes export.
OURS = BY_NAME["beyond-default"]


def exported_graph(case: Case) -> Graph:
    """Export the model of a case with weights of zero, whose pages nobody touches."""
    config = config_of(case)
    parameters = empty_module(config, "manual").named_parameters()
    weights = {name: np.zeros(p.shape, np.float32) for name, p in parameters}
    x = torch.zeros(config.batch, config.seq_len, config.d_model)
    torch.set_num_threads(1)
    return export(make_module(config, weights, "manual"), (x,), arrays=weights)


class PointProgram(BlockProgram):
    """A point of the lattice: its program, on its number of threads."""

    def __init__(
        self,
        threads: int,
        rung: Rung,
        config: Config,
        runner: GraphRunner,
        probes: Callable[[], Verdict],
    ) -> None:
        super().__init__(rung, config, runner, probes)
        self._threads = threads
        self._program_hash = identity(runner.digest(), rung.executor, threads)

    def built_facts(self) -> dict[str, Any]:
        """Return what the runtime knows, and the hash that planning foretold."""
        return {**super().built_facts(), "program_hash": self._program_hash}

    def prepare(self, phase: str) -> None:
        """Set the threads, before the clock is read."""
        if ablation_kernels.get_num_threads() != self._threads:
            ablation_kernels.set_num_threads(self._threads)

    def profile(self, phase: str, repeat: int) -> Profile | None:
        """Return None: hundreds of breakdowns would say little."""
        return None

    def needs(self) -> Needs:
        """Return the input and the output: all else is shared."""
        return Needs(0, 2 * self._config.block_bytes)


class _Model:
    """A config in a worker: what its programs share."""

    def __init__(self, adapter: Adapter, config: Config, seed: int) -> None:
        self.config = config
        self.inputs = BlockInputs(config, seed)
        self._adapter = adapter
        self._workspace = Workspace()
        self._graphs: dict[frozenset[str], Graph] = {}
        self._by_hash: dict[str, Graph] = {}

    @property
    def exported(self) -> Exported:
        """The graph that every program starts from."""
        return self._adapter.export(self.inputs.model(OURS))

    def graph(self, passes: tuple[str, ...]) -> Graph:
        """Return the graph under some passes; equal ones are one, with the same constants."""
        key = frozenset(passes)
        if key not in self._graphs:
            graph, _ = optimize(self.exported.graph, passes=passes)
            known_by = program_hash(graph, {})
            if known_by not in self._by_hash:
                self._workspace.share_constants(graph)
                self._by_hash[known_by] = graph
            self._graphs[key] = self._by_hash[known_by]
        return self._graphs[key]

    def runner(self, settings: Settings, threads: int) -> GraphRunner:
        """Build a program."""
        start = perf_counter_ns()
        ablation_kernels.set_num_threads(threads)
        options = Options(settings.executor, settings.passes, settings.kernels, settings.share_rows)
        return GraphRunner(
            self.exported,
            self.graph(settings.passes),
            options,
            "kernels",
            threads,
            start,
            self._workspace,
        )


class AttributionLoaded(Loaded):
    """A case in the worker of our kernels."""

    def __init__(self, adapter: Adapter, case: Case, seed: int) -> None:
        self._adapter = adapter
        self._lattice = Lattice.of(case)
        self._threads = case.threads
        self._seed = seed
        self._model = _Model(adapter, config_of(case), seed)
        self._probes: list[tuple[_Model, Reference]] = []

    def build(self, variant: str) -> BlockProgram:
        """Build the program of a point, or a rung of the block's ladder."""
        name, model = program_name(variant), self._model
        if name in BY_NAME:
            return self._rung(BY_NAME[name])
        point = self._lattice.complete(self._lattice.point(name))
        if point is None:
            raise ValueError(f"no program is {name!r}")
        settings = program_of(point)
        threads = self._threads if settings.is_parallel else 1
        rung = replace(OURS, executor=settings.executor, kernels=dict(settings.kernels))

        def build(model: _Model) -> GraphRunner:
            return model.runner(settings, threads)

        probes = partial(self._probe, build)
        return PointProgram(threads, rung, model.config, build(model), probes)

    def _rung(self, rung: Rung) -> BlockProgram:
        """Build a rung of the block's ladder."""

        def build(model: _Model) -> GraphRunner:
            ablation_kernels.set_num_threads(self._threads)
            return self._adapter.build(model.inputs.model(rung), options_of(rung))

        probes = partial(self._probe, build)
        runner = build(self._model)
        return PointProgram(self._threads, rung, self._model.config, runner, probes)

    def _probe(self, build: Callable[[_Model], GraphRunner]) -> Verdict:
        if not self._probes:
            for config in probes_of(self._model.config):
                model = _Model(self._adapter, config, self._seed)
                inputs = model.inputs
                reference = block_reference(config, inputs.weights, inputs.x)
                self._probes.append((model, reference))
        for model, reference in self._probes:
            runner = build(model)
            # The second call meets memory that the first has used.
            for call in ("first", "second"):
                verdict = compare(runner.output(runner.call(None)), reference)
                if verdict.reason is not None:
                    verdict.reason = f"{model.config.name}, {call} call: {verdict.reason}"
                    return verdict
        return Verdict()

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
from ..block.check import Reference, block_reference
from ..block.configs import Config, config_of, probes_of
from ..block.ladder import BY_NAME, Rung
from ..block.models import empty_module, make_module
from ..block.programs import BlockInputs, BlockProgram, options_of, probed
from ..twins import program_name
from .factors import Settings, settings_of
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

    def runner(self, options: Options, threads: int) -> GraphRunner:
        """Build a program on some threads."""
        start = perf_counter_ns()
        ablation_kernels.set_num_threads(threads)
        graph = self.graph(options.passes)
        return GraphRunner(
            self.exported, graph, options, "kernels", threads, start, self._workspace
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
        name, threads = program_name(variant), self._threads
        if name in BY_NAME:
            rung = BY_NAME[name]
            options: Options = options_of(rung)
        else:
            settings = self._settings(name)
            options = Options(
                settings.executor, settings.passes, settings.kernels, settings.share_rows
            )
            rung = replace(OURS, executor=settings.executor, kernels=dict(settings.kernels))
            threads = threads if settings.is_parallel else 1
        runner = self._model.runner(options, threads)
        probes = partial(self._probe, options, threads)
        return PointProgram(threads, rung, self._model.config, runner, probes)

    def _settings(self, name: str) -> Settings:
        point = self._lattice.complete(self._lattice.point(name))
        if point is None:
            raise ValueError(f"no program is {name!r}")
        return settings_of(point)

    def _probe(self, options: Options, threads: int) -> Verdict:
        if not self._probes:
            for config in probes_of(self._model.config):
                model = _Model(self._adapter, config, self._seed)
                inputs = model.inputs
                reference = block_reference(config, inputs.weights, inputs.x)
                self._probes.append((model, reference))
        return probed(
            (model.config.name, model.runner(options, threads), reference)
            for model, reference in self._probes
        )

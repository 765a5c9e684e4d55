"""The programs of the lattice in a worker: many native programs and loops of one model, which share
its weights, their packed copies and one arena."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
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
from ...suite import Loaded, Needs, Profile, Program, Verdict
from ..block.check import Reference, block_reference
from ..block.configs import Config, config_of, probes_of
from ..block.ladder import BY_NAME as BLOCK_LADDER
from ..block.models import empty_module, make_module
from ..block.programs import BlockInputs, BlockProgram, options_of, probed
from ..model.cases import is_of_module
from ..model.planning import export_subject
from ..model.programs import ModuleInputs, ModuleProgram
from ..model.programs import options_of as module_options_of
from ..model.subject import load_subject
from ..twins import program_name
from .factors import Settings, settings_of
from .lattice import Lattice, identity
from .references import references_of

# The rung whose model our runtimes export.
OURS = BLOCK_LADDER["beyond-default"]


def exported_graph(case: Case, seed: int) -> Graph:
    """Export the model of a case, a config's with weights of zero, whose pages nobody touches."""
    if is_of_module(case):
        return export_subject(load_subject(case, seed))
    config = config_of(case)
    parameters = empty_module(config, "manual").named_parameters()
    weights = {name: np.zeros(p.shape, np.float32) for name, p in parameters}
    x = torch.zeros(config.batch, config.seq_len, config.d_model)
    torch.set_num_threads(1)
    return export(make_module(config, weights, "manual"), (x,), arrays=weights)


class Source(ABC):
    """A model in a worker: what its programs share."""

    def __init__(self) -> None:
        self._workspace = Workspace()
        self._graphs: dict[frozenset[str], Graph] = {}
        self._by_hash: dict[str, Graph] = {}

    @property
    @abstractmethod
    def exported(self) -> Exported:
        """The graph that every program starts from."""

    @abstractmethod
    def options(self, name: str) -> Options:
        """Return how a program runs that stands outside the lattice."""

    @abstractmethod
    def program(self, options: Options, threads: int, runner: GraphRunner) -> Program:
        """Return a program that checks what a runner computes."""

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


class BlockSource(Source):
    """A config of the block."""

    def __init__(self, adapter: Adapter, config: Config, seed: int) -> None:
        super().__init__()
        self.config = config
        self.inputs = BlockInputs(config, seed)
        self._adapter = adapter
        self._seed = seed
        self._probes: list[tuple[BlockSource, Reference]] = []

    @property
    def exported(self) -> Exported:
        """The graph of the block, exported once."""
        return self._adapter.export(self.inputs.model(OURS))

    def options(self, name: str) -> Options:
        """Return those of a rung of the block's ladder."""
        found: Options = options_of(BLOCK_LADDER[name])
        return found

    def program(self, options: Options, threads: int, runner: GraphRunner) -> Program:
        """Return a program that compares with the block in float64, and runs its probes."""
        return BlockProgram(OURS, self.config, runner, partial(self._probe, options, threads))

    def _probe(self, options: Options, threads: int) -> Verdict:
        if not self._probes:
            for config in probes_of(self.config):
                source = BlockSource(self._adapter, config, self._seed)
                inputs = source.inputs
                self._probes.append((source, block_reference(config, inputs.weights, inputs.x)))
        return probed(
            (source.config.name, source.runner(options, threads), reference)
            for source, reference in self._probes
        )


class ModuleSource(Source):
    """A user's module, or a named model."""

    def __init__(self, adapter: Adapter, case: Case, seed: int) -> None:
        super().__init__()
        self._inputs = ModuleInputs(case, seed)
        self._adapter = adapter

    @property
    def exported(self) -> Exported:
        """The graph of the module, exported once."""
        return self._adapter.export(self._inputs.model("kernels"))

    def options(self, name: str) -> Options:
        """Return those of a rung of the ladder of modules."""
        return module_options_of(name)

    def program(self, options: Options, threads: int, runner: GraphRunner) -> Program:
        """Return a program that compares with the module in float64."""
        return ModuleProgram("kernels", self._inputs, runner)


class PointProgram(Program):
    """A point of the lattice: its program, on its number of threads."""

    is_traced = False

    def __init__(self, program: Program, runner: GraphRunner, executor: str, threads: int) -> None:
        self._program = program
        self._threads = threads
        self._passing_bytes = runner.passing_bytes
        self._program_hash = identity(runner.digest(), executor, threads)

    def probe(self) -> Verdict:
        """Run the model's probes."""
        return self._program.probe()

    def keep_output(self, phase: str, result: Any) -> None:
        """Keep the first call's results."""
        self._program.keep_output(phase, result)

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """Compare the first call's results with the reference file."""
        return self._program.check(phases, reference)

    def call(self, phase: str, prepared: Any) -> Any:
        """Make one call."""
        return self._program.call(phase, prepared)

    def caller(self, phase: str) -> Callable[[Any], Any]:
        """Return the runner's own call, without a frame around it."""
        return self._program.caller(phase)

    def built_facts(self) -> dict[str, Any]:
        """Return what the runtime knows, and the hash that planning foretold."""
        return {**self._program.built_facts(), "program_hash": self._program_hash}

    def prepare(self, phase: str) -> None:
        """Set the threads, before the clock is read."""
        if ablation_kernels.get_num_threads() != self._threads:
            ablation_kernels.set_num_threads(self._threads)

    def profile(self, phase: str, repeat: int) -> Profile | None:
        """Return None: hundreds of breakdowns would say little."""
        return None

    def needs(self) -> Needs:
        """Return the inputs and the results: all else is shared."""
        return Needs(0, self._passing_bytes)


class AttributionLoaded(Loaded):
    """A case in the worker of our kernels."""

    def __init__(self, adapter: Adapter, case: Case, seed: int) -> None:
        self._lattice = Lattice.of(case)
        self._threads = case.threads
        self._references = references_of(case)
        self._source: Source
        if is_of_module(case):
            self._source = ModuleSource(adapter, case, seed)
        else:
            self._source = BlockSource(adapter, config_of(case), seed)

    def build(self, variant: str) -> PointProgram:
        """Build the program of a point, or one that stands outside the lattice."""
        name, threads = program_name(variant), self._threads
        if name in self._references:
            options = self._source.options(name)
        else:
            settings = self._settings(name)
            options = Options(
                settings.executor, settings.passes, settings.kernels, settings.share_rows
            )
            threads = threads if settings.is_parallel else 1
        runner = self._source.runner(options, threads)
        program = self._source.program(options, threads, runner)
        return PointProgram(program, runner, options.executor, threads)

    def _settings(self, name: str) -> Settings:
        point = self._lattice.complete(self._lattice.point(name))
        if point is None:
            raise ValueError(f"no program is {name!r}")
        return settings_of(point)

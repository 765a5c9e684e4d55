"""The programs of the suite: a module in a runtime, with its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...case import Case
from ...runtimes import adapter
from ...runtimes.adapter import Array, Model, Runner
from ...runtimes.ours import GraphRunner, Options
from ...runtimes.parameters import take_weights
from ...suite import Loaded, Needs, Verdict
from ..runner_program import RunnerProgram
from ..twins import program_name
from .ladder import BY_NAME, EAGER
from .positional import shown_path
from .reference import Reference, compare, compute_reference, reverse
from .subject import Subject, load_subject


def options_of(name: str) -> Options:
    """Return what our adapter takes for a rung of the ladder."""
    rung = BY_NAME[name]
    return Options("compiled", rung.passes(), rung.kernels, rung.share_rows)


class ModuleInputs:
    """A module with its inputs in a worker; what a runtime copies is given up."""

    def __init__(self, case: Case, seed: int) -> None:
        subject = load_subject(case, seed)
        self.inputs = subject.inputs
        self.results = subject.results
        self.fingerprint = subject.fingerprint()
        self.weights_bytes = sum(
            part.numel() * part.element_size() for part in subject.module.parameters()
        )
        self._subject: Subject | None = subject
        self._ours: Model | None = None

    def model(self, worker: str) -> Model:
        """Return what a runtime is given; our variants share one, as they do its export.

        RuntimeError where the module was given up.
        """
        if worker == "kernels" and self._ours is not None:
            return self._ours
        if self._subject is None:
            raise RuntimeError(f"the module of {worker} is built already")
        module = self._subject.module
        if worker != "kernels":
            return Model(lambda: module, self.inputs, self._release)
        weights = take_weights(module)
        self._ours = Model(lambda: module, self.inputs, self._release, arrays=weights)
        return self._ours

    def _release(self) -> None:
        self._subject = None


class ModuleProgram(RunnerProgram):
    """A variant that is built."""

    def __init__(self, worker: str, inputs: ModuleInputs, runner: Runner) -> None:
        super().__init__(worker, runner, inputs.weights_bytes)
        self._inputs = inputs
        self._results: tuple[Array, ...] | None = None

    def probe(self) -> Verdict:
        """Find nothing: a module has no smaller form. `check` calls it with other inputs."""
        return Verdict()

    def keep_output(self, phase: str, result: Any) -> None:
        """Keep the first call's results."""
        self._results = self._runner.outputs(result)

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """Compare the results of the first call with the reference file, of a second, which meets
        memory that the first has used, and of one with inputs that it has not met before."""
        results, self._results = self._results, None
        if results is None or reference is None:
            raise RuntimeError("check without a first call, or without a reference")
        wanted = Reference.load(reference)
        verdict = compare(results, wanted, lambda: self._inputs.fingerprint)
        if verdict.reason is None:
            again = compare(self._runner.outputs(self._runner.call(None)), wanted)
            if again.reason is not None:
                verdict.reason = f"second call: {again.reason}"
        if verdict.reason is None and wanted.other is not None:
            other = compare(self._reversed_outputs(), wanted.other)
            if other.reason is not None:
                verdict.reason = f"call with other inputs: {other.reason}"
        return verdict

    def _reversed_outputs(self) -> tuple[Array, ...]:
        """Return the results for the inputs reversed: what was taken from those that it was built
        with, as a constant, is found. Every runtime here reads inputs where they lie."""
        reverse(self._inputs.inputs)
        try:
            return self._runner.outputs(self._runner.call(None))
        finally:
            reverse(self._inputs.inputs)

    def needs(self) -> Needs | None:
        """Return bytes besides the weights, where the runtime knows them."""
        return self._runner.needs()

    def facts(self, phase: str) -> dict[str, Any]:
        """Return the module that each operation of ours is of."""
        if not isinstance(self._runner, GraphRunner):
            return {}
        paths = {name: shown_path(path) for name, path in self._runner.module_paths().items()}
        return {"details": {"module_paths": paths}}


class ModuleLoaded(Loaded):
    """A case in a worker: its module and inputs."""

    def __init__(self, runtime: adapter.Adapter, worker: str, case: Case, seed: int) -> None:
        self._runtime = runtime
        self._worker = worker
        self._inputs = ModuleInputs(case, seed)

    def build(self, variant: str) -> ModuleProgram:
        """Build a variant; NotImplementedError where another runtime does not take the module."""
        name = program_name(variant)
        model = self._inputs.model(self._worker)
        if name in BY_NAME:
            runner = self._runtime.build(model, options_of(name))
        elif name == EAGER:
            runner = self._runtime.build(model)
        else:
            runner = self._build_other(model, variant)
        return ModuleProgram(self._worker, self._inputs, runner)

    def _build_other(self, model: Model, variant: str) -> Runner:
        try:
            return self._runtime.build(model)
        except (MemoryError, NotImplementedError):
            raise
        except Exception as error:
            # Whatever a converter raises is what this runtime says of the module
            told = str(error).strip().split("\n\n")[0][:600]
            raise NotImplementedError(
                f"{variant} does not take the module: {type(error).__name__}: {told}"
            ) from error


def write_reference(case: Case, seed: int, path: Path) -> None:
    """Compute the reference of a case and write it."""
    compute_reference(load_subject(case, seed)).save(path)

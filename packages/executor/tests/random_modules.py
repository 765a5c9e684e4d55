"""Random modules, exported and run: right, or a clean ExportError.

    python packages/executor/tests/random_modules.py [--count 500] [--seed 1] [--seconds 150]
        [--kind transformers] [--set rotary=half] [--backend]

Transformers of random parts (`random_transformers.py`) and modules of random calls
(`random_calls.py`), an equal number of each without `--kind`. Each is run as exported, with all
passes, by a random kernel for attention and on other inputs, and compared with the module in
float64; the limit is a multiple of eager float32's error. `--backend` has torch.compile run it too.
The command prints how often each choice was covered, refused and wrong, the reasons of refusals,
how often attention is one call, and the smallest choices with which a wrong module is still wrong.
A line in between has the counts so far, and each wrong module is printed as it is found. SIGTERM
ends the run with what is known then.
"""

from __future__ import annotations

import argparse
import copy
import signal
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from random_calls import Draw
from random_choices import Choices, smallest
from random_transformers import Transformer
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import ablation_kernels
from ablation_executor import ExportError, export, optimize
from ablation_executor.bench.suites.model.reference import InFloat64
from ablation_executor.compiler import compile
from ablation_executor.ir import Graph

#: Times eager's largest error, and units of the largest element: two orders of a sum differ.
MULTIPLE, UNITS = 16.0, 2.0**-18
KERNELS = [info.name for info in ablation_kernels.op_table() if info.op == "attention"]
RIGHT, REFUSED, WRONG, INVALID = "right", "refused", "wrong", "invalid"
#: Modules between two lines of counts.
EVERY = 20


@dataclass
class Outcome:
    """What became of a module. `fused` is None where it has no attention of its own."""

    status: str
    text: str = ""
    reasons: tuple[str, ...] = ()
    fused: bool | None = None
    missed: tuple[str, ...] = ()


@dataclass
class Subject:
    """A module with arguments of two calls, by name."""

    module: nn.Module
    calls: tuple[dict[str, Tensor], dict[str, Tensor]]
    ranges: Mapping[str, tuple[int, int]]


def transformer(choices: Choices) -> Subject:
    """A transformer of random parts."""
    module = Transformer(choices)
    return Subject(module, (module.inputs(choices.seed), module.inputs(-1)), module.ranges)


def calls(choices: Choices) -> Subject:
    """A chain of random calls."""
    seed = choices.seed
    module = Draw(seed, choices.pick("length", 1, 2, 3, 4, 5)).eval()

    def inputs(first: int) -> dict[str, Tensor]:
        seeds = {"x": first, "y": first + 1}
        return {
            name: torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(s))
            for name, s in seeds.items()
        }

    return Subject(module, (inputs(seed), inputs(seed + 7)), {})


KINDS = {"transformers": transformer, "calls": calls}


def tensors_of(result: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def in_float64(module: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """The results of a copy in float64, with what it casts to float32 left in float64."""
    wide = copy.deepcopy(module).double()
    given = {k: x.double() if x.is_floating_point() else x for k, x in inputs.items()}
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with InFloat64():
            return tensors_of(wide(**given))
    finally:
        torch.set_default_dtype(usual)


@dataclass
class Expected:
    """What a call gives in float32, and in float64 where it has the same types."""

    eager: list[Tensor]
    exact: list[Tensor]

    def difference(self, results: Sequence[Any]) -> str:
        """How results differ; "" where they are right."""
        if len(results) != len(self.eager):
            return f"{len(results)} results, expected {len(self.eager)}"
        for number, got in enumerate(results):
            if words := _difference(np.asarray(got), self.eager[number], self.exact[number]):
                return f"result {number}: {words}"
        return ""


def _difference(got: Any, eager: Tensor, exact: Tensor) -> str:
    if tuple(got.shape) != tuple(eager.shape) or f"torch.{got.dtype}" != str(eager.dtype):
        return f"{got.dtype}{list(got.shape)}, expected {eager.dtype}{list(eager.shape)}"
    if eager.dtype != torch.float32:
        return "" if np.array_equal(got, eager.numpy()) else f"{got}, expected {eager}"
    mine, theirs, ideal = (np.asarray(x, np.float64) for x in (got, eager, exact.double()))
    finite = np.isfinite(theirs) & np.isfinite(ideal)
    same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    if not (same | finite).all() or not np.isfinite(mine[finite]).all():
        return f"{got}, expected {eager}"
    if not finite.any():
        return ""
    error, eager_error = (np.abs(x - ideal)[finite].max() for x in (mine, theirs))
    limit = MULTIPLE * eager_error + UNITS * np.abs(ideal[finite]).max() + 1e-30
    return "" if error <= limit else f"error {error:.3g}, eager's {eager_error:.3g}"


def expected(subject: Subject, inputs: dict[str, Tensor]) -> Expected:
    with torch.no_grad():
        eager = tensors_of(subject.module(**inputs))
        exact = in_float64(subject.module, inputs)
    # A type that the module names decides more than its numbers: float64 says nothing then.
    alike = len(eager) == len(exact) and all(
        a.is_floating_point() == b.is_floating_point() for a, b in zip(eager, exact, strict=True)
    )
    return Expected(eager, exact if alike else eager)


def outcome(kind: str, choices: Choices, backend: bool = False) -> Outcome:
    """Export, run and compare a module; choices that cannot be are a ValueError."""
    subject = KINDS[kind](choices)
    try:
        wanted = [expected(subject, inputs) for inputs in subject.calls]
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        return Outcome(INVALID, f"{type(error).__name__}: {error}")
    try:
        graph = export(subject.module, kwargs=subject.calls[0], ranges=subject.ranges)
    except ExportError as error:
        reasons = {f"{part.op}: {part.reason.split(':')[0]}" for part in error.refusals}
        return Outcome(REFUSED, str(error), tuple(sorted(reasons)) or (str(error),))
    except Exception as error:
        return Outcome(WRONG, f"export raises {type(error).__name__}: {error}")
    with torch.no_grad():
        again = tensors_of(subject.module(**subject.calls[0]))
    if wanted[0].difference([x.numpy() for x in again]):
        return Outcome(WRONG, "random, not refused")
    try:
        return _run(subject, graph, wanted, choices.seed, backend)
    except Exception as error:
        return Outcome(WRONG, f"raises {type(error).__name__}: {error}")


def _run(
    subject: Subject, graph: Graph, wanted: Sequence[Expected], seed: int, backend: bool
) -> Outcome:
    after, log = optimize(graph)
    fused = any(node.op == "attention" for node in after.nodes)
    missed = tuple(f"{place.kind}: {place.reason}" for place in log.missed)
    kernel = KERNELS[seed % len(KERNELS)]
    programs = {
        "as exported": compile(graph),
        "with passes": compile(after),
        f"with {kernel}": compile(after, kernels={"attention": kernel} if fused else {}),
    }
    for number, inputs in enumerate(subject.calls):
        for name, program in programs.items():
            results = program(**inputs) if number else program(*inputs.values())
            results = results if isinstance(results, list) else [results]
            if words := wanted[number].difference(results):
                return Outcome(WRONG, f"{name}, call {number}: {words}")
    if backend:
        compiled = torch.compile(subject.module, backend="ablation")
        with torch.no_grad():
            for number, inputs in enumerate(subject.calls):
                results = [x.numpy() for x in tensors_of(compiled(**inputs))]
                if words := wanted[number].difference(results):
                    return Outcome(WRONG, f"torch.compile, call {number}: {words}")
        torch._dynamo.reset()
    return Outcome(RIGHT, fused=fused, missed=missed)


@dataclass
class Tally:
    """What became of all modules, by kind and by choice."""

    statuses: Counter[str] = field(default_factory=Counter)
    by_choice: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reasons: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)

    def add(self, kind: str, choices: Choices, result: Outcome) -> None:
        """Count a module."""
        self.statuses[f"{kind} {result.status}"] += 1
        self.reasons.update(result.reasons)
        self.missed.update(set(result.missed))
        for name, value in choices.made.items() if kind == "transformers" else ():
            counts = self.by_choice[f"{name.removeprefix('cross ')}={value}"]
            counts[result.status] += 1
            counts["fused"] += bool(result.fused)
        told = f"{kind} --seed {choices.seed}: {result.text}"
        if result.status == WRONG:
            self.wrong.append(told)
        if result.status == INVALID and kind == "transformers":
            self.invalid.append(f"{told}\n    {choices}")

    def count(self, status: str) -> int:
        """How many modules of both kinds have a status."""
        return sum(n for name, n in self.statuses.items() if name.endswith(f" {status}"))

    def __str__(self) -> str:
        lines = [f"{'choice':<34} {'right':>6} {'refused':>8} {'wrong':>6} {'attention':>10}"]
        for name, counts in sorted(self.by_choice.items()):
            n_right = counts[RIGHT]
            share = f"{counts['fused']}/{n_right}"
            lines.append(
                f"{name:<34} {n_right:>6} {counts[REFUSED]:>8} {counts[WRONG]:>6} {share:>10}"
            )
        lines += [f"refused {n:5}  {reason}" for reason, n in self.reasons.most_common(40)]
        lines += [f"missed {n:6}  {reason}" for reason, n in self.missed.most_common(40)]
        lines += [f"INVALID {text}" for text in self.invalid]
        lines += [f"WRONG {text}" for text in self.wrong]
        return "\n".join([*lines, self.counts])

    @property
    def counts(self) -> str:
        """How many modules of each kind have each status."""
        return ", ".join(f"{n} {name}" for name, n in sorted(self.statuses.items()))


def run(
    kinds: Sequence[str],
    seeds: Sequence[int],
    fixed: Mapping[str, str] | None = None,
    seconds: float = float("inf"),
    backend: bool = False,
    is_long: bool = False,
) -> Tally:
    """Check a module of each seed, until the time is over or the run is interrupted.

    A long run prints as it goes, and looks for smaller choices with which a module is wrong.
    """
    tally, start = Tally(), time.monotonic()
    for number, seed in enumerate(seeds):
        kind, choices = kinds[number % len(kinds)], Choices(seed, fixed)
        try:
            if time.monotonic() - start > seconds:
                raise KeyboardInterrupt
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = outcome(kind, choices, backend)
                if is_long and result.status == WRONG:
                    print(f"WRONG {kind} --seed {seed}: {result.text}", flush=True)
                    result.text += _smaller(kind, choices, backend)
        except KeyboardInterrupt:
            print(f"stopped before seed {seed}")
            break
        tally.add(kind, choices, result)
        if is_long and (number + 1) % EVERY == 0:
            print(f"{time.monotonic() - start:.0f} s: {tally.counts}", flush=True)
    return tally


def _smaller(kind: str, choices: Choices, backend: bool) -> str:
    """The plainest choices with which a transformer is still wrong, as a line."""
    if kind != "transformers":
        return ""
    less = smallest(choices, lambda c: outcome(kind, c, backend).status == WRONG)
    return f"\n    {' '.join(_changed(less))}"


def _changed(choices: Choices) -> list[str]:
    """The choices that are not the plainest."""
    return [f"{k}={v!r}" for k, v in choices.made.items() if v != choices.plainest[k]]


def main() -> int:
    """Run what the command line asks for; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--kind", choices=KINDS, help="default: both")
    parser.add_argument("--set", nargs="*", default=[], metavar="CHOICE=OPTION")
    parser.add_argument("--backend", action="store_true", help="torch.compile too")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tally = run(
        [given.kind] if given.kind else list(KINDS),
        range(given.seed, given.seed + given.count),
        dict(text.split("=", 1) for text in given.set),
        given.seconds,
        given.backend,
        is_long=True,
    )
    print(tally)
    return 1 if tally.wrong or tally.invalid else 0


if __name__ == "__main__":
    raise SystemExit(main())

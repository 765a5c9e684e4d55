"""A part of a graph as a callable over torch tensors, with a program for each set of weights."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..building import BUILDING
from ..compiler import CompiledProgram, compile
from ..integers import Integers
from ..passes import optimize
from ..refusal import ExportError
from ..workspace import Workspace
from .counters import COUNTERS
from .coverage import graph_of, piece_of
from .options import Options
from .thread_count import THREADS
from .weights import Watch

_LOGGER = logging.getLogger("ablation_executor.torch_backend")

# Sets of weights for which a part keeps a program: layers of a model that share one graph.
MAX_PROGRAMS = 256
# A part whose weights have changed so often, and at least every other call, is left to PyTorch.
MAX_REBUILDS = 4
CHANGING = "its weights change from call to call"
UNCOUNTED = "its weights are inference tensors, whose writes PyTorch does not count"


@dataclass
class _Entry:
    """What one set of weights has: a program, or the reason why there is none."""

    watch: Watch | None
    program: CompiledProgram | None
    reason: str = ""
    calls: int = 0
    rebuilds: int = 0


class Part(torch.nn.Module):
    """Nodes of a graph as one call: tensors in, tensors out, each of memory of its own.

    `module` is the ATen graph of the part: `n_inputs` placeholders for inputs, and one for each
    weight. `ranges` has the ranges of inputs of whole numbers by name. `orders` has for each
    result the order of axes in which PyTorch lays it out, None where that is their own; the graph
    of the part gives a result in that order.
    """

    def __init__(
        self,
        module: torch.fx.GraphModule,
        n_inputs: int,
        ranges: Mapping[str, tuple[int, int]],
        orders: Sequence[tuple[int, ...] | None],
        options: Options,
        workspace: Workspace | None,
    ) -> None:
        super().__init__()
        self._module = module
        self._n_inputs = n_inputs
        self._ranges = ranges
        self._inverses = [None if order is None else _inverse(order) for order in orders]
        self._options = options
        self._workspace = workspace
        self._entries: dict[tuple[int, ...], _Entry] = {}

    def forward(self, *args: torch.Tensor) -> list[torch.Tensor]:
        """Run the part on its inputs, followed by its weights."""
        inputs, weights = args[: self._n_inputs], args[self._n_inputs :]
        entry = self._entry(weights)
        entry.calls += 1
        if entry.program is None:
            if self._options.require_full:
                raise ExportError(entry.reason)
            return self._run_eager(args, entry.reason)
        try:
            results = self._run(entry.program, inputs)
        except (TypeError, ValueError) as error:
            return self._run_eager(args, f"{type(error).__name__}: {error}")
        return self._laid_out(results)

    def _run(self, program: CompiledProgram, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        given = [x if x.is_contiguous() else x.contiguous() for x in inputs]
        graph = program.graph
        results = [
            torch.empty(value.shape, dtype=_dtype(result.integers), device="cpu")
            for value, result in zip(graph.outputs, graph.results, strict=True)
        ]
        with THREADS.at_most(min(program.threads, self._threads())):
            program(*given, out=results[0] if len(results) == 1 else results)
        return results

    def _run_eager(self, args: Sequence[torch.Tensor], reason: str) -> list[torch.Tensor]:
        COUNTERS.add_eager_part(reason)
        return self._laid_out(self._module(*args))

    def _laid_out(self, results: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [
            result if inverse is None else result.permute(inverse)
            for result, inverse in zip(results, self._inverses, strict=True)
        ]

    # Programs -------------------------------------------------------------------------------------

    def _entry(self, weights: Sequence[torch.Tensor]) -> _Entry:
        """What these weights have; a program is built where there is none, or they have changed."""
        key = tuple(map(id, weights))
        entry = self._entries.get(key)
        if entry is not None and (entry.watch is None or entry.watch.is_current(weights)):
            return entry
        with BUILDING:
            known = self._entries.get(key)
            if known is not entry and known is not None:
                return known  # Another thread has built it meanwhile
            new = self._build(key, weights, entry)
            if new.program is not None:
                COUNTERS.add("programs")
            while len(self._entries) >= MAX_PROGRAMS:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = new
            return new

    def prepare(self, weights: Sequence[torch.Tensor]) -> None:
        """Build the program for weights ahead of calls; `report` does not count it."""
        key = tuple(map(id, weights))
        self._entries[key] = self._build(key, weights, None)

    def _build(
        self, key: tuple[int, ...], weights: Sequence[torch.Tensor], old: _Entry | None
    ) -> _Entry:
        rebuilds = 0 if old is None else old.rebuilds + 1
        if old is not None:
            COUNTERS.add("rebuilds")
        if any(weight.is_inference() for weight in weights):
            return _Entry(None, None, UNCOUNTED)
        if old is not None and rebuilds > MAX_REBUILDS and old.calls < 2 * rebuilds:
            return _Entry(None, None, CHANGING)
        calls = 0 if old is None else old.calls
        with torch.inference_mode(False), torch.no_grad():
            watch = Watch(weights, _forgetting(self, key))
            try:
                program = self._compile(weights)
            except ExportError as error:
                return _Entry(watch, None, str(error), calls, rebuilds)
            except MemoryError:
                raise
            except Exception as error:  # A defect here, or kernels that the caller wants
                if self._options.kernels:
                    raise
                reason = f"{type(error).__name__}: {error}"
                _LOGGER.warning("a part has no program: %s; PyTorch runs it", reason)
                return _Entry(watch, None, reason, calls, rebuilds)
        return _Entry(watch, program, "", calls, rebuilds)

    def _compile(self, weights: Sequence[torch.Tensor]) -> CompiledProgram:
        placeholders = [node for node in self._module.graph.nodes if node.op == "placeholder"]
        named = dict(zip(placeholders[self._n_inputs :], weights, strict=True))
        graph, _ = optimize(graph_of(piece_of(self._module, named), self._ranges))
        with THREADS.at_most(self._threads()):
            return compile(graph, kernels=self._options.kernels, workspace=self._workspace)

    def _threads(self) -> int:
        return self._options.threads or int(torch.get_num_threads())


def _forgetting(part: Part, key: tuple[int, ...]) -> Any:
    """What drops an entry of a part, without keeping the part alive."""
    reference = weakref.ref(part)

    def forget() -> None:
        living = reference()
        if living is not None:
            living._entries.pop(key, None)

    return forget


def _dtype(integers: Integers | None) -> torch.dtype:
    return torch.float32 if integers is None else getattr(torch, integers.dtype)


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))

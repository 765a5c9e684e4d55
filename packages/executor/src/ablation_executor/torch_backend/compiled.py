"""One graph of Dynamo's as a callable: which calls run here, and a plan for each set of shapes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.autograd import forward_ad

from ..capturing import capturing
from ..refusal import ExportError, Refusal, error_of
from ..workspace import Workspace
from . import cost, entry
from .assembly import assemble
from .captured import Captured, RunsEager, capture, is_weight, numbers_of
from .counters import COUNTERS
from .coverage import Coverage, coverage_of
from .options import Options
from .partition import Plan, divide

_LOGGER = logging.getLogger("ablation_executor.torch_backend")

# Of a graph with symbolic shapes: how many sets of shapes have a plan at a time, how many ever.
MAX_SHAPES = 8
MAX_PLANS = 32
# How many sets of shapes that came once are remembered.
MAX_SEEN = 1024

GRADIENTS = "gradients are needed"
_TOO_SMALL = "in parts too small to gain"


@dataclass
class _Division:
    """A graph for fixed shapes: the module that runs it, or why PyTorch runs it as a whole."""

    module: torch.fx.GraphModule | None
    reason: str = ""
    error: ExportError | None = None


class CompiledGraph:
    """What the backend gives Dynamo for a graph."""

    def __init__(self, module: torch.fx.GraphModule, options: Options) -> None:
        self._module = module
        self._options = options
        self._number = COUNTERS.add("graphs")
        placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
        self._weights = [position for position, n in enumerate(placeholders) if is_weight(n)]
        self._numbers = numbers_of(module.graph)
        self._is_symbolic = bool(self._numbers) or any(map(_is_symbolic, placeholders))
        # Programs of several shapes have the same weights, which they then keep once.
        self._workspace = Workspace() if self._is_symbolic else None
        self._divisions: dict[Any, _Division] = {}
        self._seen: Counter[Any] = Counter()
        self._n_divided = 0

    def __call__(self, *args: Any) -> Any:
        """Run the graph on Dynamo's arguments."""
        reason = _why_eager(args)
        if reason is None:
            division = self._division(args)
            if division.error is not None:
                raise division.error
            if division.module is not None:
                COUNTERS.add("calls_here")
                return division.module.forward(*args)
            reason = division.reason
        if COUNTERS.add_eager_call(reason) == 0 and reason == GRADIENTS:
            _LOGGER.warning(
                "gradients are needed, so PyTorch runs the model (said once); for inference, call"
                " it under torch.no_grad() or torch.inference_mode()"
            )
        return self._module(*args)

    # Shapes ---------------------------------------------------------------------------------------

    def _division(self, args: Sequence[Any]) -> _Division:
        """The division for the shapes of the arguments.

        A graph with fixed shapes has one. With symbolic shapes, shapes are divided when they come
        for the second time: lengths that grow by one with each call never are.
        """
        key = self._key(args)
        division = self._divisions.get(key)
        if division is not None:
            return division
        with capturing():
            if key in self._divisions:
                return self._divisions[key]
            if self._is_symbolic and not self._options.require_full:
                if len(self._seen) >= MAX_SEEN:
                    self._seen.clear()
                self._seen[key] += 1
                if self._seen[key] < 2:
                    return _Division(None, "shapes that come for the first time")
                if self._n_divided >= MAX_PLANS:
                    return _Division(None, f"more than {MAX_PLANS} sets of shapes")
            while len(self._divisions) >= MAX_SHAPES:
                del self._divisions[next(iter(self._divisions))]
            division = self._divisions[key] = self._divide(args)
            self._n_divided += 1
            return division

    def _key(self, args: Sequence[Any]) -> Any:
        if not self._is_symbolic:
            return None
        numbers = tuple(args[position].item() for position in self._numbers)
        return numbers, tuple(
            (tuple(part.shape), part.stride()) if isinstance(part, torch.Tensor) else part
            for part in args
        )

    def _divide(self, args: Sequence[Any]) -> _Division:
        COUNTERS.add("plans")
        try:
            with torch.inference_mode(False), torch.no_grad():
                return self._divided(capture(self._module, args), args)
        except (RunsEager, ExportError) as error:
            reason = str(error)
        except MemoryError:
            raise
        except Exception as error:  # A defect here, and no reason to fail where PyTorch does not
            reason = f"{type(error).__name__}: {error}"
            _LOGGER.warning("graph %d: %s; PyTorch runs it", self._number, reason)
        if self._options.require_full:
            return _Division(None, reason, ExportError(f"graph {self._number}: {reason}"))
        n_ops = sum(node.op.startswith("call_") for node in self._module.graph.nodes)
        _LOGGER.info("graph %d: 0 of %d ops run here: %s", self._number, n_ops, reason)
        return _Division(None, reason)

    def _divided(self, captured: Captured, args: Sequence[Any]) -> _Division:
        weights = {captured.arguments[position]: args[position] for position in self._weights}
        weights |= captured.held
        coverage = coverage_of(captured.module, weights)
        full = self._options.require_full
        costs = cost.FREE if self._options.every_part else entry.costs()
        gains = bool if full else partial(cost.gains, costs=costs)
        plan = divide(captured.module.graph, coverage, gains)
        if self._options.require_full and any(map(_is_op, coverage.reasons)):
            return _Division(None, "", _not_full(coverage))
        n_parts = sum(isinstance(step, list) for step in plan.steps)
        self._log(coverage, plan, n_parts)
        if self._options.dryrun:
            return _Division(None, "dryrun")
        if not n_parts:
            return _Division(None, "no part is large enough to gain")
        COUNTERS.add("parts", n_parts)
        return _Division(
            assemble(captured, weights, coverage, plan, self._options, self._workspace)
        )

    def _log(self, coverage: Coverage, plan: Plan, n_parts: int) -> None:
        eager = {node: reason for node, reason in coverage.reasons.items() if _is_op(node)}
        eager |= dict.fromkeys(filter(_is_op, plan.too_small), _TOO_SMALL)
        here = sum(map(_is_op, coverage.here - plan.too_small))
        counts = Counter((str(node.target), reason) for node, reason in eager.items())
        told = Counter({f"{op}: {reason}": count for (op, reason), count in counts.items()})
        COUNTERS.add_ops(here, told)
        if not eager and not self._options.dryrun:
            return
        refused = "; ".join(
            f"{op} x {count} ({reason})" for (op, reason), count in counts.most_common()
        )
        _LOGGER.info(
            "graph %d%s: %d of %d ops run here, in %d part%s%s",
            *(self._number, ", dryrun" if self._options.dryrun else "", here, here + len(eager)),
            *(n_parts, "" if n_parts == 1 else "s", f"; PyTorch runs {refused}" if refused else ""),
        )


def _is_op(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload)


def _not_full(coverage: Coverage) -> ExportError:
    """The error of require_full: all ops that cannot run here."""
    refusals = [
        Refusal(str(node.target), why) for node, why in coverage.reasons.items() if _is_op(node)
    ]
    return error_of(refusals)


def _is_symbolic(node: Any) -> bool:
    """Whether an input of Dynamo's graph has sizes that the graph leaves open."""
    value = node.meta.get("example_value")
    if not isinstance(value, torch.Tensor):
        return True
    return any(isinstance(size, torch.SymInt) for size in (*value.shape, *value.stride()))


def _why_eager(args: Sequence[Any]) -> str | None:
    """Why PyTorch runs a call, whatever the graph: what surrounds it changes what ops do."""
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    if torch.is_grad_enabled() and any(
        isinstance(part, torch.Tensor) and part.requires_grad for part in args
    ):
        return GRADIENTS
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return "a transform of torch.func or forward-mode derivatives are on"
    if torch._C._len_torch_dispatch_stack() > 0:
        return "a mode of PyTorch watches its ops"
    return None

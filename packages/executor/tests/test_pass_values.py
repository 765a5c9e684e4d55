"""Every pass on random graphs with NaN, infinities, huge, tiny and denormal values.

The graph without passes, run by the same executor, is what each pass is held to: NaN and infinity
in the same places, numbers within the error of sums in another order (value_bounds.py).

    python tests/test_pass_values.py SEED COUNT

runs COUNT graphs, from SEED on, and prints what was seen.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from random_graphs import RandomGraph
from value_bounds import Known, bounds

import ablation_kernels
from ablation_executor.compiler import compile
from ablation_executor.ir import Graph, verify
from ablation_executor.passes import DEFAULT_PASSES, optimize
from ablation_executor.per_op import PerOp

#: Rounding errors of the kernels over those of the bounds, which count one for each operation.
SLACK = 8.0
KERNELS = ("fused_scalar", "fused_simd", "flash_simd_parallel", "flash_packed_simd_parallel")


def selections() -> list[tuple[str, ...]]:
    """All passes, each alone, and each beginning of their order."""
    singles = [(name,) for name in DEFAULT_PASSES]
    beginnings = [DEFAULT_PASSES[:count] for count in range(2, len(DEFAULT_PASSES))]
    return [DEFAULT_PASSES, *singles, *beginnings]


def kernels_of(seed: int) -> dict[str, str]:
    """The kernels that compile chooses, or one of attention's and the plain products."""
    if seed % 3:
        return {}
    return {"attention": KERNELS[seed // 3 % len(KERNELS)], "matmul": "blas"}


def executors(seed: int) -> dict[str, Callable[[Graph], Callable[..., Any]]]:
    return {
        "compiled": lambda graph: compile(
            graph, kernels=kernels_of(seed), threads=1 + (seed % 40 == 0)
        ),
        "numpy": PerOp,
    }


def outputs_of(run: Callable[..., Any], graph: RandomGraph) -> list[Any]:
    results = run(*graph.inputs)
    return results if isinstance(results, list) else [results]


def difference(got: Any, want: Any, known: Known) -> str | None:
    """The first element that moved by more than its error, or None."""
    with np.errstate(all="ignore"):
        moved = np.abs(got.astype(np.float64) - want)
        is_same = (got == want) | (np.isnan(got) & np.isnan(want))
        is_near = np.isfinite(got) & np.isfinite(want) & (moved <= SLACK * known.error)
        wrong = np.isfinite(known.error) & ~is_same & ~is_near
    if not wrong.any():
        return None
    place = tuple(int(index) for index in np.argwhere(wrong)[0])
    return f"element {place}: {got[place]!r}, without passes {want[place]!r}"


@dataclass
class Seen:
    """What a run of many graphs has covered."""

    graphs: int = 0
    compared: int = 0
    elements: int = 0
    decided: int = 0
    special: int = 0
    fired: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        share = self.decided / self.elements
        lines = [
            f"{self.graphs} graphs, {self.compared} rewritten ones compared",
            f"{self.elements} output elements, {share:.1%} decided, {self.special} NaN or infinite",
        ]
        lines += [
            f"{name}: fired in {self.fired[name]} graphs ({self.fired[name] / self.graphs:.1%})"
            for name in DEFAULT_PASSES
        ]
        return "\n".join(lines)


def rewritten(graph: Graph, seen: Seen) -> Iterator[tuple[tuple[str, ...], Graph]]:
    """The different graphs that the selections make."""
    known = {str(graph)}
    for passes in selections():
        after, log = optimize(graph, passes)
        verify(after)
        if passes == DEFAULT_PASSES:
            seen.fired.update(name for name in passes if log.fired(name))
        if str(after) not in known:
            known.add(str(after))
            yield passes, after


def check_graph(seed: int, seen: Seen) -> None:
    """Compare what the passes make of one graph with the graph, by every executor."""
    random = RandomGraph(seed)
    known = bounds(random.graph, random.inputs)
    made = executors(seed)
    wanted = {name: outputs_of(make(random.graph), random) for name, make in made.items()}
    seen.graphs += 1
    for part in known:
        seen.elements += part.error.size
        seen.decided += int(np.isfinite(part.error).sum())
        seen.special += int((np.isfinite(part.error) & ~np.isfinite(part.value)).sum())
    for passes, after in rewritten(random.graph, seen):
        seen.compared += 1
        for name, make in made.items():
            results = outputs_of(make(after), random)
            for got, want, part in zip(results, wanted[name], known, strict=True):
                found = difference(got, want, part)
                if found is not None:
                    raise AssertionError(
                        f"seed {seed}, {name}, passes {', '.join(passes)}: {found}\n"
                        f"{random.graph}\n{after}"
                    )


def check_graphs(seed: int, count: int) -> Seen:
    seen = Seen()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for offset in range(count):
            check_graph(seed + offset, seen)
    return seen


@pytest.fixture(autouse=True)
def keep_thread_count() -> Iterator[None]:
    before = ablation_kernels.get_num_threads()
    yield
    ablation_kernels.set_num_threads(before)


@pytest.mark.parametrize("part", range(2))
def test_passes_keep_every_value(part: int) -> None:
    seen = check_graphs(1000 * part, 300)
    # A generator that no longer meets the passes would find nothing.
    assert seen.decided > 0.6 * seen.elements and seen.special > 0.05 * seen.elements, seen
    assert all(seen.fired[name] >= 6 for name in DEFAULT_PASSES), seen


if __name__ == "__main__":
    started = time.monotonic()
    first, graphs = (int(argument) for argument in sys.argv[1:3])
    print(check_graphs(first, graphs))
    print(f"seeds {first} to {first + graphs - 1}, {time.monotonic() - started:.0f} s")

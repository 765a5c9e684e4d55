"""Which programs a case has, found without timing: a process of its own exports the model with
weights of zero, rewrites it under every set of passes, and plans each point of the lattice.

Points whose graph, kernels, stages, threads and executor are equal are one program. A factor that
changes no program of the case stays off.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ... import children
from ...case import Case
from ...interrupt import UsageError
from ...protocol import thread_variables
from .factors import Point, settings_of
from .lattice import Lattice, digits_of, identity

if TYPE_CHECKING:
    from ....ir import Graph


@dataclass(frozen=True)
class Planned:
    """One program: the points that it is, the lowest first, its counters and its hash."""

    points: tuple[str, ...]
    counters: Mapping[str, int]
    program_hash: str


@dataclass(frozen=True)
class CasePlan:
    """The programs of a case to be measured, of `n_programs` that there are; `orders` are those
    that were drawn, None where every point is measured."""

    programs: tuple[Planned, ...]
    n_programs: int
    orders: tuple[str, ...] | None


@dataclass
class _Planner:
    """The graphs and plans of a case, each made once."""

    graph: Graph
    threads: int
    _graphs: dict[frozenset[str], tuple[str, Graph]] = field(default_factory=dict)
    _by_hash: dict[str, Graph] = field(default_factory=dict)
    _plans: dict[Any, tuple[str, Mapping[str, int]]] = field(default_factory=dict)

    def rewritten(self, passes: Sequence[str]) -> tuple[str, Graph]:
        """Return a graph and its hash: passes that do not fire give the same one."""
        from ....passes import optimize
        from ...runtimes.ours import program_hash

        key = frozenset(passes)
        if key not in self._graphs:
            graph, _ = optimize(self.graph, passes=passes)
            known_by = program_hash(graph, {})
            # Joined weights are large: equal graphs are kept once
            self._graphs[key] = known_by, self._by_hash.setdefault(known_by, graph)
        return self._graphs[key]

    def plan(self, point: Point) -> tuple[str, Mapping[str, int]]:
        """Return the hash of a point's program, and its counters."""
        from ....census import census
        from ....compiler import plan_program
        from ...runtimes.ours import program_hash

        settings = settings_of(point)
        known_by, graph = self.rewritten(settings.passes)
        used = {node.op for node in graph.nodes}
        kernels = tuple((op, name) for op, name in settings.kernels.items() if op in used)
        threads = self.threads if settings.is_parallel else 1
        key = known_by, settings.executor, kernels, threads, settings.share_rows
        if key not in self._plans:
            planned = plan_program(
                graph, kernels=settings.kernels, threads=threads, share_rows=settings.share_rows
            )
            found = program_hash(planned.graph, planned.kernels, planned.stages)
            counted = census(planned, is_loop=settings.executor == "per_op")
            self._plans[key] = identity(found, settings.executor, threads), asdict(counted)
        return self._plans[key]

    def silent(self, lattice: Lattice) -> set[str]:
        """Return the factors of one pass that fires under no passes of the others, alone or all."""
        passes = {f.name: [p for level in f.levels for p in level.passes] for f in lattice.factors}
        alone = [
            factor.name
            for factor in lattice.factors
            if not any(level.settings or level.needs for level in factor.levels)
        ]
        optional = [name for name in alone if len(passes[name]) == 1]
        others = [
            list(itertools.accumulate(tuple(level.passes) for level in factor.levels))
            for factor in lattice.factors
            if factor.name not in optional
        ]
        every = [p for name in optional for p in passes[name]]
        sets = dict.fromkeys(tuple(itertools.chain(*own)) for own in itertools.product(*others))
        quiet = set(optional)
        for own in sets:
            whole = self.rewritten((*own, *every))[0]
            for name in list(quiet):
                without = [p for p in every if p not in passes[name]]
                fires = self.rewritten((*own, *without))[0] != whole
                if fires or self.rewritten((*own, *passes[name]))[0] != self.rewritten(own)[0]:
                    quiet.discard(name)
        return quiet


def plan_case(case: Case, limit: int, seed: int) -> CasePlan:
    """Plan a case in this process, which loads PyTorch for the export.

    Above `limit` programs, orders are drawn as long as their points need no more, and in any case
    as many as a worth is estimated from.
    """
    from .programs import exported_graph

    lattice = Lattice.of(case)
    planner = _Planner(exported_graph(case, seed), case.threads)
    off = planner.silent(lattice)
    found = {}
    for point in lattice.points(off):
        whole = lattice.complete(point)
        assert whole is not None
        found[point] = planner.plan(whole)
    off |= {
        factor.name
        for index, factor in enumerate(lattice.factors)
        if all(
            found[point][0] == found[raised][0]
            for point in found
            if (raised := _raised(point, index)) in found
        )
    }
    points = lattice.points(off)
    n_programs = len({found[point][0] for point in points})
    orders = None
    if n_programs > limit:
        orders = _drawn(points, {point: found[point][0] for point in points}, limit, seed)
        points = list({point for order in orders for point in lattice.order(order)})
    by_program: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda p: (sum(p), p)):
        by_program.setdefault(found[point][0], []).append(point)
    programs = tuple(
        Planned(tuple(map(digits_of, own)), found[own[0]][1], name)
        for name, own in by_program.items()
    )
    return CasePlan(programs, n_programs, orders)


def _raised(point: Point, index: int) -> Point:
    return (*point[:index], point[index] + 1, *point[index + 1 :])


def _drawn(
    points: Sequence[Point], programs: Mapping[Point, str], limit: int, seed: int
) -> tuple[str, ...]:
    """Draw pairs of orders, LEAST_ORDERS or more, until the next would need more programs than the
    limit."""
    from ablation_report.attribution.engine import sample_orders
    from ablation_report.attribution.points import LEAST_ORDERS

    base = min(points, key=sum)
    needed: set[str] = set()
    kept: list[str] = []
    orders = sample_orders(points, 2 * len(points), seed)
    for pair in zip(orders[::2], orders[1::2], strict=True):
        taken = set()
        for order in pair:
            point = base
            for index in order:
                taken.add(programs[point])
                point = _raised(point, index)
            taken.add(programs[point])
        if len(needed | taken) > limit and len(kept) >= LEAST_ORDERS:
            break
        needed |= taken
        kept += map(digits_of, pair)
    return tuple(kept)


def plans_of(cases: Sequence[Case], limit: int, seed: int) -> dict[str, CasePlan]:
    """Plan cases in a process of its own; UsageError where that fails."""
    labels = [case.label for case in cases]
    variables = thread_variables(max(case.threads for case in cases))
    arguments = ["--limit", str(limit), "--seed", str(seed), *labels]
    try:
        found = children.json_of(__package__, arguments, variables)
    except children.ChildFailed as failed:
        raise UsageError(f"the programs cannot be planned ({failed})") from None
    return {
        label: CasePlan(
            tuple(
                Planned(tuple(p["points"]), p["counters"], p["program_hash"])
                for p in plan["programs"]
            ),
            plan["n_programs"],
            None if plan["orders"] is None else tuple(plan["orders"]),
        )
        for label, plan in found.items()
    }

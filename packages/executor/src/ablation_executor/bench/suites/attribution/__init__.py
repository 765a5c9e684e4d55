"""What each optimization is worth, whatever the order: every program that a case's factors make."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...case import Case, case_of
from ...interrupt import UsageError
from ...names import resolve_names, split_names
from ...options import whole_number
from ...suite import Loaded, Needs, Refusal, Variant
from ..block import BlockSuite, add_case_options
from ..block.configs import config_of, peak_activation_bytes
from ..block.ladder import BY_NAME
from ..twins import SUFFIX, program_name
from .factors import FACTORS, NAMES, Point, level_names, settings_of
from .lattice import BASE, SIZE, TOP, Lattice
from .planning import CasePlan, Planned, plans_of

SUITE_NAME = "attribution"
# All programs of the block's factors are fewer; a quick run draws orders.
LIMIT, QUICK_LIMIT, MAX_LIMIT = 512, 64, 10_000
# Where base and top stand: not points of the lattice.
REFERENCES = ("torch-naive", "torch-sdpa", "beyond-default")
# Weights as given, packed one by one, and joined for merged QKV, as such and packed.
WEIGHTS_COPIES = 3.5
# A call takes about so many times its operations at the ceiling of its threads.
SLOW = 1.5


class AttributionSuite(BlockSuite):
    """The block of each config under every program of its factors."""

    name = SUITE_NAME
    what = "what each optimization is worth, whatever the order: all programs of its factors"
    baseline = BASE
    twins = tuple((name, name + SUFFIX) for name in (BASE, TOP))

    def __init__(self) -> None:
        super().__init__()
        self._limit = LIMIT
        self._counters_only = False
        self._plans: dict[str, CasePlan] = {}
        self._programs: dict[str, dict[str, Planned]] = {}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of this suite."""
        add_case_options(parser)
        add = parser.add_argument
        others = "factors that vary; the others are on (default: all)"
        add("--factors", metavar="A,B", help=others)
        limit = f"programs of a case above which orders are drawn ({LIMIT}, quick {QUICK_LIMIT})"
        add("--limit", type=whole_number(2, MAX_LIMIT), metavar="N", help=limit)
        counters = "count what each program does in a call, and time nothing"
        add("--counters-only", action="store_true", help=counters)

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """All nine."""
        return [_own(case) for case in super().cases(tier, threads, device)]

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """The four small ones."""
        return [_own(case) for case in super().quick_cases(threads, device)]

    def chosen_cases(
        self, options: argparse.Namespace, cases: list[Case], threads: Sequence[int]
    ) -> list[Case]:
        """Those of `--configs` with the factors of `--factors`; their programs are planned here."""
        cases = [_own(case) for case in super().chosen_cases(options, cases, threads)]
        if options.factors is not None:
            named = resolve_names("factor", split_names(options.factors), list(NAMES))
            text = ",".join(name for name in NAMES if name in named)
            cases = [case.with_sizes(**{SIZE: text}) for case in cases]
        self._counters_only = options.counters_only
        self._limit = options.limit or (QUICK_LIMIT if options.quick else LIMIT)
        self._plan(cases, options.seed or 0)
        return cases

    def chosen_variants(self, options: argparse.Namespace, given: list[str] | None) -> list[str]:
        """All programs; UsageError where some are named."""
        if given is not None:
            raise UsageError(f"{self.name} runs the programs of --factors: {', '.join(NAMES)}")
        return [variant.name for variant in self.variants(options.device)]

    def case_lines(self) -> list[str]:
        """The factors with their levels."""
        lines = ["factors"]
        for factor in FACTORS:
            levels = " < ".join(level.name for level in factor.levels)
            lines.append(f"  {factor.name:<16} {levels}")
        return lines

    def header(self) -> dict[str, Any]:
        """The factors, and what was asked for."""
        cases = [case_of(label) for label in self._plans]
        factors = Lattice.of(cases[0]).factors if cases else ()
        return {
            "factors": [
                {
                    "name": factor.name,
                    "printed_name": factor.printed_name,
                    "what": factor.what,
                    "levels": [level.name for level in factor.levels],
                }
                for factor in factors
            ],
            "options": {"limit": self._limit, "counters_only": self._counters_only},
        }

    def resume(self, header: Mapping[str, Any]) -> None:
        """Plan the programs of a run anew."""
        options = header.get("options") or {}
        self._limit = int(options.get("limit", LIMIT))
        self._counters_only = bool(options.get("counters_only", False))
        self._plan([case_of(label) for label in header["cases"]], header["seed"])

    def _plan(self, cases: Sequence[Case], seed: int) -> None:
        self._plans = plans_of(cases, self._limit, seed)
        self._programs = {}
        for case in cases:
            lattice, plan = Lattice.of(case), self._plans[case.label]
            self._programs[case.label] = _named(lattice, plan)

    def variants(self, device: str) -> tuple[Variant, ...]:
        """Base and top with their twins, every program between, and where they stand."""
        names = dict.fromkeys(name for own in self._programs.values() for name in own)
        between = [name for name in names if name not in (BASE, TOP)]
        ours = [BASE, BASE + SUFFIX, *between, TOP, TOP + SUFFIX]
        references = [
            replace(BY_NAME[name].variant(), parent=None, changed=None, group="For comparison")
            for name in REFERENCES
        ]
        return (*(_variant(name) for name in ours), *references)

    def usual_variants(self, case: Case) -> Sequence[str]:
        """The programs that the case has."""
        programs = self._programs.get(case.label, {})
        twins = [name + SUFFIX for name in (BASE, TOP) if name in programs]
        return [*programs, *twins, *REFERENCES]

    def first_variants(self, case: Case) -> Sequence[str]:
        """Base and top, their twins, and where they stand."""
        return [*(name for pair in self.twins for name in pair), *REFERENCES]

    def known(self, variant: Variant, case: Case) -> dict[str, Any]:
        """Counters and points of a program."""
        planned = self._programs.get(case.label, {}).get(program_name(variant.name))
        if planned is None:
            return {}
        facts: dict[str, Any] = {
            "counters": dict(planned.counters),
            "program_hash": planned.program_hash,
        }
        if variant.name != program_name(variant.name):
            return facts
        plan = self._plans[case.label]
        details: dict[str, Any] = {"points": list(planned.points)}
        if variant.name == BASE:
            details["n_programs"] = plan.n_programs
            if plan.orders is not None:
                details["orders"] = list(plan.orders)
        whole = _whole(case, planned)
        passes = list(settings_of(whole).passes)
        return {**facts, "factors": level_names(whole), "passes": passes, "details": details}

    def supports(self, variant: Variant, case: Case) -> Refusal | None:
        """Nothing is run where only counters are asked for."""
        if self._counters_only:
            return Refusal("skipped", "selection", "--counters-only: counted, and not timed")
        return super().supports(variant, case) if variant.name in BY_NAME else None

    def needs(self, variant: Variant, case: Case, phase: str) -> Needs:
        """Input and output: the rest is shared."""
        return Needs(0, 2 * config_of(case).block_bytes)

    def shared_bytes(self, worker: str, case: Case) -> int:
        """Weights, packed weights, and the arena of the program that takes most."""
        if worker != "kernels":
            return super().shared_bytes(worker, case)
        counted = [dict(p.counters) for p in self._programs.get(case.label, {}).values()]
        arenas = [counts["arena_bytes"] + counts["scratch_bytes"] for counts in counted]
        config = config_of(case)
        arena = max(arenas, default=peak_activation_bytes(config, True))
        return int(WEIGHTS_COPIES * config.weights_bytes) + arena

    def slowdown(self, variant: Variant, case: Case) -> float:
        """By threads, mostly."""
        if variant.name in BY_NAME:
            return super().slowdown(variant, case)
        planned = self._programs.get(case.label, {}).get(program_name(variant.name))
        is_parallel = planned is None or settings_of(_whole(case, planned)).is_parallel
        return SLOW * (1 if is_parallel else case.threads)

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """Never: counters say what a program takes."""
        return False

    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """Make the weights, and what programs share."""
        if worker != "kernels":
            return super().load(worker, case, seed)
        from .programs import AttributionLoaded

        return AttributionLoaded(self._adapters[worker], case, seed)  # type: ignore[arg-type]


def _own(case: Case) -> Case:
    return replace(case, suite=SUITE_NAME)


def _named(lattice: Lattice, plan: CasePlan) -> dict[str, Planned]:
    """Return the programs by name: that of the lowest point, but top for the highest one of all."""
    top = max((point for planned in plan.programs for point in planned.points), key=_height)
    programs = {}
    for planned in plan.programs:
        name = lattice.name(tuple(map(int, planned.points[0])))
        programs[TOP if top in planned.points and name != BASE else name] = planned
    return programs


def _whole(case: Case, planned: Planned) -> Point:
    """Return the lowest point of a program with the factors that do not vary."""
    point = Lattice.of(case).complete(tuple(map(int, planned.points[0])))
    assert point is not None
    return point


def _height(digits: str) -> int:
    return sum(map(int, digits))


def _variant(name: str) -> Variant:
    of = program_name(name)
    what = {BASE: "everything off", TOP: "everything on"}.get(name, f"on: {name}")
    if of != name:
        what = f"{of} once more: what the two differ by is noise"
    return Variant(name, "ablation", what=what, worker="kernels", group="Programs")


SUITE = AttributionSuite()

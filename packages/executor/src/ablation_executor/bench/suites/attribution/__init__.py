"""What each optimization is worth, whatever the order: every program that a case's factors make."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...case import Case, CustomTier, case_of
from ...interrupt import UsageError
from ...names import resolve_names, split_names
from ...options import whole_number
from ...runtimes import make_adapter
from ...suite import Flops, Loaded, Needs, Refusal, Suite, Variant
from ..block import SUITE as BLOCK
from ..block import add_case_options
from ..model import SUITE as MODEL
from ..model.cases import CASE_OPTIONS as MODEL_OPTIONS
from ..model.cases import SHAPING, is_asked_for, named_cases
from ..model.cases import add_options as add_model_options
from ..twins import SUFFIX, program_name
from .factors import FACTORS, NAMES, Point, level_names, settings_of
from .lattice import BASE, SIZE, TOP, Lattice
from .planning import CasePlan, Planned, plans_of
from .references import NAMES as REFERENCES
from .references import model_of, reference_variants, references_of, suite_of

SUITE_NAME = "attribution"
# All programs of the block's factors are fewer; a quick run draws orders.
LIMIT, QUICK_LIMIT, MAX_LIMIT = 512, 64, 10_000
# Weights as given, packed one by one, and joined for merged QKV, as such and packed.
WEIGHTS_COPIES = 3.5
# A call takes about so many times its operations at the ceiling of its threads.
SLOW = 1.5


class AttributionSuite(Suite):
    """The block of each config, or a module, under every program of its factors."""

    name = SUITE_NAME
    what = "worth of each optimization over all orders: every program of its factors"
    baseline = BASE
    tiers: Mapping[str, str] = {**BLOCK.tiers, **MODEL.tiers}
    twins = tuple((name, name + SUFFIX) for name in (BASE, TOP))
    devices = ("cpu",)
    case_options = tuple(dict.fromkeys((*BLOCK.case_options, *MODEL_OPTIONS)))
    keeps_workers = False

    def __init__(self) -> None:
        self._adapters: dict[str, Any] = {}
        self._limit = LIMIT
        self._counters_only = False
        self._plans: dict[str, CasePlan] = {}
        self._programs: dict[str, dict[str, Planned]] = {}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of this suite."""
        add_case_options(parser)
        add_model_options(parser, has_sizes=True)
        add = parser.add_argument
        others = "factors to vary; the others are on (default: all)"
        add("--factors", metavar="A,B", help=others)
        limit = (
            "most programs of a case; above it, four or more orders are sampled"
            f" (default: {LIMIT}, with --quick {QUICK_LIMIT})"
        )
        add("--limit", type=whole_number(2, MAX_LIMIT), metavar="N", help=limit)
        counters = "count the work of each program, and time nothing"
        add("--counters-only", action="store_true", help=counters)

    def default_tiers(self, device: str) -> Sequence[str]:
        """The configs of the block."""
        return tuple(BLOCK.tiers)

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """All nine configs, and the modules of a tier."""
        suite = BLOCK if tier in BLOCK.tiers else MODEL
        return [_own(case) for case in suite.cases(tier, threads, device)]

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """The four small configs."""
        return [_own(case) for case in BLOCK.quick_cases(threads, device)]

    def custom_cases(
        self, custom: CustomTier, threads: Sequence[int], device: str
    ) -> list[Case] | None:
        """None: sizes are those of configs and models."""
        return None

    def chosen_cases(
        self, options: argparse.Namespace, cases: list[Case], threads: Sequence[int]
    ) -> list[Case]:
        """Those of `--configs`, or of `--module` or `--model`, with the factors of `--factors`;
        their programs are planned here."""
        if is_asked_for(options, [name for name in SHAPING if name not in BLOCK.case_options]):
            if options.configs is not None or options.skip_large:
                raise UsageError("--module and --model: leave out --configs and --skip-large")
            cases = named_cases(options, threads)
            MODEL.plan_all(cases, options.seed or 0)
        elif all(suite_of(case) is BLOCK for case in cases):
            cases = BLOCK.chosen_cases(options, list(map(model_of, cases)), threads)
        else:
            MODEL.plan_all(list(map(model_of, cases)), options.seed or 0)
        cases = [_own(case) for case in cases]
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
        cases = [case_of(label) for label in header["cases"]]
        modules = [model_of(case) for case in cases if suite_of(case) is MODEL]
        MODEL.plan_all(modules, header["seed"])
        self._plan(cases, header["seed"])

    def asked_listing(self, options: argparse.Namespace) -> str | None:
        """The models, for `--list-models`."""
        return MODEL.asked_listing(options)

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
        return (*(_variant(name) for name in ours), *reference_variants())

    def usual_variants(self, case: Case) -> Sequence[str]:
        """The programs that the case has."""
        programs = self._programs.get(case.label, {})
        twins = [name + SUFFIX for name in (BASE, TOP) if name in programs]
        return [*programs, *twins, *references_of(case)]

    def first_variants(self, case: Case) -> Sequence[str]:
        """Base and top, their twins, and where they stand."""
        return [*(name for pair in self.twins for name in pair), *references_of(case)]

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
        """Nothing is run where only counters are asked for; what stands outside the lattice is of
        configs or of modules."""
        if self._counters_only:
            return Refusal("skipped", "selection", "--counters-only: counted, not timed")
        if variant.name not in REFERENCES:
            return None
        if variant.name not in references_of(case):
            return Refusal("skipped", "policy", f"{variant.name} is no program of {case.name}")
        return suite_of(case).supports(variant, model_of(case))

    def needs(self, variant: Variant, case: Case, phase: str) -> Needs:
        """Inputs and results; of a program outside the lattice what its own suite says."""
        return suite_of(case).needs(variant, model_of(case), phase)

    def shared_bytes(self, worker: str, case: Case) -> int:
        """Weights, packed weights, and the arena of the program that takes most."""
        own = suite_of(case).shared_bytes(worker, model_of(case))
        if worker != "kernels":
            return own
        own = int(WEIGHTS_COPIES * own)
        counted = [dict(p.counters) for p in self._programs.get(case.label, {}).values()]
        arenas = [counts["arena_bytes"] + counts["scratch_bytes"] for counts in counted]
        return own + max(arenas, default=0)

    def slowdown(self, variant: Variant, case: Case) -> float:
        """By threads, mostly."""
        if variant.name in REFERENCES:
            return suite_of(case).slowdown(variant, model_of(case))
        planned = self._programs.get(case.label, {}).get(program_name(variant.name))
        is_parallel = planned is None or settings_of(_whole(case, planned)).is_parallel
        return SLOW * (1 if is_parallel else case.threads)

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """Never: counters say what a program takes."""
        return False

    def flops(self, case: Case, phase: str) -> Flops:
        """Operations of one forward call."""
        return suite_of(case).flops(model_of(case), phase)

    def reference_bytes(self, case: Case) -> int | None:
        """Bytes of the reference's process."""
        return suite_of(case).reference_bytes(model_of(case))

    def write_reference(self, case: Case, seed: int, path: Path) -> None:
        """Compute the model in float64 and write it."""
        suite_of(case).write_reference(model_of(case), seed, path)

    def start(self, worker: str, threads: int) -> None:
        """Import the runtime and set its threads."""
        self._adapters[worker] = make_adapter(worker, threads)

    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """Make the weights, and what programs share."""
        if worker != "kernels":
            return suite_of(case).load_with(self._adapters[worker], worker, model_of(case), seed)
        from .programs import AttributionLoaded

        return AttributionLoaded(self._adapters[worker], case, seed)


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
        what = f"{of} once more: their difference is noise"
    return Variant(name, "ablation", what=what, worker="kernels", group="Programs")


SUITE = AttributionSuite()

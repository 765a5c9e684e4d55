"""Any module: a user's own or a named model, under PyTorch, other runtimes and our ladder."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...case import Case, CustomTier, case_of
from ...interrupt import Uncovered
from ...runtimes import BY_NAME as RUNTIMES
from ...runtimes import make_adapter, missing_reason
from ...suite import Flops, Loaded, Needs, Refusal, Suite, Variant
from ..twins import program_name
from . import ladder
from .cases import (
    CASE_OPTIONS,
    DEFAULT_MODELS,
    LAYER,
    SUITE_NAME,
    TIERS,
    WHOLE,
    add_options,
    is_asked_for,
    model_case,
    model_lines,
    named_cases,
)
from .ladder import BY_NAME, DEFAULT, EAGER, SLOW_TO_BUILD, TWINS
from .planning import Plan, plans_of
from .refusals import OPTION, table, uncovered_text


class ModelSuite(Suite):
    """Modules of `--module` and `--model`; what a case is, a process of its own finds out first."""

    name = SUITE_NAME
    what = "your module or a named model: PyTorch, other runtimes, and our ladder"
    baseline = EAGER
    tiers: Mapping[str, str] = TIERS
    twins = TWINS
    devices = ("cpu",)
    case_options = CASE_OPTIONS
    # A runtime that has given up its weights cannot load others; and each case has fresh memory.
    keeps_workers = False

    def __init__(self) -> None:
        self._adapters: dict[str, Any] = {}
        self._plans: dict[str, Plan] = {}
        self._keeps_going = False

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options that name modules and models."""
        add_options(parser)
        keep = "measure the other runtimes, too, if ours does not cover a module"
        parser.add_argument(OPTION, action="store_true", help=keep)

    def chosen_cases(
        self, options: argparse.Namespace, cases: list[Case], threads: Sequence[int]
    ) -> list[Case]:
        """Those of `--module` or `--model`; Uncovered with the refusals where one of them is not
        covered and the others are not to be measured without it."""
        if is_asked_for(options):
            cases = named_cases(options, threads)
        self._keeps_going = options.keep_going
        self.plan_all(cases, options.seed or 0)
        return cases

    def plan_all(self, cases: Sequence[Case], seed: int) -> None:
        """Find out what cases are, in a process of its own; Uncovered as `chosen_cases`."""
        self._plans = plans_of(cases, seed)
        uncovered = {
            case.name: table(case.name, plan.refused, plan.message)
            for case in cases
            if not (plan := self._plans[case.label]).is_covered
        }
        if uncovered and not self._keeps_going:
            raise Uncovered(uncovered_text(list(uncovered.values())))

    def plan(self, case: Case) -> Plan:
        """Return what is known of a case; nothing before it was planned."""
        return self._plans.get(case.label, Plan())

    def header(self) -> dict[str, Any]:
        """What was asked for."""
        return {"options": {"keep_going": self._keeps_going}}

    def resume(self, header: Mapping[str, Any]) -> None:
        """Plan the cases of a run anew."""
        self._keeps_going = bool((header.get("options") or {}).get("keep_going", False))
        self.plan_all([case_of(label) for label in header["cases"]], header["seed"])

    def asked_listing(self, options: argparse.Namespace) -> str | None:
        """The models, for `--list-models`."""
        return "\n".join(model_lines()) if options.list_models else None

    def default_tiers(self, device: str) -> Sequence[str]:
        """Single layers."""
        return (LAYER,)

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """The models that need PyTorch alone; of modules there are those that are named."""
        if tier not in (LAYER, WHOLE):
            return []
        return [
            model_case(name, is_whole=tier == WHOLE, layers=1, threads=count)
            for count in threads
            for name in DEFAULT_MODELS
        ]

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """A layer of each of them."""
        return self.cases(LAYER, threads, device)

    def custom_cases(
        self, custom: CustomTier, threads: Sequence[int], device: str
    ) -> list[Case] | None:
        """None: a model has the sizes of its configuration."""
        return None

    def variants(self, device: str) -> tuple[Variant, ...]:
        """PyTorch, the ladder, the others."""
        return ladder.variants()

    def usual_variants(self, case: Case) -> Sequence[str]:
        """All but the rungs of passes that change nothing here, and what takes minutes to build."""
        plan = self.plan(case)
        wanted = {rung.name for rung in ladder.rungs_of(plan.passes)}
        wanted |= {EAGER, *(runtime.name for runtime in ladder.OTHER_RUNTIMES)} - {SLOW_TO_BUILD}
        return [v.name for v in self.variants(case.device) if program_name(v.name) in wanted]

    def first_variants(self, case: Case) -> Sequence[str]:
        """PyTorch, our default, their twins, and the others."""
        return [name for pair in TWINS for name in pair] + [
            runtime.name for runtime in ladder.OTHER_RUNTIMES
        ]

    def known(self, variant: Variant, case: Case) -> dict[str, Any]:
        """The rung below, and the passes of those that change the graph."""
        plan, name = self.plan(case), program_name(variant.name)
        if name not in BY_NAME or plan.passes is None:
            return {}
        facts = {"exported_calls": plan.exported_calls} if name == DEFAULT else {}
        return {
            "parent": variant.parent and ladder.parent_of(name, plan.passes),
            "passes": list(BY_NAME[name].passes(plan.passes)),
            "details": {key: value for key, value in facts.items() if value is not None},
        }

    def supports(self, variant: Variant, case: Case) -> Refusal | None:
        """What is not installed, what export refuses, and passes that change nothing."""
        missing = missing_reason(variant.worker)
        if missing is not None:
            return Refusal("unsupported", "not_installed", missing)
        rung, plan = BY_NAME.get(program_name(variant.name)), self.plan(case)
        if rung is None:
            return None
        if not plan.is_covered:
            return Refusal("unsupported", "refused", plan.message)
        if rung not in ladder.rungs_of(plan.passes):
            return Refusal("skipped", "policy", f"{rung.last_pass} changes nothing in this graph")
        return None

    def needs(self, variant: Variant, case: Case, phase: str) -> Needs:
        """Inputs, results and the values between; a program of ours says it once it is built."""
        plan = self.plan(case)
        return Needs(0, plan.passing_bytes + (plan.live_bytes or 0))

    def shared_bytes(self, worker: str, case: Case) -> int:
        """The weights, as often as the worker holds them."""
        return max(1, RUNTIMES[worker].weights_copies * self.plan(case).weights_bytes)

    def flops(self, case: Case, phase: str) -> Flops:
        """Operations of the products, counted from the graph; unknown without one."""
        return Flops(self.plan(case).flops)

    def reference_bytes(self, case: Case) -> int | None:
        """Weights in both types while one becomes the other, and values in float64."""
        plan = self.plan(case)
        return 3 * plan.weights_bytes + 3 * plan.passing_bytes + 2 * (plan.live_bytes or 0)

    def write_reference(self, case: Case, seed: int, path: Path) -> None:
        """Compute the module in float32 and float64 and write what follows."""
        from .programs import write_reference

        write_reference(case, seed, path)

    def start(self, worker: str, threads: int) -> None:
        """Import the runtime and set its threads."""
        self._adapters[worker] = make_adapter(worker, threads)

    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """Make the module and its inputs."""
        return self.load_with(self._adapters[worker], worker, case, seed)

    def load_with(self, adapter: Any, worker: str, case: Case, seed: int) -> Loaded:
        """Load a case by an adapter that another suite has made."""
        from .programs import ModuleLoaded

        return ModuleLoaded(adapter, worker, case, seed)


SUITE = ModelSuite()

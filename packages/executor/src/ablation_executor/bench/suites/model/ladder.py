"""The variants of a module: PyTorch, the runtimes of others, and a ladder of ours.

The ladder adds the passes one by one in their order, on kernels that are given, then changes one
axis a rung: the kernel of the products, that of attention, shared fork-joins, and at last who
chooses the kernels. Of the passes a case has those that change its graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ....passes import DEFAULT_PASSES
from ...runtimes import BY_NAME as RUNTIMES
from ...runtimes import OTHERS
from ...suite import Variant
from ..kernel_sets import kernel_set
from ..twins import SUFFIX, program_name, with_twins

EAGER, DEFAULT, NONE = "torch-eager", "default", "passes-none"
TWINS = ((EAGER, EAGER + SUFFIX), (DEFAULT, DEFAULT + SUFFIX))
BASELINES, LEAGUE, PASSES, TUNING = "Baselines", "League", "Passes", "Kernels and stages"
_PACKED = "matmul_packed_simd_parallel"
_PACKED_ATTENTION = "attention_flash_packed_simd_parallel"


@dataclass(frozen=True)
class Rung:
    """A program of ours: the passes up to `last_pass`, all for "" but in the lowest rung, and its
    settings. `changed` is the one axis that the rung below lacks, of those that a case has."""

    name: str
    printed_name: str
    group: str
    changed: str
    last_pass: str = ""
    kernels: Mapping[str, str] = field(default_factory=dict)
    share_rows: bool = False

    def passes(self, all_passes: Sequence[str] = DEFAULT_PASSES) -> tuple[str, ...]:
        """Return the passes of this rung, of those of a case."""
        if not self.last_pass:
            return () if self.name == NONE else tuple(all_passes)
        last = DEFAULT_PASSES.index(self.last_pass)
        return tuple(name for name in all_passes if DEFAULT_PASSES.index(name) <= last)

    def variant(self) -> Variant:
        """Return this rung as the bench knows it."""
        chosen = {"kernels": "given" if self.kernels else "chosen"}
        named = {key: self.kernels[key] for key in ("matmul", "attention") if key in self.kernels}
        return Variant(
            self.name,
            "ablation",
            what=f"{self.printed_name} ({self.changed})",
            worker="kernels",
            printed_name=self.printed_name,
            group=self.group,
            parent=EAGER if self.name == NONE else NONE,
            changed=self.changed,
            factors={
                "executor": "compiled",
                **chosen,
                **named,
                "share_rows": self.share_rows,
            },
            passes=self.passes(),
        )


def rung_of_pass(name: str) -> str:
    """Return the name of the rung that adds a pass."""
    return f"pass-{name.replace('_', '-')}"


def _rungs() -> tuple[Rung, ...]:
    given, packed = kernel_set(), kernel_set(matmul=_PACKED)
    both = kernel_set(matmul=_PACKED, attention=_PACKED_ATTENTION)
    passes = [
        Rung(rung_of_pass(name), f"+ {name}", PASSES, "passes", name, given)
        for name in DEFAULT_PASSES
    ]
    return (
        Rung(NONE, "No passes", PASSES, "executor", "", given),
        *passes,
        Rung("packed-weights", "+ packed weights", TUNING, "matmul", "", packed),
        Rung("packed-attention", "+ packed attention", TUNING, "attention", "", both),
        Rung("shared-joins", "+ shared fork-joins", TUNING, "share_rows", "", both, True),
        Rung(DEFAULT, "Tuned default", TUNING, "kernels", "", share_rows=True),
    )


RUNGS: tuple[Rung, ...] = _rungs()
BY_NAME: Mapping[str, Rung] = {rung.name: rung for rung in RUNGS}
# JAX runs a function, which a module is not.
OTHER_RUNTIMES = tuple(runtime for runtime in OTHERS if not runtime.takes_function)
# It times products of its own for every shape: minutes for a large model.
SLOW_TO_BUILD = "torch-compile-max"


def _torch() -> Variant:
    what = "the module as PyTorch runs it without a compiler"
    return Variant(
        EAGER,
        "torch",
        what=what,
        worker="torch",
        printed_name="PyTorch eager",
        group=BASELINES,
        factors={"executor": "torch"},
    )


def _other(name: str) -> Variant:
    runtime = RUNTIMES[name]
    return Variant(
        name,
        runtime.origin,
        what=f"the module under {runtime.printed_name}",
        worker=name,
        printed_name=runtime.printed_name,
        group=LEAGUE,
        parent=EAGER,
        changed="executor",
        factors={"executor": runtime.adapter},
    )


def variants() -> tuple[Variant, ...]:
    """Return all variants in the order of the table; twins share the worker of their first."""
    found = [_torch(), *(rung.variant() for rung in RUNGS)]
    found += [_other(runtime.name) for runtime in OTHER_RUNTIMES]
    return tuple(with_twins(found, TWINS, shares_worker=True))


def rungs_of(passes: Sequence[str] | None) -> list[Rung]:
    """Return the rungs of a case whose graph these passes change; all where that is not known."""
    known = DEFAULT_PASSES if passes is None else passes
    return [rung for rung in RUNGS if not rung.last_pass or rung.last_pass in known]


def parent_of(name: str, passes: Sequence[str]) -> str:
    """Return the rung below, of those that a case has; PyTorch below the lowest."""
    rung = BY_NAME[program_name(name)]
    if rung.name == NONE:
        return EAGER
    names = [other.name for other in rungs_of(passes)]
    return names[names.index(rung.name) - 1]

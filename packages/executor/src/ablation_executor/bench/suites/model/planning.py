"""What a case is, found without timing, in a process of its own: the graph that export makes of it,
or what export refuses, and which passes change the graph."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ... import children
from ...case import Case, case_of
from ...interrupt import UsageError
from ...protocol import thread_variables
from .refusals import Refused, grouped

if TYPE_CHECKING:
    from ....ir import Graph
    from .subject import Subject


@dataclass(frozen=True)
class Plan:
    """A case: bytes of its weights, of its inputs and results, and of its largest live values; the
    operations of its products; the passes that change its graph, in their order; nodes and calls of
    the graph as exported and as rewritten. What is not known is None.

    `refused` has what export refuses, `message` in its own words; both are empty where all of the
    module is covered.
    """

    weights_bytes: int = 0
    passing_bytes: int = 0
    live_bytes: int | None = None
    flops: int | None = None
    passes: tuple[str, ...] | None = None
    exported_calls: int | None = None
    calls: int | None = None
    refused: tuple[Refused, ...] = ()
    message: str = ""

    @property
    def is_covered(self) -> bool:
        """True where our runtime takes the whole module."""
        return not self.message

    @staticmethod
    def of(told: Mapping[str, Any]) -> Plan:
        """Return the plan that `asdict` made a message of."""
        refused = tuple(map(Refused.of, told["refused"]))
        passes = None if told["passes"] is None else tuple(told["passes"])
        return Plan(**{**told, "passes": passes, "refused": refused})


def plan_of(case: Case, seed: int) -> Plan:
    """Plan a case in this process, which loads PyTorch and makes the module."""
    from ....refusal import ExportError
    from .subject import load_subject

    subject = load_subject(case, seed)
    parameters = list(subject.module.parameters())
    known = Plan(
        weights_bytes=sum(p.numel() * p.element_size() for p in parameters),
        passing_bytes=sum(array.nbytes for array in subject.inputs),
    )
    try:
        graph = export_subject(subject)
    except ExportError as error:
        return replace(known, refused=grouped(error), message=str(error))
    return _with_graph(known, graph)


def export_subject(subject: Subject) -> Graph:
    """Export a module, whose parameters are the graph's constants without a copy."""
    from ....exporter import export
    from ...runtimes.adapter import as_tensors
    from ...runtimes.parameters import take_weights

    weights = take_weights(subject.module)
    return export(subject.module, as_tensors(subject.inputs), arrays=weights)


def _with_graph(known: Plan, graph: Graph) -> Plan:
    from ....census import product_flops
    from ....ops import OPS
    from ....passes import PASSES, optimize
    from ...runtimes.ours import live_peak_bytes, program_hash

    passes: list[str] = []
    rewritten, identity = graph, program_hash(graph, {})
    for name in PASSES:
        changed, _ = optimize(graph, passes=[*passes, name])
        found = program_hash(changed, {})
        if found != identity:
            passes.append(name)
            rewritten, identity = changed, found

    def calls(of: Graph) -> int:
        return sum(not OPS[node.op].is_alias for node in of.nodes)

    results = sum(value.nbytes for value in graph.outputs)
    return replace(
        known,
        passing_bytes=known.passing_bytes + results,
        live_bytes=live_peak_bytes(graph, "kernels"),
        flops=product_flops(rewritten),
        passes=tuple(passes),
        exported_calls=calls(graph),
        calls=calls(rewritten),
    )


def plans_of(cases: Sequence[Case], seed: int) -> dict[str, Plan]:
    """Plan cases in a process of its own, by label; UsageError where a module cannot be made.

    Cases that differ in threads alone are one module.
    """
    alike = {case.label: replace(case, threads=1).label for case in cases}
    labels = list(dict.fromkeys(alike.values()))
    if not labels:
        return {}
    variables = thread_variables(max(case.threads for case in cases))
    try:
        told = children.json_of(__package__, ["--seed", str(seed), *labels], variables)
    except children.ChildFailed as failed:
        raise UsageError(f"the modules cannot be inspected ({failed})") from None
    for label in labels:
        if failure := told[label].get("failure"):
            raise UsageError(f"{case_of(label).name}: {failure}")
    return {label: Plan.of(told[same]) for label, same in alike.items()}


def told_of(label: str, seed: int, plan: Callable[[Case, int], Plan] = plan_of) -> dict[str, Any]:
    """Return the plan of a label as a message, or the failure that its module ended with."""
    try:
        return asdict(plan(case_of(label), seed))
    except UsageError as error:
        return {"failure": str(error)}
    except Exception as error:
        traceback.print_exc()
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        return {"failure": f"{type(error).__name__}: {error}{place}"}

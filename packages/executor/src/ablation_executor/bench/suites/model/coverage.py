"""The table of coverage: each named model as a layer and whole, attention fused and written out.

`python -m ablation_executor.bench.suites.model.coverage --out FILE` writes it as JSON. Widths are
small, since none of these figures depends on them: how many calls export covers, the calls that the
passes leave, which passes fired, and the largest error over that of PyTorch's eager float32. The
same for `torch.compile(backend="ablation")`: the ops that run here and those that PyTorch runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...machine import versions
from ...names import resolve_names, split_names
from .architectures import BY_NAME, NAMES, SMALL
from .cases import LAYER, WHOLE, model_case
from .planning import export_subject
from .refusals import grouped

if TYPE_CHECKING:
    from .reference import Reference
    from .subject import Subject

SEED, LENGTH = 0, 64
# A whole model has this many layers: the second one shows what a layer adds.
WHOLE_LAYERS = 2
SCHEMA = 1


@dataclass(frozen=True)
class Compiled:
    """A model under torch.compile(backend="ablation").

    `graphs` are those that PyTorch made of it, one without a graph break. `ops` are the ops of all
    of them, `eager` those that PyTorch runs, by op, and `parts` the programs that the others are.
    `error` is the largest of the results; `failure` says what went wrong.
    """

    graphs: int = 0
    parts: int = 0
    ops: int = 0
    eager: dict[str, int] = field(default_factory=dict)
    error: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Line:
    """A model, its part and its attention.

    `ops` are the calls that torch.export sees, `refused` those that are not covered, by op. `calls`
    are those of the graph as it was exported and with all passes, `passes` how often each fired.
    `error` is the largest of our program over `eager_error`, that of PyTorch. None where the model
    is not covered; `failure` says what failed besides.
    """

    model: str
    family: str
    part: str
    attention: str
    layers: int
    ops: int | None = None
    refused: dict[str, int] = field(default_factory=dict)
    exported_calls: int | None = None
    calls: int | None = None
    passes: dict[str, int] = field(default_factory=dict)
    error: float | None = None
    eager_error: float | None = None
    failure: str | None = None
    compiled: Compiled | None = None

    @property
    def n_refused(self) -> int:
        """Calls that are not covered."""
        return sum(self.refused.values())


def cover(name: str, part: str, attention: str) -> Line:
    """Return the line of a model; what fails is said in it."""
    layers = WHOLE_LAYERS if part == WHOLE else 1
    told: dict[str, Any] = {}
    try:
        told = _covered(name, part, attention, layers)
    except Exception as error:
        told["failure"] = _first_line(error)
    return Line(name, BY_NAME[name].family, part, attention, layers, **told)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


def _covered(name: str, part: str, attention: str, layers: int) -> dict[str, Any]:
    from .reference import compute_reference
    from .subject import load_subject

    case = model_case(
        name,
        is_whole=part == WHOLE,
        layers=layers,
        attention=attention,
        size=SMALL,
        length=LENGTH,
    )
    reference = compute_reference(load_subject(case, SEED))
    subject = load_subject(case, SEED)
    told: dict[str, Any] = {
        "ops": _traced_calls(subject),
        "eager_error": max(reference.eager),
        "compiled": _compiled(subject, reference),
    }
    return told | _exported(subject, reference)


def _compiled(subject: Subject, reference: Reference) -> Compiled:
    """Run the module under the backend, every part that has a product here: none gains at small
    widths."""
    import torch

    from .... import torch_backend
    from ...runtimes.adapter import as_tensors
    from .reference import compare

    before = torch_backend.report()
    error, failure = None, None
    torch._dynamo.reset()
    try:
        with torch.no_grad():
            call = torch.compile(
                subject.module, backend="ablation", dynamic=False, options={"every_part": True}
            )
            results = call(*as_tensors(subject.inputs))
        parts = results if isinstance(results, list | tuple) else (results,)
        verdict = compare([part.numpy() for part in parts], reference)
        error, failure = max(verdict.errors.values(), default=None), verdict.reason
    except Exception as raised:
        failure = _first_line(raised)
    finally:
        torch._dynamo.reset()
    after = torch_backend.report()
    eager: dict[str, int] = {}
    for told, count in after.ops_eager.items():
        if new := count - before.ops_eager.get(told, 0):
            op = told.partition(":")[0]
            eager[op] = eager.get(op, 0) + new
    reasons = {**after.calls_eager, **after.parts_eager}
    ran_eager = [
        reason
        for reason, count in reasons.items()
        if count > {**before.calls_eager, **before.parts_eager}.get(reason, 0)
    ]
    return Compiled(
        after.graphs - before.graphs,
        after.parts - before.parts,
        after.ops - before.ops,
        eager,
        error,
        failure or (f"PyTorch ran a part: {ran_eager[0]}" if ran_eager else None),
    )


def _exported(subject: Subject, reference: Reference) -> dict[str, Any]:
    """Export, rewrite and run the module, whose parameters are read-only from then on."""
    from ....compiler import compile
    from ....ops import OPS
    from ....passes import optimize
    from ....refusal import ExportError
    from .reference import compare

    try:
        graph = export_subject(subject)
    except ExportError as error:
        refused: dict[str, int] = {}
        for part_refused in grouped(error):
            refused[part_refused.op] = refused.get(part_refused.op, 0) + part_refused.count
        return {"refused": refused, "failure": None if refused else str(error)}
    rewritten, log = optimize(graph)

    def calls(of: Any) -> int:
        return sum(not OPS[node.op].is_alias for node in of.nodes)

    told: dict[str, Any] = {"exported_calls": calls(graph), "calls": calls(rewritten)}
    fired: dict[str, int] = {}
    for entry in log.entries:
        fired[entry.pass_name] = fired.get(entry.pass_name, 0) + entry.fired
    told["passes"] = {key: count for key, count in fired.items() if count}
    results = compile(rewritten, threads=1)(*subject.inputs)
    verdict = compare(results if isinstance(results, list) else [results], reference)
    told["error"] = max(verdict.errors.values(), default=None)
    return {**told, "failure": verdict.reason}


def _traced_calls(subject: Subject) -> int:
    """Count the calls that torch.export sees, items of results left out."""
    import operator

    import torch

    from ...runtimes.adapter import as_tensors

    with torch.no_grad():
        program = torch.export.export(subject.module, as_tensors(subject.inputs), strict=False)
    nodes = program.graph.nodes
    return sum(n.op == "call_function" and n.target is not operator.getitem for n in nodes)


def table(lines: Sequence[Line]) -> str:
    """Return the lines for a terminal."""
    head = f"{'model':<18} {'part':<6} {'attention':<9} {'covered':>9} {'calls':>9} {'error':>6}"
    head += f" {'compiled':>12}"
    rows = [head]
    for line in lines:
        ops = "-" if line.ops is None else f"{line.ops - line.n_refused}/{line.ops}"
        calls = "-" if line.calls is None else f"{line.exported_calls}>{line.calls}"
        ratio = "-"
        if line.error is not None and line.eager_error:
            ratio = f"{line.error / line.eager_error:.2f}"
        named = " ".join(f"{op.removeprefix('aten.')} x{n}" for op, n in line.refused.items())
        told = line.failure or named
        row = f"{line.model:<18} {line.part:<6} {line.attention:<9} {ops:>9} {calls:>9} {ratio:>6}"
        told, compiled = _told_of(line.compiled, told)
        rows.append(f"{row} {compiled:>12}  {told[:120]}".rstrip())
    return "\n".join(rows)


def _told_of(compiled: Compiled | None, told: str) -> tuple[str, str]:
    """Return what is said behind a line, and its column for torch.compile."""
    if compiled is None:
        return told, "-"
    n_eager = sum(compiled.eager.values())
    told = told or compiled.failure or ""
    if compiled.eager and not told:
        told = "PyTorch: " + " ".join(f"{op} x{n}" for op, n in compiled.eager.items())
    return told, f"{compiled.ops - n_eager}/{compiled.ops} in {compiled.parts}"


def document(lines: Sequence[Line]) -> dict[str, Any]:
    """Return what the file holds: versions and lines."""
    return {
        "schema_version": SCHEMA,
        "versions": versions(),
        "length": LENGTH,
        "lines": [asdict(line) for line in lines],
    }


def _is_wrong(line: Line) -> bool:
    is_compiled_wrong = line.compiled is not None and line.compiled.failure is not None
    return is_compiled_wrong or (line.calls is not None and line.failure is not None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table, and print it; return 1 where a result is wrong."""
    parser = argparse.ArgumentParser(prog="ablation_executor.bench.suites.model.coverage")
    parser.add_argument("--models", metavar="A,B", help="models by name (all)")
    parser.add_argument("--out", type=Path, help="the JSON file")
    options = parser.parse_args(arguments)
    named = NAMES if options.models is None else split_names(options.models)
    lines: list[Line] = []
    warnings.simplefilter("ignore")
    for name in resolve_names("model", named, NAMES):
        for part in (LAYER, WHOLE):
            for attention in BY_NAME[name].attentions:
                lines.append(cover(name, part, attention))
                print(table(lines[-1:]).splitlines()[-1], flush=True)
                gc.collect()
    if options.out is not None:
        options.out.write_text(json.dumps(document(lines), indent=1) + "\n", "utf-8")
    covered = {line.model for line in lines if line.part == WHOLE and line.calls is not None}
    print(f"{len(covered)} of {len({line.model for line in lines})} models covered as a whole")
    return int(any(map(_is_wrong, lines)))


if __name__ == "__main__":
    sys.exit(main())

"""The table of models: what our runtime covers of each, from the file of `nox -s models`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation_report.escaping import escape
from ablation_report.fields import (
    ANY_TEXT,
    COUNT,
    NUMBER,
    TEXT,
    Columns,
    column_faults,
    is_list_of,
    table,
)
from ablation_report.fields import Column as Field
from ablation_report.output import UsageError
from ablation_report.site.data_table import Column, data_table
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import join
from ablation_report.tables.layout import times

NO_FILE = "*This site was built without the table of models: `nox -s models` writes it.*"
SCHEMA = 1
# Refused ops that a line names
MOST_OPS = 4
PARTS = {"layer": "A layer", "whole": "Whole models"}
COMPILED: Columns = {
    **dict.fromkeys(("graphs", "parts", "ops"), COUNT),
    "eager": table(others=COUNT),
    "error": NUMBER.or_null(),
    "failure": ANY_TEXT.or_null(),
}
LINE: Columns = {
    **dict.fromkeys(("model", "family", "part", "attention"), TEXT),
    "layers": COUNT,
    **dict.fromkeys(("ops", "exported_calls", "calls"), COUNT.or_null()),
    **dict.fromkeys(("refused", "passes"), table(others=COUNT)),
    **dict.fromkeys(("error", "eager_error"), NUMBER.or_null()),
    "failure": ANY_TEXT.or_null(),
    "compiled": table(COMPILED, others=None).or_null().optional(),
}
DOCUMENT: Columns = {
    "schema_version": COUNT,
    "versions": table(others=TEXT.or_null()),
    "length": COUNT,
    "lines": Field(
        f"a list of {{{', '.join(LINE)}}}",
        is_list_of(lambda line: isinstance(line, dict) and not column_faults(line, LINE)),
    ),
}
COLUMNS = (
    Column("Model", is_left=True),
    Column("Family", is_left=True),
    Column("Attention", is_left=True),
    Column("Covered", tip="ops of the exported graph that are covered, of all"),
    Column("Exported calls", name="exported_calls"),
    Column("Calls", name="calls", tip="calls that are left after all passes"),
    Column("Fused", is_left=True, is_prose=True, tip="how often each fusion fired"),
    Column("Error / PyTorch's", times, "error_over_eager", tip="of two attentions the larger"),
    Column("torch.compile", is_left=True, is_prose=True),
)
REFUSED = Column("Refused", is_left=True, is_prose=True)
Line = Mapping[str, Any]


def models_block(inputs: Inputs) -> str:
    """A summary, and a table for the layers and for the whole models."""
    if inputs.models is None or not inputs.models.is_file():
        return NO_FILE + "\n"
    document = read_models(inputs.models)
    lines: Sequence[Line] = document["lines"]
    parts = [_summary(lines), _versions(document)]
    for part, title in PARTS.items():
        found = [line for line in lines if line["part"] == part]
        if found:
            parts += [f"## {title}", _table(found)]
    return join(*parts)


def read_models(path: Path) -> dict[str, Any]:
    """Read the file; UsageError names the fault of one that is damaged or of another version."""
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path}: no JSON: {error}") from None
    faults = column_faults(document, DOCUMENT) if isinstance(document, dict) else {"": "no table"}
    if faults:
        name, fault = next(iter(faults.items()))
        raise UsageError(f"{path}: {name}: {fault}")
    if document["schema_version"] != SCHEMA:
        found = document["schema_version"]
        raise UsageError(f"{path}: schema version {found}, this program reads {SCHEMA}")
    found_document: dict[str, Any] = document
    return found_document


def _is_covered(line: Line) -> bool:
    return line["calls"] is not None


def _summary(lines: Sequence[Line]) -> str:
    """Say how many models are covered, a model where it is with each attention that it has."""
    told = []
    for part, words in (("layer", "as a layer"), ("whole", "as a whole")):
        by_model: dict[str, list[bool]] = {}
        for line in lines:
            if line["part"] == part:
                by_model.setdefault(line["model"], []).append(_is_covered(line))
        if by_model:
            covered = sum(map(all, by_model.values()))
            told.append(f"{covered} of {len(by_model)} {words}")
    compiled = [line for line in lines if line.get("compiled")]
    if compiled:
        models = {line["model"] for line in compiled}
        divided = {line["model"] for line in compiled if not _is_compiled_whole(line)}
        told.append(f"{len(models - divided)} of {len(models)} as one program of torch.compile")
    families = len({line["family"] for line in lines})
    return f"Covered: {', '.join(told)}; {families} families."


def _is_compiled_whole(line: Line) -> bool:
    """True where all ops of a model are one program, which is right."""
    compiled = line["compiled"]
    is_one = compiled["graphs"] == compiled["parts"] == 1
    return is_one and not compiled["eager"] and compiled["failure"] is None


def _versions(document: Mapping[str, Any]) -> str:
    named = ("torch", "transformers", "timm", "ablation_executor")
    versions = document["versions"]
    told = ", ".join(f"{name} {versions[name]}" for name in named if versions.get(name))
    return f"Made with {escape(told)}; sequences of {document['length']} where a model takes one."


def _table(lines: Sequence[Line]) -> str:
    """Lay out a line for each model; attentions that differ only in their error share one."""
    merged: dict[tuple[Any, ...], tuple[list[str], list[float]]] = {}
    for line in lines:
        attentions, errors = merged.setdefault(_key(line), ([], []))
        attentions.append(line["attention"])
        if line["error"] is not None and line["eager_error"]:
            errors.append(line["error"] / line["eager_error"])
    has_refused = any(refused for *_, refused in merged)
    rows = []
    for key, (attentions, errors) in merged.items():
        model, family, *counts, fused, compiled, refused = key
        row = [model, family, ", ".join(attentions), *counts, fused]
        row += [max(errors, default=None), compiled]
        rows.append([*row, refused] if has_refused else row)
    return data_table([*COLUMNS, REFUSED] if has_refused else COLUMNS, rows)


def _key(line: Line) -> tuple[Any, ...]:
    """The cells of a line but its attention and its error."""
    refused, ops = line["refused"], line["ops"]
    return (
        line["model"],
        line["family"],
        None if ops is None else f"{ops - sum(refused.values())} of {ops}",
        line["exported_calls"] if _is_covered(line) else None,
        line["calls"],
        _fused(line["passes"]),
        _compiled(line.get("compiled")),
        line["failure"] or _refused(refused) or None,
    )


def _compiled(compiled: Mapping[str, Any] | None) -> str | None:
    """Write the ops that run here of all, and the parts or graphs that they are."""
    if compiled is None:
        return None
    if compiled["failure"]:
        return str(compiled["failure"])
    eager, ops, parts = compiled["eager"], compiled["ops"], compiled["parts"]
    told = f"{ops - sum(eager.values())} of {ops}"
    if (compiled["graphs"], parts) != (1, 1):
        told += f" in {parts} part{'' if parts == 1 else 's'}"
    return f"{told}; PyTorch runs {_refused(eager)}" if eager else told


def _refused(refused: Mapping[str, int]) -> str:
    """Write the ops that are refused, of many the first, without what all names have."""
    names = [f"{_short(op)} x{count}" for op, count in refused.items()]
    more = [f"{len(names) - MOST_OPS} others"] if len(names) > MOST_OPS else []
    return ", ".join(names[:MOST_OPS] + more)


def _short(op: str) -> str:
    return op.removeprefix("aten.").removesuffix(".default").removesuffix(".Tensor")


def _fused(passes: Mapping[str, int]) -> str | None:
    """Write how often each fusion fired; passes that only move are left out."""
    kept = {name: n for name, n in passes.items() if name.startswith(("fuse_", "merge_"))}
    names = (f"{name.split('_', 1)[1].replace('_', ' ')} {n}" for name, n in kept.items())
    return ", ".join(names) or None

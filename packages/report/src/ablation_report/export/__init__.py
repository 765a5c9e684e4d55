"""Rows in the formats of other tools: traces for viewers, metrics for benchmark services."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation_report.export.benchmarks import bmf, pyperf, rows_json
from ablation_report.export.traces import SPEEDSCOPE_SCHEMA, chrome, speedscope
from ablation_report.output import write_file
from ablation_report.run import Run
from ablation_report.tables.summary import SUMMARY_START


@dataclass(frozen=True)
class Format:
    """What makes a document of runs, and what knows one: a file of anything else is kept."""

    make: Callable[[Sequence[Run]], Any]
    is_own: Callable[[Any], bool]


def _has(*names: str) -> Callable[[Any], bool]:
    """Return what is true of an object with these names."""
    return lambda document: isinstance(document, dict) and set(names) <= document.keys()


def _is_rows(document: Any) -> bool:
    return isinstance(document, list) and all(map(_has(*SUMMARY_START), document))


def _is_bmf(document: Any) -> bool:
    return isinstance(document, dict) and all(map(_has("latency"), document.values()))


def _is_speedscope(document: Any) -> bool:
    return _has("$schema")(document) and bool(document["$schema"] == SPEEDSCOPE_SCHEMA)


#: The formats by the name that the command line has for them.
FORMATS: Mapping[str, Format] = {
    "json": Format(rows_json, _is_rows),
    "chrome": Format(chrome, _has("traceEvents", "otherData")),
    "speedscope": Format(speedscope, _is_speedscope),
    "bmf": Format(bmf, _is_bmf),
    "pyperf": Format(pyperf, _has("version", "benchmarks")),
}


def export_text(runs: Sequence[Run], name: str) -> str:
    """Write runs as the JSON text of a format."""
    return json.dumps(FORMATS[name].make(runs), ensure_ascii=False, allow_nan=False) + "\n"


def write_export(runs: Sequence[Run], name: str, out: Path) -> None:
    """Write runs into a file, never a part of it.

    Raises:
        UsageError: the file exists and is no document of this format.
        OSError: it cannot be written.
    """
    text = export_text(runs, name)
    write_file(out, text.encode("utf-8"), lambda path: _is_document(path, FORMATS[name]))


def _is_document(path: Path, layout: Format) -> bool:
    try:
        return layout.is_own(json.loads(path.read_bytes()))
    except (ValueError, RecursionError):
        return False

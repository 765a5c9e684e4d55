"""Traces for viewers: the events of Chrome's trace format, which Perfetto opens, and speedscope's
profiles. Both hold the spans of `spans`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ablation_report import __version__
from ablation_report.export.spans import Span, Track, tracks
from ablation_report.run import Run

SPEEDSCOPE_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def chrome(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the Trace Event Format's JSON object: a process for each case, a thread for each row.

    `ts` and `dur` are microseconds, as the format wants; `args` has whole nanoseconds.
    """
    found = tracks(runs)
    cases = list(dict.fromkeys(track.case for track in found))
    events = [_named("process_name", case, pid) for pid, case in enumerate(cases, 1)]
    for tid, track in enumerate(found, 1):
        pid = cases.index(track.case) + 1
        events.append(_named("thread_name", track.name, pid, tid))
        events += [_complete(span, pid, tid) for span in track.root.walk()]
    about = {"written_by": f"ablation-report {__version__}", "runs": [run.name for run in runs]}
    return {"displayTimeUnit": "ns", "otherData": about, "traceEvents": events}


def _named(what: str, name: str, pid: int, tid: int | None = None) -> dict[str, Any]:
    event = {"ph": "M", "name": what, "pid": pid, "args": {"name": name}}
    return event if tid is None else event | {"tid": tid}


def _complete(span: Span, pid: int, tid: int) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": span.name,
        "cat": span.category or "row",
        "ts": span.start_ns / 1e3,
        "dur": span.time_ns / 1e3,
        "pid": pid,
        "tid": tid,
        "args": {"start_ns": span.start_ns, "ns": span.time_ns, **span.facts},
    }


def speedscope(runs: Sequence[Run]) -> dict[str, Any]:
    """Return speedscope's JSON object: an evented profile in nanoseconds for each row."""
    found = tracks(runs)
    names = list(dict.fromkeys(span.name for track in found for span in track.root.walk()))
    places = {name: index for index, name in enumerate(names)}
    return {
        "$schema": SPEEDSCOPE_SCHEMA,
        "name": ", ".join(run.name for run in runs),
        "exporter": f"ablation-report {__version__}",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": name} for name in names]},
        "profiles": [_profile(track, places) for track in found],
    }


def _profile(track: Track, places: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "evented",
        "name": f"{track.case}, {track.name}",
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": track.root.time_ns,
        "events": list(_events([track.root], places)),
    }


def _events(spans: Iterable[Span], places: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the opening and closing of spans in order of time."""
    for span in spans:
        frame = places[span.name]
        yield {"type": "O", "frame": frame, "at": span.start_ns}
        yield from _events(span.parts, places)
        yield {"type": "C", "frame": frame, "at": span.start_ns + span.time_ns}

"""Exports: traces that nest and sum, metrics with intervals, samples that pyperf loads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from samples import make_header, make_run, make_timed, make_untimed, write_run

from ablation_report.__main__ import main
from ablation_report.command_line import EXPORT_FORMATS, FRAME_FORMATS
from ablation_report.export import FORMATS, export_text
from ablation_report.export.spans import REST
from ablation_report.load import read_one
from ablation_report.run import Run, detail

RUNS = Path(__file__).parents[3] / "data/runs"
OPS = [
    ("layers.0.norm", "layer_norm", 100),
    ("layers.0.attention.query", "linear", 300),
    ("layers.0.attention.scores", "attention", 250),
    ("layers.1.norm", "layer_norm", 50),
    ("head", "linear", 40),
]


def ops(factor: float = 1.0) -> list[dict[str, Any]]:
    return [
        {"name": name, "op": kind, "category": kind, "kernel": None, "median_ns": int(ns * factor)}
        for name, kind, ns in OPS
    ]


def sample_run() -> Run:
    """A row whose operations leave time over, one whose operations take longer than the call, one
    without any, and one that failed."""
    return make_run(
        [
            make_timed("torch-naive", [1000, 1001, 1003] * 2, ops=ops()),
            make_timed("torch-sdpa", [700, 701, 704] * 2, ops=ops()),
            make_timed("layernorm-parallel", [500, 501, 504] * 2, ops=None),
            make_untimed(make_timed("flash-layernorm", [1])),
        ]
    )


def document(run: Run, name: str) -> Any:
    return json.loads(export_text([run], name))


def row_ns(run: Run) -> list[int]:
    """The times of the rows in whole nanoseconds."""
    return [round(time.value) for row in run.select(timed=True) if (time := run.time(row))]


def test_the_formats_are_those_of_the_command_line() -> None:
    assert (*FRAME_FORMATS, *FORMATS) == EXPORT_FORMATS


def chrome_tracks(trace: Mapping[str, Any]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """The complete events of each thread, as a viewer sorts them: earlier first, longer first."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            found.setdefault((event["pid"], event["tid"]), []).append(event)
    return {
        track: sorted(events, key=lambda e: (e["args"]["start_ns"], -e["args"]["ns"]))
        for track, events in found.items()
    }


def assert_nested(events: Sequence[Mapping[str, Any]]) -> None:
    """Fail unless each event lies within the one around it, and inner ones fill it exactly."""
    around: list[list[int]] = []

    def close(until: int) -> None:
        while around and around[-1][1] <= until:
            start, end, filled = around.pop()
            assert filled in (start, end), "the parts do not sum to their span"

    for event in events:
        start = event["args"]["start_ns"]
        end = start + event["args"]["ns"]
        assert (event["ts"], event["dur"]) == (start / 1e3, (end - start) / 1e3)
        close(start if end > start else start - 1)
        if around:
            assert around[-1][0] <= start and end <= around[-1][1], "an event leaves its parent"
            assert around[-1][2] == start, "parts overlap, or leave a gap"
            around[-1][2] = end
        around.append([start, end, start])
    close(10**18)


def test_a_chrome_trace_nests_and_sums_to_the_rows() -> None:
    run = sample_run()
    tracks = chrome_tracks(document(run, "chrome"))
    assert [events[0]["args"]["ns"] for events in tracks.values()] == row_ns(run)
    for events in tracks.values():
        assert events[0]["cat"] == "row" and events[0]["ts"] == 0
        assert_nested(events)
    left_over, scaled, plain = tracks.values()
    names = [event["name"] for event in left_over]
    assert names == [
        *("torch-naive", "layers", "0", "norm", "attention", "query", "scores", "1", "norm"),
        *("head", REST),
    ]
    # What was measured stands in the arguments, whole or scaled to the time of the row
    measured = {e["name"]: e["args"].get("measured_ns") for e in scaled}
    assert measured["query"] == 300 and REST not in measured
    assert sum(e["args"]["ns"] for e in scaled if "measured_ns" in e["args"]) == row_ns(run)[1]
    assert {e["name"]: e["args"]["ns"] for e in left_over}["query"] == 300
    assert len(plain) == 1


@pytest.mark.parametrize(
    "name",
    [
        "2026-11-30-zen4-attribution-quick",
        "2026-11-30-zen4-layers-4",
        "2026-11-30-zen4-lm-step-quick",
    ],
)
def test_traces_of_recorded_runs_nest_and_sum_to_the_rows(name: str) -> None:
    (run,) = read_one(RUNS / name)
    trace = document(run, "chrome")
    tracks = chrome_tracks(trace)
    assert [events[0]["args"]["ns"] for events in tracks.values()] == row_ns(run)
    for events in tracks.values():
        assert_nested(events)
    # A track is a thread with a name, below a process with the name of the case
    named = {(e["pid"], e.get("tid")): e["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
    processes = {(pid, None): "process_name" for pid, _ in tracks}
    assert {place: what for place, what in named.items() if None in place} == processes
    assert {place for place, what in named.items() if what == "thread_name"} == set(tracks)
    # Rows that were profiled have the spans of their operations, or of the parts of a step
    profiled = [row for row in run.select(timed=True) if row["ops"] or detail(row, "parts_ns")]
    assert profiled
    assert sum(len(events) > 1 for events in tracks.values()) == len(profiled)


def test_a_trace_of_a_model_nests_by_its_modules() -> None:
    names = [f"node_{i}" for i in range(6)]
    modules = ["model.layers.0.attention", "model.layers.0.attention", "model.layers.0.mlp"]
    modules += ["model.layers.1.mlp", "model.norm", ""]
    profile = [
        {"name": name, "op": "matmul", "category": "linear", "kernel": None, "median_ns": 100}
        for name in names
    ]
    details = {"module_paths": dict(zip(names, modules, strict=True))}
    rows = [make_timed("default", [700] * 6, suite="model", ops=profile, details=details)]
    (events,) = chrome_tracks(document(make_run(rows), "chrome")).values()
    assert_nested(events)
    spans = {(e["name"], e["args"]["start_ns"]): e["args"]["ns"] for e in events}
    assert spans["model", 0] == 500 and spans["layers", 0] == 400
    assert (spans["0", 0], spans["1", 300]) == (300, 100)
    assert (spans["attention", 0], spans["mlp", 200]) == (200, 100)
    assert (spans["node_5", 500], spans[REST, 600]) == (100, 100)


def test_a_chrome_trace_names_its_processes_and_threads() -> None:
    run = sample_run()
    events = document(run, "chrome")["traceEvents"]
    named = {(e["name"], e.get("tid")): e["args"]["name"] for e in events if e["ph"] == "M"}
    assert named["process_name", None] == f"{run.name}: Toy"
    assert named["thread_name", 1] == "torch-naive"
    assert {event["ph"] for event in events} == {"M", "X"}


def test_steps_have_their_parts() -> None:
    parts = {"forward": [300, 310, 320], "backward": [500, 510, 520]}
    run = make_run([make_timed("torch-naive", [1000] * 6, ops=None, details={"parts_ns": parts})])
    (events,) = chrome_tracks(document(run, "chrome")).values()
    assert_nested(events)
    assert [(e["name"], e["args"]["ns"]) for e in events[1:]] == [
        *(("forward", 310), ("backward", 510), (REST, 180)),
    ]


def test_speedscope_opens_and_closes_frames_in_order() -> None:
    run = sample_run()
    found = document(run, "speedscope")
    frames = [frame["name"] for frame in found["shared"]["frames"]]
    assert [profile["endValue"] for profile in found["profiles"]] == row_ns(run)
    for profile in found["profiles"]:
        assert (profile["type"], profile["unit"]) == ("evented", "nanoseconds")
        stack: list[int] = []
        at = 0
        for event in profile["events"]:
            assert event["at"] >= at
            at = event["at"]
            if event["type"] == "O":
                stack.append(event["frame"])
            else:
                assert stack.pop() == event["frame"]
        assert not stack and at == profile["endValue"]
        assert all(0 <= event["frame"] < len(frames) for event in profile["events"])


def test_bmf_has_the_interval_of_each_row() -> None:
    run = sample_run()
    found = document(run, "bmf")
    assert len(found) == 3
    for row in run.select(timed=True):
        time = run.time(row)
        measures = found[f"{row['case']} {row['variant']} fwd"]
        assert time is not None
        assert measures["latency"] == {
            "value": time.value,
            "lower_value": time.low,
            "upper_value": time.high,
        }
        rate = measures["throughput"]
        assert rate["value"] == pytest.approx(row["flops"] / time.value * 1e9)
        assert rate["lower_value"] <= rate["value"] <= rate["upper_value"]


def test_pyperf_has_every_sample_by_rounds() -> None:
    found = document(sample_run(), "pyperf")
    assert found["version"] == "1.0" and len(found["benchmarks"]) == 3
    first = found["benchmarks"][0]
    assert [len(run["values"]) for run in first["runs"]] == [1] * 6
    assert first["runs"][0]["values"] == [pytest.approx(1e-6)]
    assert first["metadata"]["name"].endswith(" torch-naive fwd")


def test_pyperf_loads_the_samples() -> None:
    pyperf = pytest.importorskip("pyperf")
    suite = pyperf.BenchmarkSuite.loads(export_text([sample_run()], "pyperf"))
    benchmarks = suite.get_benchmarks()
    assert [len(benchmark.get_values()) for benchmark in benchmarks] == [6, 6, 6]
    assert benchmarks[0].median() == pytest.approx(1.001e-6)
    assert benchmarks[0].get_metadata()["variant"] == "torch-naive"


def test_json_rows_have_null_for_what_is_not_known() -> None:
    found = document(sample_run(), "json")
    assert [row["variant"] for row in found][:2] == ["torch-naive", "torch-sdpa"]
    failed = found[-1]
    assert (failed["status"], failed["time_ns"], failed["is_noisy"]) == ("oom", None, None)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    places = ("path", "line")
    rows = [{k: v for k, v in row.items() if k not in places} for row in sample_run().rows]
    write_run(tmp_path / "data/runs/one", rows, make_header(rows))
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_its_own_kind_is_written_anew_and_no_other(
    place: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "one", "--format", name, "--out", "out.json"]
    assert main(command) == 0 and main(command) == 0
    written = (place / "out.json").read_text(encoding="utf-8")
    assert main(["export", "one", "--format", name]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(written)
    for other in ("{}x", '{"name": "a package"}', "[1]"):
        (place / "out.json").write_text(other)
        assert main(command) == 2
        assert "exists, and ablation-report did not write it" in capsys.readouterr().err
        assert (place / "out.json").read_text() == other


def test_worths_have_no_trace(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "one", "--attribution", "--format", "chrome"]) == 2
    assert "accepted: csv, parquet, md" in capsys.readouterr().err

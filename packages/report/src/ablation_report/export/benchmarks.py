"""Formats of benchmark services and tools: Bencher's metrics, pyperf's samples, rows as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ablation_report.run import Row, Run
from ablation_report.tables.summary import summarize

# Of pyperf's own format of files
PYPERF_VERSION = "1.0"


def rows_json(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the columns of the summary, an object for each row; what is not known is null."""
    return summarize(runs).to_dicts()


def bmf(runs: Sequence[Run]) -> dict[str, Any]:
    """Return Bencher Metric Format: the latency of each row in nanoseconds with its 95 % interval.

    Rows with operations also have their throughput in operations per second.
    """
    found: dict[str, Any] = {}
    for run in runs:
        for row in run.select(timed=True):
            time = run.time(row)
            assert time is not None
            metric = {"value": time.value, "lower_value": time.low, "upper_value": time.high}
            measures = {"latency": metric if time.n > 1 else {"value": time.value}}
            if (flops := row["flops"]) and time.low:
                rates = {"value": flops / time.value * 1e9}
                if time.n > 1:
                    rates["lower_value"] = flops / time.high * 1e9
                    rates["upper_value"] = flops / time.low * 1e9
                measures["throughput"] = rates
            found[_name(run, row, len(runs) > 1)] = measures
    return found


def pyperf(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the JSON object that `pyperf` loads: a benchmark for each row, a run for each round.

    Values are seconds, one for each sample.
    """
    benchmarks = [
        {
            "metadata": {"name": _name(run, row, len(runs) > 1)} | _about(run, row),
            "runs": _rounds(row),
        }
        for run in runs
        for row in run.select(timed=True)
        if not run.is_published
    ]
    common: dict[str, Any] = {"unit": "second", "loops": 1, "inner_loops": 1}
    return {"version": PYPERF_VERSION, "metadata": common, "benchmarks": benchmarks}


def _rounds(row: Row) -> list[dict[str, Any]]:
    rounds: dict[int, list[float]] = {}
    for index, sample in zip(row["sample_rounds"], row["samples_ns"], strict=True):
        rounds.setdefault(index, []).append(sample / 1e9)
    return [{"values": values} for values in rounds.values()]


def _about(run: Run, row: Row) -> dict[str, Any]:
    """Return what pyperf's metadata have of a row and its run; names that it does not know are
    texts or numbers."""
    header = run.header
    known_facts = {
        "cpu_model_name": header["machine"]["cpu_model"],
        "cpu_count": header["machine"]["cores"],
        "platform": f"{header['machine']['os']} {header['machine']['arch']}",
        "python_version": header["versions"].get("python"),
        "run": run.name,
        "suite": run.suite,
        "case": row["case"],
        "variant": row["variant"],
        "phase": row["phase"],
        "threads": row["threads"],
    }
    return {name: value for name, value in known_facts.items() if value not in (None, "")}


def _name(run: Run, row: Row, with_run: bool) -> str:
    parts = [run.name] if with_run else []
    return " ".join([*parts, row["case"], row["variant"], row["phase"]])

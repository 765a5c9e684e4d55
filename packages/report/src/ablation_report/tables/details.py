"""The tables of the figures that only some suites record: rates of a model, parts
of a step, memory of a backward, scratch, operations, and scalars that no other table has."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ablation_report.rows import DETAILS, PARTS
from ablation_report.run import Row, Run, detail
from ablation_report.series import short_case
from ablation_report.stats import median, percentile
from ablation_report.tables.block import has_ladder
from ablation_report.tables.layout import (
    NOTHING,
    Table,
    count,
    duration,
    mib,
    percent,
    threads_text,
    times,
)
from ablation_report.tables.suite import mean_std

_PARALLEL = re.compile(r"data_parallel_(\d{1,9})")


def detail_tables(run: Run) -> list[Table]:
    """Return the tables of details that rows of a run have."""
    if run.is_published:
        return []
    makers = (
        *(model_table, step_table, profile_table, warm_up_table, parallel_table),
        *(memory_table, backward_memory_table, scratch_table, op_table),
    )
    tables = [table for table in (make(run) for make in makers) if table.rows]
    return tables or [other_table(run)]


def part_medians(row: Row) -> dict[str, float]:
    """Return the median ns of each part of a step; empty without marks inside it."""
    parts: Mapping[str, Any] = detail(row, "parts_ns") or {}
    return {name: median(ns) for name, ns in parts.items() if ns}


def model_table(run: Run) -> Table:
    """Lay out rates and memory of the model: tokens, operations, weights, gradients, moments."""
    rows = []
    for row in run.rows:
        time, tokens, flops = run.time(row), detail(row, "tokens"), detail(row, "model_flops")
        if not time or not tokens:
            continue
        sizes = [detail(row, f"mem_{name}_bytes") for name in ("weights", "grads", "opt")]
        rows.append(
            [
                *(row["printed_name"], row["phase"], short_case(row)),
                count(detail(row, "n_params")),
                f"{tokens / time.value * 1e9:,.0f}",
                NOTHING if flops is None else f"{flops / time.value:.1f}",
                percent(run.of_ceiling(row), digits=0),
                *(mib(size) for size in (*sizes, row["memory"]["peak"])),
            ]
        )
    header = (
        *("Variant", "Phase", "Case", "Parameters", "Tokens/s", "GFLOP/s", "of ceiling"),
        *("Weights MiB", "Gradients MiB", "Moments MiB", "Peak MiB"),
    )
    least = ("Moments MiB", "Gradients MiB", "Weights MiB", "Parameters", "of ceiling", "Peak MiB")
    return Table("Rates and memory of the model", header, [("", rows)], least=least)


def step_table(run: Run) -> Table:
    """Lay out the parts of each step by the marks inside it, and their share of the whole."""
    steps = [row for row in run.rows if row["phase"] == "step" and part_medians(row)]
    names = dict.fromkeys(name for row in steps for name in part_medians(row))
    rows = []
    for row in steps:
        parts, time = part_medians(row), run.time(row)
        if time:
            figures = [duration(parts.get(name)) for name in names]
            share = percent(sum(parts.values()) / time.value, digits=0)
            name = [row["printed_name"], short_case(row)]
            rows.append([*name, *figures, duration(time.value), share])
    header = ("Variant", "Case", *names, "Step", "Parts / step")
    return Table("Parts of a step", header, [("", rows)])


def profile_table(run: Run) -> Table:
    """Lay out the share of each kind of operation in profiled calls of a program; a ladder has
    its profiles in the table of each case."""
    rows = []
    for row in () if has_ladder(run) else run.rows:
        profile = row["profile"]
        if profile and profile["total"]:
            total = median(profile["total"])
            shares = [percent(median(profile[part]) / total) for part in PARTS]
            name = [row["printed_name"], row["phase"], short_case(row)]
            rows.append([*name, duration(total), *shares])
    header = ("Variant", "Phase", "Case", "Profiled", *(p.replace("_", " ") for p in PARTS))
    return Table("Where the time of a profiled call goes", header, [("", rows)])


def warm_up_table(run: Run) -> Table:
    """Lay out the study of warm-up: a call of a new process after so many others."""
    rows = []
    for row in run.rows:
        calls, time = row["sizes"].get("study_warmup"), run.time(row)
        if calls is None or not time:
            continue
        samples = row["samples_ns"]
        mean, std = mean_std(samples)
        rows.append(
            [
                *(row["printed_name"], row["phase"], str(calls), duration(time.value)),
                *(duration(percentile(samples, share)) for share in (0.05, 0.95)),
                percent(None if std is None else std / mean),
            ]
        )
    header = ("Variant", "Phase", "Calls before", "Time", "p05", "p95", "std / mean")
    return Table("Warm-up, each sample in a new process", header, [("", rows)])


def parallel_table(run: Run) -> Table:
    """Lay out data parallel training: tokens per second of n processes over those of one."""
    rows = []
    for row in run.rows:
        time, processes = run.time(row), _PARALLEL.fullmatch(row["variant"])
        if processes is None or not time:
            continue
        n = int(processes[1])
        one = run.time(run.row(row["case"], "data_parallel_1", row["phase"]))
        # Each process has a batch of its own: as many times the tokens in a step
        efficiency = one.value / time.value if one else None
        rows.append(
            [
                *(short_case(row), str(n), duration(time.value)),
                times(None if efficiency is None else n * efficiency),
                percent(efficiency, digits=0),
            ]
        )
    header = ("Case", "Processes", "Step", "Tokens over one process", "Efficiency")
    return Table("Data parallel training, a batch for each process", header, [("", rows)])


def memory_table(run: Run) -> Table:
    """Lay out the memory of programs on a ladder: planned, and the measured peak of a call; other
    suites have the peak in the table of their rows."""
    planned = ("weights", "packed", "arena", "scratch", "peak")
    rows = [
        [row["printed_name"], row["phase"], short_case(row)]
        + [mib(row["memory"][name]) for name in planned]
        for row in (run.rows if has_ladder(run) else ())
        if row["memory"]["peak"] is not None
    ]
    header = ("Variant", "Phase", "Case", *(f"{name.capitalize()} MiB" for name in planned))
    return Table("Memory of a call", header, [("", rows)])


def backward_memory_table(run: Run) -> Table:
    """Lay out what a forward keeps, against its formula and the published way to count it."""
    rows = []
    for row in run.rows:
        memory, sizes = row["memory"], row["sizes"]
        saved, published = memory["saved"], detail(row, "mem_published_style_bytes")
        formula = detail(row, "mem_saved_predicted_bytes")
        if saved is None or (formula is None and published is None):
            continue
        scores = math.prod((4, *(sizes.get(name, 1) for name in ("B", "H", "Nq", "Nk"))))
        rows.append(
            [
                *(row["printed_name"], short_case(row), mib(saved), f"{saved / scores:.2f}"),
                *(mib(formula), mib(memory["before_bwd"]), mib(published)),
                times(published / saved if published and saved else None),
            ]
        )
    header = (
        *("Variant", "Case", "Saved MiB", "in arrays of scores", "by formula"),
        *("before backward", "published way", "published / saved"),
    )
    return Table("What a forward keeps for the backward", header, [("", rows)])


def scratch_table(run: Run) -> Table:
    """Lay out the scratch of each form against its formula, and what the published way counts."""
    rows = []
    for row in run.rows:
        time, scratch = run.time(row), row["memory"]["scratch"]
        formula = detail(row, "scratch_formula_bytes")
        cold, net = (detail(row, f"published_style_{name}") for name in ("ns", "mem_bytes"))
        if not time or (formula is None and cold is None):
            continue
        rows.append(
            [
                *(row["printed_name"], short_case(row), str(row["threads"])),
                duration(time.value),
                duration(median(row["cpu_ns"]) if row["cpu_ns"] else None),
                *(count(scratch), count(formula), duration(cold), count(net)),
            ]
        )
    header = (
        *("Variant", "Case", "Threads", "Time", "CPU time", "Scratch B", "by formula"),
        *("cold run, profiled", "published memory"),
    )
    return Table("Scratch, and the published way to measure", header, [("", rows)])


def op_table(run: Run) -> Table:
    """Lay out where the time of a call goes, in the columns of PyTorch's profiler."""
    groups = []
    for row in run.rows:
        lines = detail(row, "op_table")
        if not lines or row["tier"] != "course":
            continue
        with_ns, without_ns = (detail(row, f"op_table_{name}_ns") for name in ("with", "without"))
        observed = f", {times(with_ns / without_ns)} observed" if with_ns and without_ns else ""
        title = f"{row['printed_name']}, {threads_text(row['threads'])}{observed}"
        groups.append((title, [_op_line(line) for line in lines]))
    header = (
        *("Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg"),
        *("CPU Mem", "Self CPU Mem", "# of Calls"),
    )
    least = ("Self CPU Mem", "CPU Mem", "CPU time avg", "CPU total %", "CPU total")
    title = "Where the time of a call goes, in the course's case"
    return Table(title, header, groups, least=least)


def other_table(run: Run) -> Table:
    """Lay out the scalars that a suite without a table of its own records."""
    rows = [row for row in run.rows if row["details"]]
    names = dict.fromkeys(
        name
        for row in rows
        for name, value in row["details"].items()
        if name not in DETAILS and not name.startswith("mem_")
        if isinstance(value, str | int | float)
    )
    lines = [
        [row["printed_name"], row["phase"], short_case(row)]
        + [_scalar(detail(row, name)) for name in names]
        for row in rows
        if any(detail(row, name) is not None for name in names)
    ]
    header = ("Variant", "Phase", "Case", *(name.replace("_", " ") for name in names))
    return Table("Other figures", header, [("", lines)])


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return count(value) if type(value) is int else NOTHING if value is None else str(value)


def _op_line(line: Mapping[str, Any]) -> list[str]:
    return [
        str(line["name"]),
        percent(line["self_cpu_share"]),
        duration(line["self_cpu_ns"]),
        percent(line["cpu_total_share"]),
        duration(line["cpu_total_ns"]),
        duration(line["cpu_avg_ns"]),
        count(line["cpu_mem_bytes"]),
        count(line["self_cpu_mem_bytes"]),
        str(line["calls"]),
    ]

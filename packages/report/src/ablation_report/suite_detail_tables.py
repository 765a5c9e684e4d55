"""What one suite alone tells: parts of a step, memory of a backward, scratch of the four forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ablation_report.metrics import median
from ablation_report.suite_series import short_case
from ablation_report.suite_sources import Measure, SuiteSource
from ablation_report.tables import NOTHING, Table, duration

_MIB = 2**20


def detail_tables(source: SuiteSource) -> list[Table]:
    """Return the tables that the suite of a source has besides those of all suites."""
    makers: Mapping[str, Sequence[Callable[[SuiteSource], Table]]] = {
        "lm-step": (model_table, step_table, warm_up_table, parallel_table),
        "attention-backward": (backward_memory_table,),
        "attention-parts": (scratch_table, op_table),
    }
    tables = [make(source) for make in makers.get(source.suite, ())]
    return [table for table in tables if table.rows]


def part_medians(measure: Measure) -> dict[str, float]:
    """The median ns of each part of a step; empty without marks inside it."""
    parts: Mapping[str, Any] = measure.detail("parts_ns") or {}
    return {name: median(ns) for name, ns in parts.items() if ns}


def model_table(source: SuiteSource) -> Table:
    """Lay out rates and memory of the model: tokens, operations, weights, gradients, moments."""
    rows = []
    for measure in source.measures:
        tokens, flops = measure.detail("tokens"), measure.detail("model_flops")
        if not measure.timing or not tokens:
            continue
        seconds = measure.timing.time_ns / 1e9
        sizes = [
            measure.detail(name)
            for name in ("mem_weights_bytes", "mem_grads_bytes", "mem_opt_bytes")
        ]
        n_params = measure.detail("n_params")
        rows.append(
            [
                *(measure["impl"], measure["phase"], short_case(measure)),
                NOTHING if n_params is None else f"{n_params:,}",
                f"{tokens / seconds:,.0f}",
                NOTHING if flops is None else f"{flops / seconds / 1e9:.1f}",
                NOTHING if measure.of_ceiling is None else f"{100 * measure.of_ceiling:.0f}%",
                *(_mib(size) for size in (*sizes, measure["mem_op_peak_bytes"])),
            ]
        )
    header = (
        *("Implementation", "Phase", "Case", "Parameters", "Tokens/s", "GFLOP/s", "of ceiling"),
        *("Weights MiB", "Gradients MiB", "Moments MiB", "Peak MiB"),
    )
    return Table("Rates and memory of the model", header, [("", rows)])


def step_table(source: SuiteSource) -> Table:
    """Lay out the parts of each step by the marks inside it, and their share of the whole."""
    steps = [m for m in source.measures if m["phase"] == "step" and m.timing and part_medians(m)]
    names = dict.fromkeys(name for measure in steps for name in part_medians(measure))
    rows = []
    for measure in steps:
        parts = part_medians(measure)
        total = measure.time_ns or 0
        rows.append(
            [
                *(measure["impl"], short_case(measure)),
                *(duration(parts.get(name)) for name in names),
                duration(total),
                f"{100 * sum(parts.values()) / total:.0f}%",
            ]
        )
    header = ("Implementation", "Case", *names, "Step", "Parts / step")
    return Table("Parts of a step", header, [("", rows)])


def warm_up_table(source: SuiteSource) -> Table:
    """Lay out the study of warm-up: a call of a new process after so many others."""
    rows = []
    for measure in source.measures:
        count = measure.parameter("study_warmup")
        if count is None or not measure.timing:
            continue
        timing = measure.timing
        rows.append(
            [
                *(measure["impl"], measure["phase"], str(count), duration(timing.time_ns)),
                *(duration(timing.p05_ns), duration(timing.p95_ns)),
                NOTHING if timing.cv is None else f"{timing.cv:.1%}",
            ]
        )
    header = ("Implementation", "Phase", "Calls before", "Time", "p05", "p95", "std / mean")
    return Table("Warm-up, each sample in a new process", header, [("", rows)])


def parallel_table(source: SuiteSource) -> Table:
    """Lay out data parallel training: tokens per second of n processes over those of one."""
    prefix = "data_parallel_"
    rows = []
    for measure in source.measures:
        if not measure["impl"].startswith(prefix) or not measure.timing:
            continue
        count = int(measure["impl"].removeprefix(prefix))
        one = source.find(measure["case"], f"{prefix}1", measure["phase"])
        # Each process has a batch of its own: as many times the tokens in a step
        efficiency = one.time_ns / measure.timing.time_ns if one and one.time_ns else None
        rows.append(
            [
                *(short_case(measure), str(count), duration(measure.timing.time_ns)),
                NOTHING if efficiency is None else f"{count * efficiency:.2f}x",
                NOTHING if efficiency is None else f"{100 * efficiency:.0f}%",
            ]
        )
    header = ("Case", "Processes", "Step", "Tokens over one process", "Efficiency")
    return Table("Data parallel training, a batch for each process", header, [("", rows)])


def backward_memory_table(source: SuiteSource) -> Table:
    """Lay out what a forward keeps, against its formula and the published way to count it."""
    rows = []
    for measure in source.measures:
        saved = measure["mem_saved_bytes"]
        if measure.is_published or saved is None:
            continue
        old, predicted = (
            measure.detail(f"mem_{name}_bytes") for name in ("published_style", "saved_predicted")
        )
        scores = 4 * measure["B"] * measure["H"] * measure["Nq"] * measure["Nk"]
        rows.append(
            [
                *(measure["impl"], short_case(measure), _mib(saved), f"{saved / scores:.2f}"),
                *(_mib(predicted), _mib(measure["mem_before_bwd_bytes"]), _mib(old)),
                NOTHING if not old or not saved else f"{old / saved:.2f}x",
            ]
        )
    header = (
        *("Implementation", "Case", "Saved MiB", "in arrays of scores", "by formula"),
        *("before backward", "published way", "published / saved"),
    )
    return Table("What a forward keeps for the backward", header, [("", rows)])


def scratch_table(source: SuiteSource) -> Table:
    """Lay out the scratch of each form against its formula, and what the published way counts."""
    rows = []
    for measure in source.measures:
        if measure.is_published or not measure.timing:
            continue
        scratch, formula = measure["mem_scratch_bytes"], measure.detail("scratch_formula_bytes")
        cold, net = (measure.detail(f"published_style_{name}") for name in ("ns", "mem_bytes"))
        cpu = measure["cpu_ns"]
        if scratch is None and cold is None:
            continue
        rows.append(
            [
                *(measure["impl"], short_case(measure), str(measure["threads"])),
                duration(measure.timing.time_ns),
                duration(median(cpu)) if cpu else NOTHING,
                *(_count(scratch), _count(formula), duration(cold), _count(net)),
            ]
        )
    header = (
        *("Implementation", "Case", "Threads", "Time", "CPU time", "Scratch B", "by formula"),
        *("cold run, profiled", "published memory"),
    )
    return Table("Scratch, and the published way to measure", header, [("", rows)])


def op_table(source: SuiteSource) -> Table:
    """Lay out where the time of a call goes, in the columns of PyTorch's profiler."""
    groups = []
    for measure in source.measures:
        lines = measure.detail("op_table")
        if not lines or measure["tier"] != "course":
            continue
        with_ns, without_ns = (
            measure.detail(f"op_table_{name}_ns") for name in ("with", "without")
        )
        observed = f", {with_ns / without_ns:.2f}x observed" if with_ns and without_ns else ""
        title = f"{measure['impl']}, {measure['threads']} threads{observed}"
        groups.append((title, [_op_line(line) for line in lines]))
    header = (
        *("Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg"),
        *("CPU Mem", "Self CPU Mem", "# of Calls"),
    )
    return Table("Where the time of a call goes, in the course's case", header, groups)


def _op_line(line: Mapping[str, Any]) -> list[str]:
    return [
        str(line["name"]),
        f"{line['self_cpu_share']:.1%}",
        duration(line["self_cpu_ns"]),
        f"{line['cpu_total_share']:.1%}",
        duration(line["cpu_total_ns"]),
        duration(line["cpu_avg_ns"]),
        _count(line["cpu_mem_bytes"]),
        _count(line["self_cpu_mem_bytes"]),
        str(line["calls"]),
    ]


def _mib(count: int | None) -> str:
    return NOTHING if count is None else f"{count / _MIB:.2f}"


def _count(count: int | None) -> str:
    return NOTHING if count is None else f"{count:,}"

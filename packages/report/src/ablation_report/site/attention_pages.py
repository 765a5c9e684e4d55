"""Attention alone: each run's tables, and what the newest runs measured beside the targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ablation_report.attention_rows import AttentionRun, Row
from ablation_report.attention_tables import (
    LEGEND,
    SDPA,
    Case,
    attention_tables,
    cases_of,
    median_ns,
)
from ablation_report.escaping import escape, path_code
from ablation_report.metrics import MIN_ROUNDS, Interval, rounds_ratio
from ablation_report.site.figures import attention_figure
from ablation_report.site.run_pages import facts
from ablation_report.site.text import details, join, measures, slug, table
from ablation_report.sources import Gathered, hardware
from ablation_report.tables import NOTHING

# What the project set out for, from this length on: SDPA's time over flash's on one thread, and one
# head's time under the causal mask on one thread over that on all
TARGET_SPEED_UP, FROM_LENGTH = 1.5, 1024
TARGET_SCALING = 1.8
# Heads, sequence length, head size
Shape = tuple[int, int, int]
# By causal mask and number of threads
Cases = Mapping[tuple[bool, int], Case]


def newest_first(runs: Iterable[AttentionRun]) -> list[AttentionRun]:
    """Order runs by when they began."""
    return sorted(runs, key=lambda run: str(run.header["created_utc"]), reverse=True)


def attention_block(gathered: Gathered) -> str:
    """The tables of each run of attention alone, newest first."""
    if not gathered.attention:
        return "*No run of attention alone has been recorded.*\n"
    parts = []
    for run in newest_first(gathered.attention):
        parts += [
            f"## {escape(run.name)} {{ #{slug(run.name)} }}",
            f"Rows: {path_code(run.path.as_posix())}",
            facts(run.header),
        ]
        if not run.rows:
            parts.append("*It was stopped before its first case: nothing can be said.*")
        parts.append(attention_figure(run))
        for found in attention_tables(run.rows, run.header["impls"]):
            parts.append(measures(found, f"### {escape(found.title)}"))
    return join(*parts, details("What the columns mean", escape(" ".join(LEGEND))))


def attention_targets_block(gathered: Gathered) -> str:
    """For each machine flash against SDPA at each shape, by the newest run that has it."""
    machines: dict[tuple[str, str | None], list[AttentionRun]] = {}
    for run in newest_first(gathered.attention):
        key = hardware(run.header), run.header["providers"].get("simd")
        machines.setdefault(key, []).append(run)
    parts = [_targets(runs) for runs in machines.values() if any(run.rows for run in runs)]
    return join(*parts) if parts else "*No run of attention alone has been recorded.*\n"


def _targets(runs: Sequence[AttentionRun]) -> str:
    """The table of one machine, whose runs are given newest first."""
    shapes: dict[Shape, tuple[AttentionRun, Cases]] = {}
    for run in runs:
        for shape, cases in _by_shape(run).items():
            shapes.setdefault(shape, (run, cases))
    threads = sorted({count for _, cases in shapes.values() for _, count in cases})
    columns = [(causal, count) for count in threads for causal in (False, True)]
    header = ["Heads", "S", *map(_column, columns)]
    own = [f"{TARGET_SPEED_UP}x on 1 thread", "SDPA, full, 1 thread"]
    own += ["causal scaling", f"{TARGET_SCALING}x, 1 head"]
    rows, targets = [], []
    for shape in sorted(shapes):
        heads, length, _ = shape
        cases = shapes[shape][1]
        scaling = _scaling(cases, threads)
        names = [str(heads), str(length)]
        rows.append([*names, *(_figures(cases.get(key)) for key in columns)])
        targets.append(
            [
                *names,
                _speed_up_target(length, cases),
                _rate(cases[False, 1].rows.get(SDPA)) if (False, 1) in cases else NOTHING,
                NOTHING if scaling is None else f"{scaling:.2f}x",
                _scaling_target(shape, scaling),
            ]
        )
    machine = runs[0].header["machine"]
    simd = runs[0].header["providers"].get("simd") or "no SIMD"
    runs_shown = dict.fromkeys(run.name for run, _ in shapes.values())
    links = ", ".join(f"[{escape(name)}](attention.md#{slug(name)})" for name in runs_shown)
    return join(
        f"**{escape(machine['cpu_model'])}, {machine['cores']} cores, {escape(simd)}**",
        table(header, rows),
        table(["Heads", "S", *own], targets),
        f"Rows: {links}.",
    ).rstrip()


def _column(key: tuple[bool, int]) -> str:
    causal, threads = key
    return f"{'causal' if causal else 'full'}, {threads} thread{'s' if threads > 1 else ''}"


def _by_shape(run: AttentionRun) -> dict[Shape, Cases]:
    """The cases of a run as long in queries as in keys, of one batch, by shape."""
    found: dict[Shape, dict[tuple[bool, int], Case]] = {}
    for case in cases_of(run.rows):
        if case.batch == 1 and case.queries == case.keys:
            shape = case.heads, case.keys, case.head_dim
            found.setdefault(shape, {})[case.causal, case.threads] = case
    return dict(found)


def _flash(case: Case) -> Row | None:
    """The row of our fastest kernel of flash attention."""
    timed = [
        (time_ns, impl)
        for impl, row in case.rows.items()
        if row["form"].startswith("flash") and (time_ns := median_ns(row)) is not None
    ]
    return case.rows[min(timed)[1]] if timed else None


def _over_sdpa(case: Case) -> Interval | None:
    flash, sdpa = _flash(case), case.rows.get(SDPA)
    return rounds_ratio(flash, sdpa) if flash is not None and sdpa is not None else None


def _figures(case: Case | None) -> str:
    """Flash's time over that of SDPA, and its rate."""
    if case is None:
        return NOTHING
    flash, ratio = _flash(case), _over_sdpa(case)
    if ratio is None:
        return _rate(flash)
    is_open = ratio.n < MIN_ROUNDS or ratio.low <= 1 <= ratio.high
    return f"{ratio.median:.2f}x{' ~' if is_open else ''}, {_rate(flash)}"


def _rate(row: Row | None) -> str:
    time_ns = median_ns(row)
    if row is None or time_ns is None:
        return NOTHING
    return f"{row['flops_useful'] / time_ns:.0f} GFLOP/s"


def _scaling(cases: Cases, threads: Sequence[int]) -> float | None:
    """Flash's time under the causal mask on one thread, over that on the most."""
    if len(threads) < 2 or not {(True, 1), (True, threads[-1])} <= cases.keys():
        return None
    one, most = (median_ns(_flash(cases[True, count])) for count in (1, threads[-1]))
    return None if one is None or most is None else one / most


def _speed_up_target(length: int, cases: Cases) -> str:
    """Whether the target of one thread is met, with and without the mask."""
    if length < FROM_LENGTH:
        return NOTHING
    said = []
    for causal in (False, True):
        ratio = _over_sdpa(cases[causal, 1]) if (causal, 1) in cases else None
        if ratio is not None:
            mask = "causal" if causal else "full"
            said.append(
                f"{mask} {1 / ratio.median:.2f}x {_met(1 / ratio.median >= TARGET_SPEED_UP)}"
            )
    return ", ".join(said) or NOTHING


def _scaling_target(shape: Shape, scaling: float | None) -> str:
    """Whether one head is shared out as well as the target asks, at lengths that it is for."""
    heads, length, _ = shape
    if heads > 1 or length < FROM_LENGTH or scaling is None:
        return NOTHING
    return _met(scaling >= TARGET_SCALING)


def _met(is_met: bool) -> str:
    return "met" if is_met else "**missed**"

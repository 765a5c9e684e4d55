"""What the newest runs of each machine measured beside the targets, and what the rungs are worth.

A machine is measured in several runs, some of one config alone: a table takes each config from the
newest run that has it, of those made alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ablation_report.escaping import escape
from ablation_report.findings.judge import is_published_rung, timed
from ablation_report.findings.words import counted
from ablation_report.ladder import CONFIGS, DEFAULT, LEAGUE, PARENTS, SDPA
from ablation_report.means import geometric_mean
from ablation_report.metrics import is_different, median
from ablation_report.site.choose import Setting, recorded, settings
from ablation_report.site.text import join, rows_of, table
from ablation_report.sources import Comparison, Gathered, Source
from ablation_report.tables import MEAN_HEADER, NOTHING, duration, error_ratio

# Ours over the best other runtime, at most, on all threads: what the project set out for
TARGETS: Mapping[str, float] = {
    "Toy": 0.40,
    "Small": 0.90,
    "Medium": 0.90,
    "GPT-2": 0.96,
    "1B": 0.96,
    "3B": 0.96,
    "7B": 0.96,
    "7B-4K": 0.90,
    "1B-8K": 0.90,
}
NOT_MEASURED = "not measured"
BEYOND = tuple(variant for variant in PARENTS if variant.startswith("beyond-"))


def targets_block(gathered: Gathered) -> str:
    """For each setting with other runtimes, ours against the best of them, config by config."""
    parts = []
    for setting in settings(recorded(gathered)):
        shown = {c: run for c in CONFIGS if (run := _league_run(setting, c)) is not None}
        if shown:
            parts.append(_targets(setting, shown))
    return join(*parts) if parts else "*No recorded run has another runtime beside ours.*\n"


def _league_run(setting: Setting, config: str) -> Source | None:
    """The first run that has a time of ours and of a runtime of the league."""
    for run in setting.runs:
        cells = run.by_config.get(config, {})
        league = (name for name, cell in cells.items() if cell["group"] == LEAGUE)
        if run.best(config) and any(run.time(config, name) for name in league):
            return run
    return None


def _targets(setting: Setting, shown: Mapping[str, Source]) -> str:
    """The table of a setting; with the target of every config where it uses the whole machine."""
    target = ["Target"] if setting.is_whole else []
    header = ["Config", "Best other", "Best of ours", "Ours / best other", *target, "Of ceiling"]
    rows, defaults = [], []
    ratios: dict[str, float | None] = {}
    for config in CONFIGS if setting.is_whole else shown:
        run = shown.get(config)
        found = _against_best_other(run, config) if run else None
        ratios[config] = found.ratio.median if found else None
        wanted = [_target(config, found)] if setting.is_whole else []
        if run is None or found is None:
            rows.append([config, NOTHING, NOTHING, NOT_MEASURED, *wanted, NOTHING])
            continue
        times = [_time(run, config, variant) for variant in (found.base, found.variant)]
        reached = _of_ceiling(run, config, found.variant)
        rows.append([config, *times, marked(found), *wanted, reached])
        if run.time(config, DEFAULT):
            defaults.append([config, *_default(run, config)])
    mean = geometric_mean(ratios).sentence("Ours / best other")
    own = ["Tuned default", "Over the published ladder", "Error / PT's", "Build", "First call"]
    return join(
        title(setting),
        table(header, rows),
        f"{mean}.",
        table(own, defaults) if defaults else None,
        rows_of(shown.values()),
    ).rstrip()


def _against_best_other(run: Source, config: str) -> Comparison | None:
    best, rival = run.best(config), run.best(config, ours=False)
    return run.compare(config, best, rival) if best else None


def _target(config: str, found: Comparison | None) -> str:
    """Write the target and whether it is met, by the two digits that both are written with."""
    wanted = f"{TARGETS[config]:.2f}"
    if found is None:
        return wanted
    is_met = round(found.ratio.median, 2) <= TARGETS[config]
    return wanted + (", met" if is_met else ", **missed**")


def _time(run: Source, config: str, variant: str) -> str:
    time = run.time(config, variant)
    return f"{duration(time.median if time else None)} ({escape(run.printed(variant))})"


def _of_ceiling(run: Source, config: str, variant: str) -> str:
    time, ceiling = run.time(config, variant), run.ceiling_flops_per_s
    if time is None or ceiling is None:
        return NOTHING
    return f"{run.by_config[config][variant]['flops'] / (time.median * 1e-9) / ceiling:.0%}"


def error_over_sdpa(run: Source, config: str, variant: str) -> str:
    """The largest error of a variant that ran, over that of PT SDPA."""
    error = error_ratio(run.by_config[config][variant], run.cell(config, SDPA))
    return NOTHING if error is None else f"{error:.2f}x"


def _default(run: Source, config: str) -> list[str]:
    """What compile chooses by itself: its time, its error, and what a user waits for once."""
    best = next(iter(timed(run, config, is_published_rung)), None)
    cell = run.by_config[config][DEFAULT]
    return [
        marked(run.compare(config, DEFAULT, best)),
        error_over_sdpa(run, config, DEFAULT),
        duration(cell["build_ns"]),
        duration(cell["first_call_ns"]),
    ]


def marked(found: Comparison | None) -> str:
    """A paired ratio, marked where the run's own noise may account for it."""
    if found is None:
        return NOTHING
    return f"{found.ratio.median:.2f}x" + ("" if is_different(found.verdict) else " ~")


def title(setting: Setting) -> str:
    """What the runs of a setting have in common, and what the machine does at best."""
    run = setting.runs[0]
    ceilings = [c for r in setting.runs if (c := r.ceiling_flops_per_s) is not None]
    rate = f", multiply-adds at {median(ceilings) / 1e9:.0f} GFLOP/s" if ceilings else ""
    threads = counted(setting.threads, "thread")
    return f"**{escape(run.machine)}, {threads}, {escape(setting.simd or 'no SIMD')}{rate}**"


def rungs_beyond_block(gathered: Gathered) -> str:
    """For each machine, what each rung beyond the published ladder is worth at each config."""
    parts = []
    for setting in settings(recorded(gathered)):
        if not setting.is_whole:
            continue
        found = {v: _steps(setting, v) for v in BEYOND}
        configs = [c for c in CONFIGS if any(c in steps for steps in found.values())]
        if configs:
            parts.append(_rungs_beyond(setting, configs, found))
    return join(*parts) if parts else "*No recorded run has a rung beyond the published ladder.*\n"


# A run and what it says of a rung, by config
Steps = Mapping[str, tuple[Source, Comparison]]


def _steps(setting: Setting, variant: str) -> Steps:
    """The rung over the one below it at each config, by the first run that has both."""
    found = {}
    for config in CONFIGS:
        for run in setting.runs:
            step = run.compare(config, variant, run.parent(config, variant))
            if step is not None:
                found[config] = run, step
                break
    return found


def _rungs_beyond(setting: Setting, configs: Sequence[str], found: Mapping[str, Steps]) -> str:
    rows = []
    runs: dict[str, Source] = {}
    for steps in filter(None, found.values()):
        run, step = next(iter(steps.values()))
        runs |= {run.name: run for run, _ in steps.values()}
        mean = geometric_mean(
            {c: steps[c][1].ratio.median if c in steps else None for c in configs}
        )
        cells = [marked(steps[c][1]) if c in steps else NOTHING for c in configs]
        rows.append([escape(run.printed(step.variant)), *cells, mean.text()])
    header = ["Rung", *configs, MEAN_HEADER]
    return join(title(setting), table(header, rows), rows_of(runs.values())).rstrip()


def instruction_sets_block(gathered: Gathered) -> str:
    """What compile chooses over PT SDPA, by each instruction set that a machine was run with."""
    parts = []
    groups: dict[tuple[str, int], list[Setting]] = {}
    for setting in settings(recorded(gathered)):
        groups.setdefault((setting.hardware, setting.threads), []).append(setting)
    for group in groups.values():
        if len(group) > 1:
            parts += _instruction_sets(group)
    return join(*parts) if parts else "*No machine was measured with two instruction sets.*\n"


def _instruction_sets(group: Sequence[Setting]) -> list[str]:
    """The times of one machine over those of PT SDPA, then the errors."""
    configs = [c for c in CONFIGS if any(s.first(c, DEFAULT, SDPA) for s in group)]
    parts = [title(group[0])]
    runs: dict[str, Source] = {}

    def cells(setting: Setting, write: Callable[[Source, str], str]) -> list[str]:
        texts = []
        for config in configs:
            run = setting.first(config, DEFAULT, SDPA)
            runs.update({run.name: run} if run else {})
            texts.append(write(run, config) if run else NOTHING)
        return texts

    for what, write in (
        ("Time / PT SDPA's", lambda run, config: marked(run.compare(config, DEFAULT, SDPA))),
        ("Error / PT SDPA's", lambda run, config: error_over_sdpa(run, config, DEFAULT)),
    ):
        rows = [[escape(s.simd or "none"), *cells(s, write)] for s in group]
        parts.append(table([what, *configs], rows))
    return [*parts, rows_of(runs.values())]

"""Which run a page shows first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ablation_report.ladder import LEAGUE, PARENTS
from ablation_report.sources import Gathered, Source, hardware

# A run with fewer of the rungs than this part of what the fullest has does not cover a config
COVERING = 0.6


def created(source: Source) -> str:
    """When a run began, in a form that sorts; empty for a published file."""
    return "" if source.header is None else str(source.header["created_utc"])


def recorded(gathered: Gathered, config: str | None = None) -> list[Source]:
    """The recorded runs, or those of them with a cell of the config, newest first."""
    runs = [s for s in gathered.sources if not s.is_published]
    chosen = [run for run in runs if config is None or config in run.configs]
    return sorted(chosen, key=created, reverse=True)


def published(gathered: Gathered, config: str | None = None) -> list[Source]:
    """The published files, or those of them with a cell of the config."""
    files = [s for s in gathered.sources if s.is_published]
    return [file for file in files if config is None or config in file.configs]


def shown_run(gathered: Gathered, config: str) -> Source | None:
    """The newest recorded run that covers a config; None where no run has a cell of it.

    A run on fewer threads than another one has there does not cover it, and a quick run stands back
    where there is another.
    """
    runs = recorded(gathered, config)
    runs = [run for run in runs if not is_quick(run)] or runs
    most_threads = max((run.threads or 0 for run in runs), default=0)
    fullest = max((timed_rungs(run, config) for run in runs), default=0)
    covering = (
        run
        for run in runs
        if run.threads == most_threads and timed_rungs(run, config) >= COVERING * fullest
    )
    return next(covering, runs[0] if runs else None)


def is_quick(source: Source) -> bool:
    """True for a run with few warm-ups and no extra rounds."""
    return source.header is not None and "--quick" in source.header["command"]


def fuller_run(gathered: Gathered, config: str) -> Source | None:
    """The run with the most rungs of a config, where the run shown has fewer; else None.

    A quick run stands back where there is another.
    """
    shown = shown_run(gathered, config)
    if shown is None:
        return None
    runs = recorded(gathered, config)
    runs = [run for run in runs if not is_quick(run)] or runs
    fullest = max(runs, key=lambda run: timed_rungs(run, config))
    return fullest if timed_rungs(fullest, config) > timed_rungs(shown, config) else None


def timed_rungs(source: Source, config: str) -> int:
    """How many rungs of the ladder a source has times of."""
    return sum(source.time(config, variant) is not None for variant in PARENTS)


def main_run(gathered: Gathered) -> Source | None:
    """The run that the most configs show, the newest of several; None without a recorded run."""
    runs = recorded(gathered)
    votes = dict.fromkeys((run.name for run in runs), 0)
    for config in {config for run in runs for config in run.configs}:
        if shown := shown_run(gathered, config):
            votes[shown.name] += 1
    return max(runs, key=lambda run: (votes[run.name], created(run)), default=None)


def league_runs(gathered: Gathered) -> list[Source]:
    """The recorded runs that have a row of another runtime, newest first."""
    return [run for run in recorded(gathered) if any(cell["group"] == LEAGUE for cell in run.cells)]


@dataclass(frozen=True)
class Setting:
    """The runs that were made alike: on one machine, with as many threads, by one instruction set.

    `runs` has the newest first, quick ones last. `is_whole` is true where the runs use all cores
    and the best instruction set that the build found there.
    """

    runs: tuple[Source, ...]
    hardware: str
    threads: int
    simd: str | None
    is_whole: bool

    def first(self, config: str, *variants: str) -> Source | None:
        """The first run that has a time of each of the variants at a config."""
        return next((r for r in self.runs if all(r.time(config, v) for v in variants)), None)


def settings(runs: Iterable[Source]) -> list[Setting]:
    """Group recorded runs by how they were made, those that use the whole machine first."""
    groups: dict[tuple[str, int, str | None], list[Source]] = {}
    # sorted keeps the order of what is equal: the newest stays first
    for run in sorted(runs, key=is_quick):
        if run.header is not None:
            key = hardware(run.header), run.header["threads"], run.header["providers"].get("simd")
            groups.setdefault(key, []).append(run)
    found = [Setting(tuple(group), *key, _is_whole(group[0])) for key, group in groups.items()]
    return sorted(found, key=lambda setting: not setting.is_whole)


def _is_whole(run: Source) -> bool:
    if run.header is None:
        return False
    build = run.header["build_info"]
    # The build lists the best first
    best = next(iter(build.get("isa_available", ())), None)
    return bool(
        run.header["threads"] == run.header["machine"]["cores"] and build.get("isa_used") == best
    )

"""What `ablation_executor.compare` gives: variants of one module, as figures and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ablation_report.rows import PARTS
from ablation_report.stats import Interval, Verdict
from ablation_report.tables.block import noise_warning
from ablation_report.tables.layout import (
    NOTHING,
    Table,
    duration,
    interval_text,
    percent,
    threads_text,
    times,
)

from ..refusal import RefusalGroup
from ..rewrite import Place, RewriteLog

BASELINE = "torch-eager"
_PART_NAMES = {name: name.replace("_", " ") for name in PARTS}


@dataclass(frozen=True)
class ComparedVariant:
    """One way to run the module.

    `status` is ok, incorrect or unsupported, `reason` says why it is not ok; only what is ok has a
    `time_ns`. `ratio` is the time over that of PyTorch eager in the same rounds. `error` is the
    largest error of a result against float64, `limit` what it may be. `parts_ns` has the median
    nanoseconds of each part of profiled calls, and `total`; it is empty without a profile.
    """

    name: str
    printed_name: str
    status: str
    reason: str = ""
    time_ns: Interval | None = None
    ratio: Interval | None = None
    verdict: Verdict | None = None
    error: float | None = None
    limit: float | None = None
    parts_ns: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """The result of `ablation_executor.compare`; `print` shows it as tables.

    `variants` are by name: torch-eager, torch-compile if it was asked for, and default, our tuned
    default. `floor` is the largest distance from 1 of the ratio of a program to itself, `rounds`
    how many were made. `log` has what the passes did, `refused` the calls that export does not
    cover; where there are some, our variant is unsupported and `log` is None.
    """

    module: str
    threads: int
    rounds: int
    floor: float | None
    variants: Mapping[str, ComparedVariant]
    log: RewriteLog | None = None
    refused: Sequence[RefusalGroup] = ()

    @property
    def missed(self) -> list[Place]:
        """The places of the graph where a rewrite was refused, the largest first."""
        return [] if self.log is None else self.log.missed

    def tables(self) -> list[Table]:
        """Return the tables of times and of parts, those that have rows."""
        return [table for table in (self._times(), self._parts()) if table.rows]

    def _times(self) -> Table:
        header = ("Variant", "Time", "time / eager", "95%", "verdict", "error", "allowed")
        rows = [self._line(variant) for variant in self.variants.values()]
        notes = [
            f"{self.rounds} rounds; noise floor {percent(self.floor)}: the difference of a program"
            " from itself",
            "time / eager: below 1 is faster. error: the largest error against float64",
        ]
        notes += [f"{v.printed_name}: {v.reason}" for v in self.variants.values() if v.reason]
        warning = noise_warning(self.floor)
        title = f"{self.module}, {threads_text(self.threads)}"
        return Table(title, header, [("", rows)], notes, [warning] if warning else [])

    @staticmethod
    def _line(variant: ComparedVariant) -> Sequence[str]:
        time, ratio = variant.time_ns, variant.ratio
        return [
            variant.printed_name,
            variant.status if time is None else duration(time.value),
            times(None if ratio is None else ratio.value),
            interval_text(ratio),
            variant.verdict or NOTHING,
            NOTHING if variant.error is None else f"{variant.error:.1e}",
            NOTHING if variant.limit is None else f"{variant.limit:.1e}",
        ]

    def _parts(self) -> Table:
        shown = [variant for variant in self.variants.values() if variant.parts_ns]
        names = [
            name
            for name in (*PARTS, "total")
            if any(variant.parts_ns.get(name) for variant in shown)
        ]
        rows = [
            [
                _PART_NAMES.get(name, name),
                *(duration(variant.parts_ns.get(name)) for variant in shown),
            ]
            for name in names
        ]
        header = ("Part", *(variant.printed_name for variant in shown))
        notes = ["Medians of profiled calls. dispatch: time of a call outside the operations"]
        eager = self.variants[BASELINE]
        if not eager.parts_ns:
            notes.append(f"{eager.printed_name}: no parts, since torch.fx cannot trace the module")
        return Table("Where the time goes", header, [("", rows)], notes)

    def rewrites(self) -> str:
        """Return the refused rewrites, or the calls that export does not cover, a line each."""
        if self.refused:
            calls = [f"  {part.op} ({part.count}): {part.first.why}" for part in self.refused]
            return "\n".join(["Calls that our runtime does not cover:", *calls])
        if not self.missed:
            return "No rewrite was refused"
        lines = str(RewriteLog(places=self.missed)).splitlines()
        return "\n".join(["Refused rewrites:", *(f"  {line}" for line in lines)])

    def __str__(self) -> str:
        return "\n\n".join([*(table.text() for table in self.tables()), self.rewrites()])

    def _repr_markdown_(self) -> str:
        """Return what a notebook shows."""
        tables = [table.markdown() for table in self.tables()]
        return "\n\n".join([*tables, f"```\n{self.rewrites()}\n```"])

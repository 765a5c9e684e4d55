"""Lays out the rows of a run: a table for each config, in the published columns, and a summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ablation_report.escaping import code, csv_text, escape, list_item, visible
from ablation_report.ladder import LEAGUE, NAIVE, SDPA, is_ours, rank
from ablation_report.means import geometric_mean
from ablation_report.metrics import (
    Cell,
    Interval,
    aa_ratios,
    is_different,
    measure,
    median,
    noise_floor,
    paired_ratio,
    verdict,
)

HEADER = (
    "Variant",
    "Total",
    "Attn",
    "LN",
    "Other",
    "Attn%",
    "LN%",
    "vs PT",
    "±",
    "Ops/wall",
    "Noisy",
)
SUMMARY_HEADER = (
    *("Config", "PT naive", "PT SDPA", "Best compiled", "vs naive", "vs SDPA"),
    *("verdict", "A/A floor", "of ceiling", "error / PT's"),
    *("best other", "ours / best other"),
)
LEGEND = (
    "Total: median wall time of a call. Attn, LN, Other: of profiled calls. vs PT: ratio to PT",
    "naive in the same rounds, ~ not resolved from it. ±: half of Total's 95% interval; noisy: the",
    "whole interval is wider than 5%. Ops/wall: profiled over wall time. verdict: best compiled",
    "against PT SDPA, beyond the A/A floor or not at all. of ceiling: the block's FLOPs in that",
    "time, over the multiply-add ceiling that the run measured. error / PT's: its largest error",
    "against float64 over that of PT SDPA. best other: the fastest of PT naive, PT SDPA and the",
    "league; ours / best other: best compiled against it, by rounds. RUNGS: the time of a variant",
    "over its parent's, by rounds; ~ not resolved beyond the A/A floor. geo. mean: over the n",
    "configs that have a time of both.",
)
NOTHING = "-"
# The number of configs that the mean is over stands behind it
MEAN_HEADER = "geo. mean (n)"


@dataclass(frozen=True)
class Table:
    """A title, a header, and rows of text in groups; `notes` follow it, a sentence each."""

    title: str
    header: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Sequence[str]]]]
    notes: Sequence[str] = ()

    @property
    def rows(self) -> list[Sequence[str]]:
        """The rows of all groups."""
        return [row for _, group in self.groups for row in group]

    def text(self) -> str:
        """Lay the table out for a terminal: first column left, the others right."""
        header = list(map(visible, self.header))
        groups = [
            (visible(name), [list(map(visible, row)) for row in group])
            for name, group in self.groups
        ]
        rows = [header, *(row for _, group in groups for row in group)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]

        def line(row: Sequence[str]) -> str:
            cells = [row[0].ljust(widths[0])]
            cells += [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
            return "  ".join(cells).rstrip()

        lines = [visible(self.title), "", line(header)]
        lines.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
        for name, group in groups:
            lines += [f"  {name}"] if name else []
            lines += [line(row) for row in group]
        return "\n".join([*lines, *(["", *map(visible, self.notes)] if self.notes else [])])

    def markdown(self) -> str:
        """Lay the table out as Markdown, the groups' names as rows of their own."""
        width = len(self.header)
        lines = [f"### {escape(self.title)}", "", _markdown_row(map(escape, self.header))]
        lines.append("|---|" + "---:|" * (width - 1))
        for name, group in self.groups:
            lines += [_markdown_row([f"**{escape(name)}**", *[""] * (width - 1)])] if name else []
            lines += [_markdown_row(map(escape, row)) for row in group]
        notes = list(map(list_item, self.notes))
        return "\n".join([*lines, *(["", *notes] if notes else [])])


def config_tables(frame: pl.DataFrame) -> list[Table]:
    """Return one table for each config of one source, in the order in which they were run."""
    return [_config_table(name, cells) for name, cells in _by_config(frame).items()]


def summary_table(frame: pl.DataFrame, ceiling_flops_per_s: float | None = None) -> Table:
    """Return the best compiled variant of each config beside the two PyTorch baselines.

    With the machine's multiply-add ceiling, its share that the best variant reaches.
    """
    configs = _by_config(frame)
    rows = [_summary_row(name, cells, ceiling_flops_per_s) for name, cells in configs.items()]
    title = "SUMMARY: best compiled variant vs PyTorch"
    return Table(title, SUMMARY_HEADER, [("", rows)], _mean_notes(configs))


def _mean_notes(configs: Mapping[str, Sequence[Cell]]) -> list[str]:
    """The geometric mean over configs of each ratio that the summary has; none of one config."""
    if len(configs) < 2:
        return []
    ratios = {config: _best_ratios(cells) for config, cells in configs.items()}
    names = ("vs naive", "vs SDPA", "ours / best other")
    means = {n: geometric_mean({c: _middle(r[n]) for c, r in ratios.items()}) for n in names}
    return [mean.sentence(name) for name, mean in means.items() if mean.value is not None]


def rungs_table(frame: pl.DataFrame) -> Table:
    """Return what each rung is worth: its time over its parent's, with a column for each config.

    With several configs a last column has the geometric mean of the ratios that there are.
    """
    configs = _by_config(frame)
    rungs: dict[str, tuple[str, str]] = {}
    worth: dict[str, dict[str, str]] = {}
    ratios: dict[str, dict[str, float | None]] = {}
    for config, cells in configs.items():
        by_variant = {cell["variant"]: cell for cell in cells}
        floor = noise_floor(cells)
        for cell in cells:
            parent = by_variant.get(cell["parent"] or "")
            if cell["group"] == LEAGUE or parent is None or cell["status"] != "ok":
                continue
            rungs[cell["variant"]] = (cell["printed_name"], parent["printed_name"])
            ratio = paired_ratio(cell, parent)
            worth.setdefault(cell["variant"], {})[config] = _against(ratio, floor)
            ratios.setdefault(cell["variant"], {})[config] = _middle(ratio)
    rows = [
        [*names, *(worth[variant].get(config, NOTHING) for config in configs)]
        for variant, names in rungs.items()
    ]
    header: tuple[str, ...] = ("Rung", "over", *configs)
    if len(configs) > 1:
        header += (MEAN_HEADER,)
        for row, of_rung in zip(rows, ratios.values(), strict=True):
            row.append(geometric_mean(of_rung).text())
    return Table("RUNGS: time over the parent's", header, [("", rows)])


def duration(ns: float | None) -> str:
    """Write nanoseconds with three or four digits in µs, ms or s."""
    if ns is None:
        return NOTHING
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if ns >= size:
            return f"{ns / size:.2f} {unit}"
    return f"{ns / 1e3:.1f} µs"


def facts_text(facts: Mapping[str, str], is_markdown: bool) -> str:
    """Lay out facts by name, a line each; a command in the type of code."""
    if not is_markdown:
        return "\n".join(f"{name + ':':<11}{visible(fact)}" for name, fact in facts.items())
    texts = {name: (code if name == "Command" else escape)(fact) for name, fact in facts.items()}
    return "\n".join(f"- {name}: {text}" for name, text in texts.items())


def frame_csv(frame: pl.DataFrame) -> str:
    """Write a frame as CSV in which no text is a formula to a spreadsheet."""
    texts = pl.col(pl.String).map_elements(csv_text, return_dtype=pl.String)
    return frame.with_columns(texts).write_csv()


def frame_markdown(frame: pl.DataFrame) -> str:
    """Write a frame as a Markdown table, with its own column names; null is "-"."""
    lines = [_markdown_row(frame.columns), "|" + "---|" * len(frame.columns)]
    for row in frame.iter_rows():
        texts = (NOTHING if value is None else escape(str(value)) for value in row)
        lines.append(_markdown_row(texts))
    return "\n".join(lines) + "\n"


def _by_config(frame: pl.DataFrame) -> dict[str, list[Cell]]:
    configs: dict[str, list[Cell]] = {}
    for cell in frame.to_dicts():
        configs.setdefault(cell["config"], []).append(cell)
    for cells in configs.values():
        cells.sort(key=lambda cell: (cell["group"] == LEAGUE, rank(cell["variant"])))
    return configs


def _config_table(config: str, cells: Sequence[Cell]) -> Table:
    first = cells[0]
    title = (
        f"{config}: d_model {first['d_model']}, heads {first['n_heads']}, "
        f"seq_len {first['seq_len']}, batch {first['batch']}"
    )
    groups: dict[str, list[Sequence[str]]] = {}
    notes = []
    for cell, measures in zip(cells, measure(cells).iter_rows(named=True), strict=True):
        groups.setdefault(cell["group"], []).append(_row(cell, measures))
        if cell["status"] != "ok":
            notes.append(f"{cell['printed_name']}: {cell['status']}, {cell['reason']}")
    notes += [*_floor_note(cells), *_drift_note(cells)]
    return Table(title, HEADER, list(groups.items()), notes)


def _row(cell: Cell, measures: Mapping[str, Any]) -> Sequence[str]:
    if cell["status"] != "ok":
        return [cell["printed_name"], cell["status"], *[NOTHING] * (len(HEADER) - 2)]
    return [
        cell["printed_name"],
        duration(measures["total_ns"]),
        duration(measures["attention_ns"]),
        duration(measures["layer_norm_ns"]),
        duration(measures["other_ns"]),
        _percent(measures["attention_share"]),
        _percent(measures["layer_norm_share"]),
        _versus(cell, measures),
        _percent(measures["half_width"]),
        _percent(measures["profile_over_total"], digits=0),
        "noisy" if measures["is_noisy"] else "",
    ]


def _floor_note(cells: Sequence[Cell]) -> list[str]:
    floor = noise_floor(cells)
    if floor is None:
        return []
    pairs = [f"{name} {r.median:.3f} in {r.n} rounds" for name, r in aa_ratios(cells).items()]
    return [f"Noise floor {_percent(floor)}; same program twice: {', '.join(pairs)}"]


def _drift_note(cells: Sequence[Cell]) -> list[str]:
    """Say how the fixed matrix product changed between the start and the end of the config."""
    for cell in cells:
        before, after = cell["calibration_before_ns"], cell["calibration_after_ns"]
        if before and after:
            change = median(after) / median(before) - 1
            return [f"Calibration product {duration(median(before))} before, {change:+.1%} after"]
    return []


def _summary_row(config: str, cells: Sequence[Cell], ceiling: float | None) -> Sequence[str]:
    by_variant = {cell["variant"]: cell for cell in cells}
    times = _median_times(cells)
    best, other = _fastest(cells, times)
    ratios, floor = _best_ratios(cells), noise_floor(cells)
    best_other = NOTHING
    if other is not None:
        best_other = f"{duration(times[other['variant']])} ({other['printed_name']})"
    row = [config, duration(times.get(NAIVE)), duration(times.get(SDPA))]
    if best is None:
        return [*row, *[NOTHING] * (len(SUMMARY_HEADER) - len(row) - 2), best_other, NOTHING]
    sdpa = ratios["vs SDPA"]
    flops_per_s = best["flops"] / times[best["variant"]] * 1e9
    return [
        *row,
        f"{duration(times[best['variant']])} ({best['printed_name']})",
        _times(_middle(ratios["vs naive"])),
        _times(_middle(sdpa)),
        NOTHING if sdpa is None or floor is None else verdict(sdpa, floor),
        _percent(floor),
        _percent(flops_per_s / ceiling if ceiling else None, digits=0),
        _times(error_ratio(best, by_variant.get(SDPA))),
        best_other,
        _against(ratios["ours / best other"], floor),
    ]


def _median_times(cells: Sequence[Cell]) -> dict[str, float]:
    """The median nanoseconds of each variant that has a time."""
    rows = measure(cells).iter_rows(named=True)
    return {row["variant"]: row["total_ns"] for row in rows if row["total_ns"] is not None}


def _fastest(cells: Sequence[Cell], times: Mapping[str, float]) -> tuple[Cell | None, Cell | None]:
    """The compiled variant with the smallest median, and that of the others."""

    def smallest(wanted: Iterable[Cell]) -> Cell | None:
        timed = [cell for cell in wanted if cell["variant"] in times]
        return min(timed, key=lambda cell: times[cell["variant"]], default=None)

    ours = (cell for cell in cells if is_ours(cell["variant"], cell["group"]))
    others = (c for c in cells if c["variant"] in (NAIVE, SDPA) or c["group"] == LEAGUE)
    return smallest(ours), smallest(others)


def _best_ratios(cells: Sequence[Cell]) -> dict[str, Interval | None]:
    """The best compiled variant over each of what the summary sets beside it, by column."""
    by_variant = {cell["variant"]: cell for cell in cells}
    best, other = _fastest(cells, _median_times(cells))
    bases = {
        "vs naive": by_variant.get(NAIVE),
        "vs SDPA": by_variant.get(SDPA),
        "ours / best other": other,
    }
    return {name: paired_ratio(best, base) if best else None for name, base in bases.items()}


def _middle(ratio: Interval | None) -> float | None:
    return ratio.median if ratio else None


def error_ratio(cell: Cell, base: Cell | None) -> float | None:
    """The largest error of a cell over that of another that ran; None where one is not known."""
    if base is None or base["status"] != "ok" or not base["max_abs_error"]:
        return None
    if cell["max_abs_error"] is None:
        return None
    return float(cell["max_abs_error"] / base["max_abs_error"])


def _against(ratio: Interval | None, floor: float | None) -> str:
    """Write a ratio, marked where the run's own noise may account for it."""
    mark = " ~" if ratio is not None and not is_different(verdict(ratio, floor)) else ""
    return _times(ratio.median if ratio else None) + mark


def _versus(cell: Cell, measures: Mapping[str, Any]) -> str:
    """Write the ratio to PT naive, marked where the run's own noise may account for it."""
    said = measures["verdict_vs_baseline"]
    is_unclear = said is not None and not is_different(said) and cell["variant"] != NAIVE
    # A published figure has no noise to be judged by
    mark = " ~" if is_unclear and measures["half_width"] is not None else ""
    return _times(measures["vs_baseline"]) + mark


def _percent(part: float | None, digits: int = 1) -> str:
    if part is None:
        return NOTHING
    return f"{100 * part:.{digits}f}%" if part < 10 else ">999%"


def _times(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}x"


def _markdown_row(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"

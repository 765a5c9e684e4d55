"""The tables of a run, from its rows alone: one per config, then the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from ..variants import LEAGUE, SAME_PROGRAM_PAIRS, VARIANTS
from .configs import CONFIGS
from .run_reading import Row
from .stats import (
    Interval,
    cell_interval,
    is_noisy,
    median,
    noise_floor,
    paired_ratio,
    round_medians,
    verdict,
)
from .terminal import printable

NAIVE, SDPA = "torch-naive", "torch-sdpa"
# Who else computes the block: the best of these is what ours is set against
OTHERS = (NAIVE, SDPA, *(variant.name for variant in LEAGUE))
WIDTH = 100
LEGEND = (
    "Total: median wall time of a call. Attn, LN, Other: of profiled calls. vs PT: ratio to PT",
    "naive in the same rounds, ~ not resolved from it. ±: half of Total's 95% interval; * noisy:",
    "the whole interval is wider than 5%. Ops/wall: profiled over wall time.",
)


def print_time(nanoseconds: float) -> str:
    """Three or four digits and a unit."""
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= scale:
            value = nanoseconds / scale
            digits = 1 if value >= 100 else 2
            return f"{value:.{digits}f} {unit}"
    return f"{nanoseconds:.0f} ns"


def rounds_of(row: Row) -> dict[int, float]:
    """Median time of each round of an ok row."""
    return round_medians(row["samples_ns"], row["sample_rounds"])


def interval_of(row: Row) -> Interval:
    """Median of an ok row with its interval."""
    return cell_interval(row["samples_ns"], row["sample_rounds"])


def ratio_of(row: Row, base: Row) -> Interval | None:
    """Paired ratio of two ok rows; None unless both were measured in the same session."""
    if row["session"] != base["session"]:
        return None
    return paired_ratio(rounds_of(row), rounds_of(base))


class ConfigRows:
    """The rows of one config, by variant, in table order."""

    def __init__(self, name: str, rows: Sequence[Row]) -> None:
        order = {variant.name: index for index, variant in enumerate((*VARIANTS, *LEAGUE))}
        mine = [row for row in rows if row["config"] == name]
        mine.sort(key=lambda row: order.get(row["variant"], len(order)))
        self.name = name
        self.rows = mine
        self.ok = {row["variant"]: row for row in mine if row["status"] == "ok"}

    def floor(self) -> float | None:
        """The A/A floor: the widest of the pairs that are the same program; None without one."""
        floors = [
            noise_floor(ratio_of(self.ok[first], self.ok[second]))
            for first, second in SAME_PROGRAM_PAIRS
            if first in self.ok and second in self.ok
        ]
        known = [floor for floor in floors if floor is not None]
        return max(known) if known else None

    def best(self) -> Row | None:
        """The fastest of the compiled variants."""
        ours = [row for row in self.ok.values() if row["executor"] == "compiled"]
        return min(ours, key=lambda row: interval_of(row).median) if ours else None

    def best_other(self) -> Row | None:
        """The fastest of PyTorch's baselines and the league."""
        others = [self.ok[name] for name in OTHERS if name in self.ok]
        return min(others, key=lambda row: interval_of(row).median) if others else None

    def ratio(self, row: Row | None, base: str) -> Interval | None:
        """Paired ratio to a baseline, if both are there."""
        if row is None or base not in self.ok:
            return None
        return ratio_of(row, self.ok[base])


def _part(row: Row, parts: Sequence[str]) -> float | None:
    """Median over profiled calls of the sum of some parts."""
    lists = [row[f"profile_{part}_ns"] for part in parts]
    if not all(lists):
        return None
    return median([sum(entry) for entry in zip(*lists, strict=True)])


def _flops(count: int) -> str:
    return f"{count / 1e9:.1f} GFLOP" if count >= 1e9 else f"{count / 1e6:.1f} MFLOP"


def _percent(share: float) -> str:
    """A share with one decimal, none from 100% on, and an end where nothing more is to be said."""
    if share >= 10:
        return ">999%"
    return f"{100 * share:.0f}%" if share >= 1 else f"{100 * share:.1f}%"


def _time_cell(value: float | None) -> str:
    return "-" if value is None else print_time(value)


def _ratio_cell(ratio: Interval | None, floor: float | None) -> str:
    if ratio is None:
        return "-"
    mark = "~" if verdict(ratio, floor) == "not resolved" else " "
    return f"{ratio.median:.2f}x{mark}"


def variant_line(config: ConfigRows, row: Row, floor: float | None) -> Text:
    """One line of a config's table."""
    name = f"  {row['printed_name']:<20}"
    if row["status"] != "ok":
        return Text(f"{name}{row['status']:>10}", style="red")
    wall = interval_of(row)
    attention, norm = _part(row, ["attention"]), _part(row, ["layer_norm"])
    other = _part(row, ["linear", "element_wise", "movement", "dispatch"])
    total = _part(row, ["total"])

    def share(part: float | None) -> str:
        return f"{100 * part / total:.0f}%" if part is not None and total else "-"

    ratio = config.ratio(row, NAIVE)
    # The base itself is exactly one, which is not a result.
    versus = "1.00x " if row["variant"] == NAIVE else _ratio_cell(ratio, floor)
    profiled = f"{100 * total / wall.median:.0f}%" if total else "-"
    flag = "*" if is_noisy(wall) else " "
    text = (
        f"{name}{print_time(wall.median):>10}{_time_cell(attention):>10}{_time_cell(norm):>10}"
        f"{_time_cell(other):>10}{share(attention):>6}{share(norm):>6}{versus:>9}"
        f"{_percent(wall.half_width):>6}{flag}{profiled:>9}"
    )
    return Text(text)


def config_lines(config: ConfigRows) -> list[Text]:
    """The table of one config."""
    first = config.rows[0]
    title = (
        f"{config.name}  d_model {first['d_model']}, {first['n_heads']} heads, "
        f"seq_len {first['seq_len']}, {first['threads']} threads, {_flops(first['flops'])}"
    )
    header = (
        f"  {'Variant':<20}{'Total':>10}{'Attn':>10}{'LN':>10}{'Other':>10}{'Attn%':>6}{'LN%':>6}"
        f"{'vs PT':>8} {'±':>6} {'Ops/wall':>9}"
    )
    lines = [Text(title, style="bold"), Text(header, style="bold"), Text("-" * len(header))]
    floor = config.floor()
    group = ""
    for row in config.rows:
        if row["group"] != group:
            group = row["group"]
            lines.append(Text(group, style="cyan"))
        lines.append(variant_line(config, row, floor))
    told = "not measured" if floor is None else _percent(floor)
    notes = [f"A/A floor {told}"]
    for row in config.ok.values():
        before, after = row["calibration_before_ns"], row["calibration_after_ns"]
        if before and after:
            drift = median(after) / median(before) - 1
            notes.append(f"calibration matmul {print_time(median(before))}, {drift:+.1%} after")
            break
    lines.append(Text("; ".join(notes)))
    for row in config.rows:
        if row["status"] != "ok":
            reason = f"{row['printed_name']}: {row['status']}: {row['reason']}"
            lines += [Text(line, style="red") for line in wrap(reason, WIDTH - 1)]
    return lines


def summary_lines(configs: Sequence[ConfigRows]) -> list[Text]:
    """The summary: the best compiled variant against both baselines, per config."""
    header = (
        f"{'Config':<8}{'PT naive':>10}{'PT SDPA':>10}  {'Best compiled':<21}{'Total':>10}"
        f"{'vs naive':>9}{'vs SDPA':>8}  {'verdict':<13}{'floor':>6}"
    )
    lines = [Text("SUMMARY", style="bold"), Text(header, style="bold"), Text("-" * len(header))]
    for config in configs:
        best = config.best()
        floor = config.floor()

        def total(row: Row | None) -> str:
            return "-" if row is None else print_time(interval_of(row).median)

        naive, sdpa = config.ratio(best, NAIVE), config.ratio(best, SDPA)
        name = best["printed_name"] if best else "-"
        baselines = f"{total(config.ok.get(NAIVE)):>10}{total(config.ok.get(SDPA)):>10}"
        word = verdict(sdpa, floor) if sdpa is not None else "not measured"
        ratio_naive, ratio_sdpa = (f"{r.median:.2f}x" if r else "-" for r in (naive, sdpa))
        told = "-" if floor is None else _percent(floor)
        style = {"faster": "green", "slower": "red"}.get(word, "")
        lines.append(
            Text(
                f"{config.name:<8}{baselines}  {name:<21}{total(best):>10}{ratio_naive:>9}"
                f"{ratio_sdpa:>8}  {word:<13}{told:>6}",
                style=style,
            )
        )
    lines.append(Text("verdict: best compiled against PT SDPA, beyond the A/A floor or not at all"))
    lines += [Text(""), *other_lines(configs)]
    statuses = Counter(row["status"] for config in configs for row in config.rows)
    told_statuses = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    noisy = sum(is_noisy(interval_of(row)) for config in configs for row in config.ok.values())
    lines.append(Text(f"cells: {told_statuses}; noisy: {noisy}"))
    return lines


def other_lines(configs: Sequence[ConfigRows]) -> list[Text]:
    """The summary's second half: the best compiled variant against the best that is not ours."""
    header = (
        f"{'Config':<8}  {'Best compiled':<21}{'Total':>10}  {'Best other':<21}{'Total':>10}"
        f"  {'ours / best other':>17}"
    )
    lines = [Text(header, style="bold"), Text("-" * len(header))]
    for config in configs:
        best, other = config.best(), config.best_other()
        ratio = config.ratio(best, other["variant"]) if other is not None else None
        cells = "".join(
            f"  {row['printed_name']:<21}{print_time(interval_of(row).median):>10}"
            if row is not None
            else f"  {'-':<21}{'-':>10}"
            for row in (best, other)
        )
        told = _ratio_cell(ratio, config.floor())
        style = {"faster": "green", "slower": "red"}.get(verdict(ratio, config.floor()), "")
        lines.append(Text(f"{config.name:<8}{cells}  {told:>17}", style=style))
    lines.append(
        Text("other: PT naive, PT SDPA and the league; ~ not resolved beyond the A/A floor")
    )
    return lines


def run_lines(rows: Sequence[Row]) -> list[Text]:
    """Every table of a run; empty without rows."""
    present = {row["config"] for row in rows}
    configs = [ConfigRows(config.name, rows) for config in CONFIGS if config.name in present]
    lines: list[Text] = []
    for config in configs:
        lines += [*config_lines(config), Text("")]
    if configs:
        lines += [Text(line, style="dim") for line in LEGEND]
        lines += [Text(""), *summary_lines(configs)]
    return lines


def print_run(rows: Sequence[Row], console: Console) -> None:
    """Print every table of a run."""
    for line in run_lines(rows):
        # Names and reasons of a run that is gone on with may be anybody's
        line.plain = printable(line.plain)
        console.print(line, soft_wrap=True, highlight=False)

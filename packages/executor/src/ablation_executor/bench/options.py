"""The command line: what may be asked for, and what is refused with the accepted range."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablation_kernels.limits import MAX_THREADS, affinity_processors, default_threads

from ..variants import LARGE_VARIANTS, LEAGUE, LEAGUE_SELECTION, VARIANTS
from .baselines import BASELINE_NAMES, missing_reason
from .cells import Settings, printed_name
from .configs import CONFIGS, QUICK_CONFIGS, Config, UsageError, resolve_names

DEFAULT_SAMPLES = 10
DEFAULT_BUDGET_S = 300.0
WARM_UP, WARM_UP_LONG, WARM_UP_QUICK = 5, 3, 3
MAX_SAMPLES = 10_000
MAX_BUDGET_S = 24 * 3600.0
MAX_SEED = 2**32 - 1
MIN_MEMORY_BYTES, MAX_MEMORY_BYTES = 1 << 20, 1 << 50
UNITS = {"": 0, "b": 0, "kib": 10, "mib": 20, "gib": 30, "tib": 40}

VARIANT_NAMES = [variant.name for variant in VARIANTS]
CONFIG_NAMES = [config.name for config in CONFIGS]


def max_threads() -> int:
    """Threads that may be asked for: the machine's cores, at most what the kernels take."""
    return min(MAX_THREADS, max(os.cpu_count() or 1, affinity_processors()))


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A parser of integers in [low, high]."""

    def parse(text: str) -> int:
        accepted = f"accepted: a whole number from {low} to {high}"
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number; {accepted}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is out of range; {accepted}")
        return value

    return parse


def seconds(text: str) -> float:
    """A parser of budgets."""
    accepted = f"accepted: seconds from 1 to {MAX_BUDGET_S:g}"
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; {accepted}") from None
    if not 1 <= value <= MAX_BUDGET_S:
        raise argparse.ArgumentTypeError(f"{text} is out of range; {accepted}")
    return value


def memory_size(text: str) -> int:
    """A parser of sizes such as 8GiB or 512MiB; plain numbers are bytes."""
    accepted = "accepted: 1MiB to 1024TiB, as in 8GiB, 512MiB or a number of bytes"
    number = text.strip().lower().rstrip("bikmgt")
    unit = text.strip().lower()[len(number) :]
    try:
        value = int(float(number) * 2 ** UNITS[unit.replace("gb", "gib").replace("mb", "mib")])
    except (ValueError, KeyError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; {accepted}") from None
    if not MIN_MEMORY_BYTES <= value <= MAX_MEMORY_BYTES:
        raise argparse.ArgumentTypeError(f"{text} is out of range; {accepted}")
    return value


def make_parser() -> argparse.ArgumentParser:
    """The argument parser of ablation-bench."""
    parser = argparse.ArgumentParser(
        prog="ablation-bench",
        allow_abbrev=False,
        description="Measure a transformer block under every variant of the ablation ladder, "
        "each checked against a float64 reference before it is timed.",
        epilog="Names are taken without regard to case; --list prints them. Other suites: --suite "
        "attention-sweep, lm-step, attention-backward or attention-parts, each with --help.",
    )
    add = parser.add_argument
    add("--configs", metavar="A,B", help="model sizes (default: all nine)")
    add("--skip-large", action="store_true", help="leave out sizes with seq_len of 4096 and more")
    add(
        "--variants",
        metavar="A,B",
        help="variants, or league for those that its table compares "
        f"(default: all {len(VARIANTS)}, {len(LARGE_VARIANTS)} for d_model >= 2048)",
    )
    add(
        "--baselines",
        metavar="A,B",
        help="runtimes of the league to run beside, all or none (default: all; one that is not "
        "installed tells how)",
    )
    add("--all-variants", action="store_true", help="all variants for large sizes too")
    cores = max_threads()
    threads = whole_number(1, cores)
    usual = "all that affinity mask and quota allow"
    add("--threads", type=threads, metavar="N", help=f"threads of each runtime (default: {usual})")
    samples = whole_number(3, MAX_SAMPLES)
    add("--samples", type=samples, metavar="N", help=f"rounds at least ({DEFAULT_SAMPLES})")
    add(
        "--budget",
        type=seconds,
        metavar="S",
        help=f"seconds that one cell may use ({DEFAULT_BUDGET_S:g})",
    )
    add("--quick", action="store_true", help="the four small sizes, few warm-ups, no extra rounds")
    add("--seed", type=whole_number(0, MAX_SEED), metavar="N", help="of weights and order (0)")
    add("--out", type=Path, metavar="DIR", help="the run's folder (default: data/runs/<time>-<id>)")
    add("--resume", type=Path, metavar="RUN", help="go on with a run that was cut short")
    add("--mem-limit", type=memory_size, metavar="SIZE", help="memory of a config's cells: 8GiB")
    add("--list", action="store_true", help="print configs and variants, and end")
    add("--no-color", action="store_true", help="no colors")
    return parser


@dataclass(frozen=True)
class Request:
    """A checked request for a new run; `variants` None means the default of each config."""

    configs: list[str]
    variants: list[str] | None
    baselines: list[str]
    settings: Settings


def split_names(text: str) -> list[str]:
    """The names of a comma-separated list."""
    return [name for name in (part.strip() for part in text.split(",")) if name]


def chosen_configs(options: argparse.Namespace) -> list[str]:
    """Config names of a request; UsageError for unknown ones, or when none is left."""
    if options.configs is not None:
        names = resolve_names("config", split_names(options.configs), CONFIG_NAMES)
    else:
        names = list(QUICK_CONFIGS if options.quick else CONFIG_NAMES)
    if options.skip_large:
        long = {config.name for config in CONFIGS if config.is_long}
        names = [name for name in names if name not in long]
        if not names:
            raise UsageError("--skip-large leaves none of the named configs")
    return names


def chosen_variants(options: argparse.Namespace) -> list[str] | None:
    """Variant names of a request; None for each config's default."""
    if options.variants is not None and options.all_variants:
        raise UsageError("--variants and --all-variants exclude each other")
    if options.variants is not None:
        if options.variants.strip().lower() == "league":
            return list(LEAGUE_SELECTION)
        return resolve_names("variant", split_names(options.variants), VARIANT_NAMES)
    return VARIANT_NAMES if options.all_variants else None


def chosen_baselines(options: argparse.Namespace) -> list[str]:
    """Names of the league's runtimes that run beside the variants: all without the option."""
    given = "all" if options.baselines is None else options.baselines.strip().lower()
    if given in ("all", "none"):
        return list(BASELINE_NAMES) if given == "all" else []
    return resolve_names("baseline", split_names(given), BASELINE_NAMES)


def make_settings(
    threads: int, seed: int, samples: int, budget_s: float, is_quick: bool, memory: int | None
) -> Settings:
    """Settings of a run; a quick one warms up less and never extends."""
    warm_up = WARM_UP_QUICK if is_quick else WARM_UP
    warm_up_long = min(warm_up, WARM_UP_LONG)
    return Settings(threads, seed, samples, budget_s, warm_up, warm_up_long, not is_quick, memory)


def make_request(options: argparse.Namespace) -> Request:
    """The request of a new run, with defaults filled in."""
    settings = make_settings(
        options.threads or default_threads(),
        options.seed or 0,
        options.samples or DEFAULT_SAMPLES,
        options.budget or DEFAULT_BUDGET_S,
        options.quick,
        options.mem_limit,
    )
    return Request(
        chosen_configs(options), chosen_variants(options), chosen_baselines(options), settings
    )


def refuse_with_resume(options: argparse.Namespace) -> None:
    """A resumed run keeps its own settings: UsageError for options that would change them."""
    fixed = ("configs", "variants", "baselines", "threads", "samples", "budget", "seed", "out")
    switches = ("skip_large", "all_variants", "quick")
    given = [name for name in fixed if getattr(options, name) is not None]
    given += [name for name in switches if getattr(options, name)]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"--resume goes on with the run's own settings; leave out {names}")


def variants_of(config: Config, names: Sequence[str] | None) -> list[str]:
    """The variants that run at a config."""
    if names is not None:
        return list(names)
    return [name for name in VARIANT_NAMES if not config.is_large or name in LARGE_VARIANTS]


def listing() -> str:
    """What --list prints."""
    lines = ["configs", "  name     d_model  heads  seq_len   GFLOP  variants"]
    for config in CONFIGS:
        count = len(variants_of(config, None))
        lines.append(
            f"  {config.name:<8} {config.d_model:>7} {config.n_heads:>6} {config.seq_len:>8} "
            f"{config.flops / 1e9:>7.4g} {count:>9}"
        )
    lines.append("variants")
    group = ""
    for variant in (*VARIANTS, *LEAGUE):
        if variant.group != group:
            group = variant.group
            lines.append(f"  {group}")
        if variant.parent is None:
            origin = "-"
        else:
            origin = f"{variant.parent}, other {variant.changed.replace('_', ' ')}"
        lines.append(f"    {variant.name:<26} {printed_name(variant):<22} {origin}")
        missing = missing_reason(variant.runtime)
        lines += [f"      {missing}"] if missing else []
    return "\n".join(lines)

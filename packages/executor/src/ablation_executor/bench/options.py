"""The command line, one for every suite: its options, and errors that name what is accepted."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation_kernels.limits import MAX_THREADS, affinity_processors, default_threads
from ablation_report.rows import DEVICES

from .. import __version__
from .case import Case, is_custom, parse_custom
from .interrupt import UsageError
from .names import one_name, resolve_names, split_names
from .suite import Suite
from .suites import DEFAULT, IMPLIED, SUITES, find_suite

PROGRAM = "ablation-bench"
ALL = "all"
BUDGET_S, BUDGET_QUICK_S = 300.0, 30.0
TIME_S, TIME_QUICK_S = 900.0, 60.0
MAX_SAMPLES = 10_000
MAX_SECONDS = 24 * 3600.0
MAX_SEED = 2**32 - 1
MIN_MEMORY_BYTES, MAX_MEMORY_BYTES = 1 << 20, 1 << 50
UNITS = {"": 0, "b": 0, "kib": 10, "mib": 20, "gib": 30, "tib": 40}
HELP_WIDTH = 78
EXAMPLES = """\
examples, with minutes on two cores:
  ablation-bench --configs Toy,Small --quick      a first run (1)
  ablation-bench --suite attribution --quick      worth of each optimization (2)
  ablation-bench --suite attention-sweep --quick  attention over lengths (3)
  ablation-bench --suite lm-step --quick          a training step (2)
  ablation-bench --configs Toy,Small,Medium,GPT-2 the ladder with verdicts (15)
  ablation-bench --resume data/runs/RUN           continue an interrupted run

Names are not case-sensitive; --list shows tiers and variants.
Rows go into data/runs; ablation-report show latest prints the newest run."""
# Words of a command after which every case has all variants that were named.
NAMING = ("--variants", "--impls", "--all-variants")


def max_threads() -> int:
    """Return the most threads that are accepted: the machine's cores, and no more than the kernels
    take."""
    return min(MAX_THREADS, max(os.cpu_count() or 1, affinity_processors()))


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Make a parser of integers in [low, high]."""

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


def thread_counts(text: str) -> list[int]:
    """Parse a comma-separated list of numbers of threads."""
    parse = whole_number(1, max_threads())
    found = list(dict.fromkeys(parse(part) for part in split_names(text)))
    if not found:
        accepted = f"accepted: thread counts from 1 to {max_threads()}, as in 1,2"
        raise argparse.ArgumentTypeError(f"{text!r} is empty; {accepted}")
    return found


def seconds(text: str) -> float:
    """Parse a number of seconds."""
    accepted = f"accepted: seconds from 1 to {MAX_SECONDS:g}"
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; {accepted}") from None
    if not 1 <= value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is out of range; {accepted}")
    return value


def memory_size(text: str) -> int:
    """Parse a size such as 8GiB or 512MiB; plain numbers are bytes."""
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


def find_named_suite(arguments: Sequence[str]) -> Suite:
    """Return the suite that the words of a command name, by `--suite` or by an option that only one
    has, the block if none; UsageError for an unknown one."""
    parser = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False, add_help=False)
    parser.add_argument("--suite")
    for option in IMPLIED:
        kind: dict[str, Any] = {"action": "store_true"} if option.startswith("list") else {}
        parser.add_argument(f"--{option.replace('_', '-')}", **kind)
    named, _ = parser.parse_known_args(arguments)
    implied = next((suite for option, suite in IMPLIED.items() if getattr(named, option)), DEFAULT)
    return find_suite(one_name("suite", named.suite or implied, list(SUITES)))


class _Parser(argparse.ArgumentParser):
    """A parser whose help lists the suites, which are imported for it alone."""

    def format_help(self) -> str:
        """Return the help with all suites and examples."""
        indent = max(map(len, SUITES)) + 4
        suites = [
            textwrap.fill(
                find_suite(name).what,
                HELP_WIDTH,
                initial_indent=f"  {name}".ljust(indent),
                subsequent_indent=" " * indent,
            )
            for name in SUITES
        ]
        listed = "\n".join(["suites (--suite NAME --help lists the options of each):", *suites])
        self.epilog = f"{listed}\n\n{EXAMPLES}"
        return super().format_help()


def make_parser(suite: Suite) -> argparse.ArgumentParser:
    """Make the argument parser of ablation-bench, with the options of a suite."""
    parser = _Parser(
        prog=PROGRAM,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=textwrap.fill(
            "Measure a suite. Every variant is checked against a float64 reference before it is "
            f"timed. These are the options of the suite {suite.name}: {suite.what}.",
            HELP_WIDTH,
        ),
    )
    add = parser.add_argument
    version = f"{PROGRAM} {__version__}"
    add("--version", action="version", version=version)
    add("--suite", metavar="NAME", help=f"suite to measure, listed below (default: {DEFAULT})")
    add("--device", metavar="NAME", help=f"{' or '.join(DEVICES)} (default: {DEVICES[0]})")
    tiers = "tiers, all, or sizes as Q:K[:head_dim[:heads[:batch]]]; --list marks the defaults"
    add("--tiers", metavar="A,B", help=tiers)
    cases = "keep cases whose label has all these words, as in 'size=large autocast=none'"
    add("--cases", metavar="A,B", help=f"{cases} (default: all cases of the tiers)")
    suite.add_options(parser)
    add("--variants", "--impls", metavar="A,B", help="variants to measure; --list shows them")
    threads = "thread counts, as in 1,2 (default: all that affinity mask and quota allow)"
    add("--threads", type=thread_counts, metavar="A,B", help=threads)
    samples = "least number of rounds (default: as many as --time allows)"
    add("--samples", type=whole_number(3, MAX_SAMPLES), metavar="N", help=samples)
    budget = f"most seconds for a row (default: {BUDGET_S:g}, with --quick {BUDGET_QUICK_S:g})"
    add("--budget", type=seconds, metavar="S", help=budget)
    times = f"default: {TIME_S:g}, with --quick {TIME_QUICK_S:g}"
    time = f"seconds for the rounds of a case ({times})"
    add("--time", type=seconds, metavar="S", help=time)
    add("--quick", action="store_true", help="fewer cases and warm-up calls, no extra rounds")
    add(
        "--mem-limit",
        type=memory_size,
        metavar="SIZE",
        help="most memory for the programs of a case, as in 8GiB",
    )
    attempt = "run programs, too, that are predicted not to fit into memory"
    add("--force-attempt", action="store_true", help=attempt)
    add(
        "--seed",
        type=whole_number(0, MAX_SEED),
        metavar="N",
        help="seed of inputs and order (default: 0)",
    )
    add(
        "--out", type=Path, metavar="DIR", help="folder of the run (default: data/runs/<time>-<id>)"
    )
    add("--resume", type=Path, metavar="RUN", help="continue an interrupted run")
    listed = "list tiers and variants, or the cases that the other options select, and exit"
    add("--list", action="store_true", help=listed)
    add("--no-color", action="store_true", help="print without colors")
    return parser


@dataclass(frozen=True)
class Request:
    """A checked request for a run of one suite; `names_all` is True where every case has all of the
    named variants, not only its usual ones."""

    suite: Suite
    device: str
    tiers: list[str]
    threads: list[int]
    cases: list[Case]
    variants: list[str]
    seed: int
    is_quick: bool
    samples: int | None
    budget_s: float
    time_s: float
    memory_limit_bytes: int | None
    forces_attempt: bool


def names_all(words: Sequence[str]) -> bool:
    """True for a command in which every case has all of the named variants."""
    return any(word.partition("=")[0] in NAMING for word in words)


def variants_of(suite: Suite, case: Case, names: Sequence[str], is_all: bool) -> list[str]:
    """Return the names of a run that run in a case."""
    usual = set(names if is_all else suite.usual_variants(case))
    return [name for name in names if name in usual]


def chosen_cases(
    suite: Suite, options: argparse.Namespace, threads: Sequence[int]
) -> tuple[list[str], list[Case]]:
    """Return the tiers of a request, and their cases.

    A quick run has its own selection, of which named tiers keep their part. UsageError for an
    unknown tier, or for sizes that the suite does not take.
    """
    device, text = options.device, options.tiers
    if text is None:
        given = list(suite.tiers if options.quick else suite.default_tiers(device))
    else:
        given = list(suite.tiers) if text.casefold() == ALL else split_names(text)
    names = [name for name in given if not is_custom(name)]
    known = resolve_names("tier", names, list(suite.tiers)) if names else []
    quick = suite.quick_cases(threads, device) if options.quick else []
    tiers, cases = list(known), [case for case in quick if case.tier in known]
    if not options.quick:
        cases = [case for name in known for case in suite.cases(name, threads, device)]
    elif known and not cases:
        have = ", ".join(dict.fromkeys(case.tier for case in quick))
        raise UsageError(f"--quick has no case of {', '.join(known)}; it has cases of: {have}")
    for name in given:
        if is_custom(name):
            tier, found = _custom(suite, name, threads, device)
            tiers.append(tier)
            cases += found
    if not cases:
        raise UsageError(f"--tiers is empty\nvalid tiers: {', '.join(suite.tiers)}")
    cases = suite.chosen_cases(options, list(dict.fromkeys(cases)), threads)
    if options.cases is not None:
        cases = labelled_cases(cases, options.cases)
    return [name for name in tiers if any(case.tier == name for case in cases)], cases


def _custom(suite: Suite, text: str, threads: Sequence[int], device: str) -> tuple[str, list[Case]]:
    try:
        custom = parse_custom(text)
    except ValueError as error:
        raise UsageError(f"argument --tiers: {error}") from None
    found = suite.custom_cases(custom, threads, device)
    if found is None:
        valid = ", ".join(suite.tiers)
        raise UsageError(f"{suite.name} takes no sizes, got {text!r}\nvalid tiers: {valid}")
    return custom.name, found


def labelled_cases(cases: Sequence[Case], text: str) -> list[Case]:
    """Return those of the cases whose label has every word of one of the comma-separated parts, in
    the order of the parts; UsageError for a part that fits none."""
    found: dict[Case, None] = {}
    for part in split_names(text):
        words = set(part.casefold().split())
        fitting = [case for case in cases if words <= set(case.label.casefold().split())]
        if not fitting:
            listed = " ".join(dict.fromkeys(word for case in cases for word in case.label.split()))
            raise UsageError(f"--cases: no case has all of {part!r}\nwords of the cases: {listed}")
        found.update(dict.fromkeys(fitting))
    if not found:
        raise UsageError("--cases is empty; accepted: words of the labels that --list shows")
    return list(found)


def make_request(suite: Suite, options: argparse.Namespace, is_all: bool) -> Request:
    """Make the request of a new run, with defaults filled in; UsageError for what it cannot be."""
    options.device = one_name("device", options.device or DEVICES[0], list(suite.devices))
    threads = options.threads or [default_threads()]
    tiers, cases = chosen_cases(suite, options, threads)
    given = None if options.variants is None else split_names(options.variants)
    names = suite.chosen_variants(options, given)
    used = {name for case in cases for name in variants_of(suite, case, names, is_all)}
    budget_s, time_s = (BUDGET_QUICK_S, TIME_QUICK_S) if options.quick else (BUDGET_S, TIME_S)
    return Request(
        suite,
        options.device,
        tiers,
        threads,
        cases,
        [name for name in names if name in used],
        options.seed or 0,
        options.quick,
        options.samples,
        options.budget or budget_s,
        options.time or time_s,
        options.mem_limit,
        options.force_attempt,
    )


def refuse_with_resume(suite: Suite, options: argparse.Namespace) -> None:
    """A resumed run keeps its own settings: UsageError for options that would change them."""
    kept = ("suite", "resume", "mem_limit", "no_color", "list")
    usual = vars(make_parser(suite).parse_args([]))
    given = [
        name
        for name, value in vars(options).items()
        if name not in kept and value != usual.get(name)
    ]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"--resume keeps the settings of the run; leave out {names}")


def listing(suite: Suite, options: argparse.Namespace, is_all: bool) -> str:
    """Return what --list prints: the labels of the cases where some were asked for, or what the
    suite has."""
    usual = make_parser(suite).parse_args([])
    choosing = ("tiers", "cases", "quick", *suite.case_options)
    if any(getattr(options, name) != getattr(usual, name) for name in choosing):
        return "\n".join(case.label for case in make_request(suite, options, is_all).cases)
    device = one_name("device", options.device or DEVICES[0], list(suite.devices))
    threads = [default_threads()]
    lines = [f"{suite.name}: {suite.what}", f"suites: {', '.join(SUITES)}", "tiers"]
    starred = suite.default_tiers(device)
    for name, what in suite.tiers.items():
        count, mark = len(suite.cases(name, threads, device)), "*" if name in starred else " "
        lines.append(f"{mark} {name:<12} {count:>4} cases  {what}")
    quick = len(suite.quick_cases(threads, device))
    lines += [f"  --quick      {quick:>4} cases", "* measured by default"]
    lines += [*suite.case_lines(), "variants"]
    group: str | None = None
    for variant in suite.variants(device):
        if variant.group != group:
            group = variant.group
            lines += [f"  {group}"]
        published = f" (published as {variant.published_name})" if variant.published_name else ""
        lines.append(f"    {variant.name:<30} {variant.what or variant.printed_name}{published}")
    return "\n".join(lines)

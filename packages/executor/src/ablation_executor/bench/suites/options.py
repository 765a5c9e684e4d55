"""The command line of the suites: what may be asked for, and what is refused with what is
accepted."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablation_kernels.limits import default_threads

from ..configs import UsageError, resolve_names
from ..options import MAX_SEED, max_threads, memory_size, seconds, split_names, whole_number
from .case import DEVICES, Case, is_custom, parse_custom
from .suite import SUITES, Implementation, Suite, find_suite
from .trial import FULL_BUDGET_S, QUICK_BUDGET_S

PROGRAM = "ablation-bench"
ALL = "all"


def make_parser() -> argparse.ArgumentParser:
    """The argument parser of `ablation-bench --suite`."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Measure a suite: every implementation is checked against a float64 reference "
        "before it is timed, in a process of its own. Without --suite: the block ablation.",
        epilog="Names are taken without regard to case; --suite NAME --list prints them.",
    )
    add = parser.add_argument
    add("--suite", required=True, metavar="NAME", help=", ".join(SUITES))
    add("--quick", action="store_true", help="a selection of under three minutes on two cores")
    add("--device", metavar="NAME", help=f"{' or '.join(DEVICES)} ({DEVICES[0]})")
    tiers = "tiers, all, or sizes as Q:K[:head_dim[:heads[:batch]]] (default: see --list)"
    add("--tiers", metavar="A,B", help=tiers)
    cases = "cases with all these words in their label, in this order: 'size=large autocast=none'"
    add("--cases", metavar="A,B", help=f"{cases} (default: all of the tiers)")
    add("--impls", metavar="A,B", help="implementations (default: all)")
    usual = "all that affinity mask and quota allow"
    add("--threads", metavar="A,B", help=f"numbers of threads (default: {usual})")
    add("--mem-limit", type=memory_size, metavar="SIZE", help="memory of one implementation: 8GiB")
    attempt = "run what is predicted not to fit into memory, too"
    add("--force-attempt", action="store_true", help=attempt)
    add(
        "--budget",
        type=seconds,
        metavar="S",
        help=f"seconds of a row ({FULL_BUDGET_S:g}, quick {QUICK_BUDGET_S:g})",
    )
    add("--seed", type=whole_number(0, MAX_SEED), metavar="N", help="of inputs and order (0)")
    add("--out", type=Path, metavar="DIR", help="the run's folder (default: data/runs/<time>-<id>)")
    add("--resume", type=Path, metavar="RUN", help="go on with a run that was cut short")
    listed = "print tiers and implementations, or the cases that --tiers, --cases, --quick choose"
    add("--list", action="store_true", help=listed)
    return parser


@dataclass(frozen=True)
class Request:
    """A checked request for a run of one suite."""

    suite: Suite
    device: str
    tiers: list[str]
    threads: list[int]
    cases: list[Case]
    ways: list[Implementation]
    seed: int
    is_quick: bool
    budget_s: float
    memory_limit_bytes: int | None
    forces_attempt: bool


def chosen_suite(name: str) -> Suite:
    """The suite of a name; UsageError for an unknown one."""
    return find_suite(one_name("suite", name, list(SUITES)))


def one_name(what: str, given: str, valid: Sequence[str]) -> str:
    """The valid spelling of a name; UsageError for an unknown one, or for several."""
    names = resolve_names(what, split_names(given), valid)
    if len(names) > 1:
        listed = ", ".join(valid)
        raise UsageError(f"--{what} takes one name, got {given!r}\nvalid {what}s: {listed}")
    return names[0]


def chosen_device(suite: Suite, text: str | None) -> str:
    """The device of a request, the CPU if none is named; UsageError for an unknown one."""
    return one_name("device", text or DEVICES[0], list(suite.devices))


def chosen_threads(text: str | None) -> list[int]:
    """The numbers of threads of a request; UsageError for what is none."""
    if text is None:
        return [default_threads()]
    parse = whole_number(1, max_threads())
    try:
        return list(dict.fromkeys(parse(part) for part in split_names(text))) or [default_threads()]
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"argument --threads: {error}") from None


def chosen_cases(
    suite: Suite, text: str | None, is_quick: bool, threads: Sequence[int], device: str
) -> tuple[list[str], list[Case]]:
    """The tiers of a request, and their cases.

    A quick run has its own selection, of which named tiers keep their part. UsageError for an
    unknown tier, or for sizes that the suite does not take.
    """
    if text is None:
        given = list(suite.tiers if is_quick else suite.default_tiers(device))
    else:
        given = list(suite.tiers) if text.casefold() == ALL else split_names(text)
    names = [name for name in given if not is_custom(name)]
    quick = suite.quick_cases(threads, device) if is_quick else []
    known = resolve_tiers(suite, names) if names else []
    tiers, cases = list(known), [case for case in quick if case.tier in known]
    if not is_quick:
        cases = [case for name in known for case in suite.cases(name, threads, device)]
    elif known and not cases:
        have = ", ".join(dict.fromkeys(case.tier for case in quick))
        raise UsageError(f"--quick takes no case of {', '.join(known)}; it has cases of: {have}")
    for name in given:
        if is_custom(name):
            try:
                custom = parse_custom(name)
            except ValueError as error:
                raise UsageError(f"argument --tiers: {error}") from None
            found = suite.custom_cases(custom, threads, device)
            if found is None:
                valid = ", ".join(suite.tiers)
                raise UsageError(f"{suite.name} takes no sizes, got {name!r}\nvalid tiers: {valid}")
            tiers.append(custom.name)
            cases += found
    if not cases:
        raise UsageError(f"no tier named\nvalid tiers: {', '.join(suite.tiers)}")
    return tiers, list(dict.fromkeys(cases))


def labelled_cases(cases: Sequence[Case], text: str) -> list[Case]:
    """Those of the cases whose label has every word of one of the comma-separated parts, in the
    order of the parts; UsageError for a part that fits none."""
    found: dict[Case, None] = {}
    for part in split_names(text):
        words = set(part.casefold().split())
        fitting = [case for case in cases if words <= set(case.label.casefold().split())]
        if not fitting:
            listed = " ".join(dict.fromkeys(word for case in cases for word in case.label.split()))
            raise UsageError(f"--cases: no case has all of {part!r}\nwords of the cases: {listed}")
        found.update(dict.fromkeys(fitting))
    if not found:
        raise UsageError("--cases names no words")
    return list(found)


def resolve_tiers(suite: Suite, names: Sequence[str]) -> list[str]:
    """The tiers of these names; UsageError for an unknown one."""
    return resolve_names("tier", names, list(suite.tiers))


def chosen_implementations(suite: Suite, text: str | None, device: str) -> list[Implementation]:
    """The implementations of a request; published names are taken too. UsageError for unknown
    ones."""
    ways = suite.implementations(device)
    if text is None:
        return list(ways)
    published = {way.published_name: way.name for way in ways if way.published_name}
    given = [published.get(name, name) for name in split_names(text)]
    names = resolve_names("impl", given, [way.name for way in ways])
    return [way for way in ways if way.name in names]


def make_request(options: argparse.Namespace) -> Request:
    """The request of a new run, with defaults filled in; UsageError for what it cannot be."""
    suite = chosen_suite(options.suite)
    device = chosen_device(suite, options.device)
    threads = chosen_threads(options.threads)
    tiers, cases = chosen_cases(suite, options.tiers, options.quick, threads, device)
    if options.cases is not None:
        cases = labelled_cases(cases, options.cases)
        tiers = [name for name in tiers if any(case.tier == name for case in cases)]
    return Request(
        suite,
        device,
        tiers,
        threads,
        cases,
        chosen_implementations(suite, options.impls, device),
        options.seed or 0,
        options.quick,
        options.budget or (QUICK_BUDGET_S if options.quick else FULL_BUDGET_S),
        options.mem_limit,
        options.force_attempt,
    )


def refuse_with_resume(options: argparse.Namespace) -> None:
    """A resumed run keeps its own settings: UsageError for options that would change them."""
    fixed = ("device", "tiers", "cases", "impls", "threads", "budget", "seed", "out", "mem_limit")
    given = [name for name in fixed if getattr(options, name) is not None]
    given += [name for name in ("quick", "force_attempt") if getattr(options, name)]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"--resume goes on with the run's own settings; leave out {names}")


def listing(options: argparse.Namespace) -> str:
    """What --list prints: the labels of the cases where some were asked for, or what the suite
    has."""
    if any((options.tiers, options.cases, options.quick)):
        return "\n".join(case.label for case in make_request(options).cases)
    suite = chosen_suite(options.suite)
    device = chosen_device(suite, options.device)
    threads = [default_threads()]
    quick = len(suite.quick_cases(threads, device))
    lines = [f"{suite.name}: {suite.what}", "tiers"]
    usual = suite.default_tiers(device)
    for name, what in suite.tiers.items():
        count, mark = len(suite.cases(name, threads, device)), "*" if name in usual else " "
        lines.append(f"{mark} {name:<12} {count:>4} cases  {what}")
    lines += [f"  --quick      {quick:>4} cases", "* without --tiers", "implementations"]
    for way in suite.implementations(device):
        published = f" (published as {way.published_name})" if way.published_name else ""
        lines.append(f"  {way.name:<44} {way.what}{published}")
    return "\n".join(lines)

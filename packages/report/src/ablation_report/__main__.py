"""The command line: `show` prints a run, `attention` one of attention alone, `findings` what the
rows say of each claim, `compare` two runs cell by cell, `agree` their orders, `export` a summary of
many runs, `site` writes the pages of the site; `check` validates files.

Exit status: 0, all was read and done; 1, a path is missing, holds nothing to read, or a file
breaks a rule; 2, what was asked for cannot be done; 3 and 4, what `compare --fail-on` looks for;
130 after Ctrl-C; 141 where the reader of the output went away.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # `python -m` looks for modules in the current folder first: a random.py there is the user's
    del sys.path[0]

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablation_report import __version__, output
from ablation_report.attention_rows import AttentionRun
from ablation_report.attention_tables import LEGEND as ATTENTION_LEGEND
from ablation_report.attention_tables import attention_tables
from ablation_report.compare import compare_runs, compare_tables, differences
from ablation_report.conditions import condition_facts
from ablation_report.crossover_rows import SUITE, TIER, crossover_run
from ablation_report.escaping import escape, visible
from ablation_report.findings.text import findings_text
from ablation_report.load import Content, Run, check, kind_in_words, read_one, without_rows
from ablation_report.metrics import order_agreement
from ablation_report.naming import name_of
from ablation_report.output import UsageError
from ablation_report.published import PublishedSuites
from ablation_report.schema import SchemaError
from ablation_report.site import command as site
from ablation_report.sources import block_source, gather
from ablation_report.suite_compare import compare_suites, suite_compare_table, suite_differences
from ablation_report.suite_rows import SuiteRun
from ablation_report.suite_sources import recorded_source
from ablation_report.suite_text import show_suite, with_suites
from ablation_report.summary import summary_of
from ablation_report.tables import (
    LEGEND,
    Table,
    config_tables,
    facts_text,
    frame_csv,
    frame_markdown,
    rungs_table,
    summary_table,
)

EXIT_REFUSED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_NO_READER = 1, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status that the module's text lists."""
    output.prepare()
    options = _parser().parse_args(arguments)
    if getattr(options, "format", "text") != "text":
        output.print_data()
    try:
        return _guarded(options)
    except BrokenPipeError:
        output.drop()
        return EXIT_NO_READER
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _guarded(options: argparse.Namespace) -> int:
    """Run a command to its end, what it prints included; tell an error in words."""
    try:
        status = _run(options)
        output.flush()
        return status
    except BrokenPipeError:
        raise
    except (SchemaError, OSError, UsageError) as error:
        with contextlib.suppress(OSError):
            output.flush()
        print(output.said(error), file=sys.stderr)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_REFUSED


def _run(options: argparse.Namespace) -> int:
    command = options.command
    if command == "check":
        return _check(options.paths)
    if command == "agree":
        print(agree(options.first, options.second))
        return 0
    if command == "compare":
        return _compare(options)
    if command == "findings":
        return _findings(options.paths, options.format)
    if command == "export":
        return _export(options)
    if command == "site":
        return site.run(options)
    shower = show_attention if command == "attention" else show
    print(shower(options.run, options.format))
    return 0


def show(path: Path, layout: str) -> str:
    """Return the tables of one run or published file of any kind as text or Markdown.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists the faults.
        OSError: the path is missing, or holds none or several.
    """
    content = read_one(path)
    if isinstance(content, AttentionRun):
        return _shown_attention(content, layout)
    if isinstance(content, SuiteRun | PublishedSuites):
        return show_suite(content, layout)
    markdown = layout == "md"
    header = content.header if isinstance(content, Run) else None
    if not content.rows:
        facts = [] if header is None else [facts_text(_common_facts(header), markdown)]
        return "\n\n".join([*facts, f"{visible(path)}: {without_rows(content)}"])
    source = block_source(content)
    frame = source.frame
    summary = summary_table(frame, source.ceiling_flops_per_s)
    tables = [table for table in (*config_tables(frame), summary, rungs_table(frame)) if table.rows]
    parts = [table.markdown() if markdown else table.text() for table in tables]
    if header is None:
        name = name_of(content.path)
        origin = f"Published figures: {escape(name) if markdown else name}"
    else:
        origin = _origin(header, source.ceilings is None, markdown)
    return "\n\n".join([origin, *parts, "\n".join(LEGEND)])


def show_attention(path: Path, layout: str) -> str:
    """Return the tables of one run of attention alone as text or Markdown, or of the crossover
    tier of a run of attention-sweep.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists the faults.
        UsageError: the run is of something else.
        OSError: the path is missing, or holds none or several.
    """
    content = read_one(path)
    if isinstance(content, AttentionRun):
        return _shown_attention(content, layout)
    if not isinstance(content, SuiteRun):
        raise UsageError(f"{path}: {kind_in_words(content)}, no run of attention alone")
    run = crossover_run(content)
    if run is None:
        message = f"no row of tier {TIER} of {SUITE}: ablation-report show shows the run"
        raise UsageError(f"{path}: {message}")
    return _shown_attention(run, layout)


def _shown_attention(run: AttentionRun, layout: str) -> str:
    markdown = layout == "md"
    tables = attention_tables(run.rows, run.header["impls"])
    parts = [table.markdown() if markdown else table.text() for table in tables]
    header = run.header
    facts = _common_facts(header)
    facts["Cases"] = (
        f"{header['n_cases']} asked for, {header['min_rounds']} to {header['rounds']} rounds each"
    )
    facts["Seed"] = str(header["seed"])
    if not run.rows:
        parts.append(f"{visible(run.path)}: {without_rows(run)}")
    return "\n\n".join([facts_text(facts, markdown), *parts, "\n".join(ATTENTION_LEGEND)])


def agree(first: Path, second: Path) -> str:
    """Say how far two runs agree in the order of variants, each by the other's verdicts.

    Raises as `show` does; UsageError for what is no block ablation or has no rows.
    """
    one, other = (block_source(read_one(path)) for path in (first, second))
    lines = []
    for here, there in ((one, other), (other, one)):
        found = order_agreement(here.cells, there.cells)
        lines.append(
            f"{here.name}: {found.said} pairs faster or slower; {found.same} in the same order in "
            f"{there.name}, {len(found.contradicted)} contradicted beyond its floor"
        )
        lines += [f"  {config}: {a}, {b}" for config, a, b in found.contradicted]
    return "\n".join(map(visible, lines))


def _compare(options: argparse.Namespace) -> int:
    """Print two runs beside each other.

    Returns 2 if they differ in more than they may; as `--fail-on` asks, 3 at such a cell, and 4
    where no cell, but a process as a whole is such: it may be the state of that process alone, and
    a further run tells.
    """
    contents = [read_one(path) for path in (options.first, options.second)]
    are_suites = [isinstance(content, SuiteRun) for content in contents]
    if are_suites[0] != are_suites[1]:
        raise UsageError("one is a run of the block, the other one of a further suite")
    comparison = (_compared_suites if all(are_suites) else _compared)(*contents)
    found = comparison.differences
    if found and not options.force:
        message = f"the runs differ in {'; '.join(found)}\n--force compares them all the same"
        raise UsageError(message)
    print("\n\n".join(table.text() for table in comparison.tables))
    if found:
        print("\nForced; the runs differ in", "; ".join(found))
    failing = {"slower": ("slower",), "different": ("slower", "faster")}.get(options.fail_on, ())
    if any(verdict in failing for verdict in comparison.cells):
        return 3
    return 4 if any(verdict in failing for verdict in comparison.processes) else 0


@dataclass(frozen=True)
class _Comparison:
    """Two runs beside each other: what they must not differ in, and the verdicts."""

    differences: list[str]
    tables: list[Table]
    cells: list[str]
    processes: list[str]


def _compared(*contents: Content) -> _Comparison:
    first, second = map(block_source, contents)
    for source in (first, second):
        if source.is_published:
            raise UsageError(f"{source.path}: published figures, compare takes recorded runs")
    changes = compare_runs(first, second)
    return _Comparison(
        differences(first, second),
        compare_tables(first, second, changes),
        [change.verdict for change in changes.cells],
        [process.verdict for process in changes.processes],
    )


def _compared_suites(*contents: Content) -> _Comparison:
    runs = [content for content in contents if isinstance(content, SuiteRun)]
    first, second = map(recorded_source, runs)
    changes = compare_suites(first, second)
    return _Comparison(
        suite_differences(first, second),
        [suite_compare_table(first, second, changes)],
        [change.verdict for change in changes],
        [],
    )


def _findings(paths: Sequence[Path], layout: Literal["text", "md"]) -> int:
    """Print what every source says of every claim; 1 if one could not be read."""
    gathered = gather(*paths)
    print(findings_text(gathered, layout))
    for told in (*gathered.problems, *gathered.notes):
        print(told, file=sys.stderr)
    return EXIT_REFUSED if gathered.problems else 0


def _export(options: argparse.Namespace) -> int:
    """Write the summary of many runs as CSV, Parquet or Markdown."""
    if options.out is None and options.format == "parquet":
        raise UsageError("argument --out is missing: Parquet goes into a file")
    gathered = gather(*options.paths)
    if gathered.problems:
        raise SchemaError(gathered.problems)
    for note in gathered.notes:
        print(note, file=sys.stderr)
    frame = with_suites(summary_of(gathered), gathered)
    if options.out is None:
        print(frame_csv(frame) if options.format == "csv" else frame_markdown(frame), end="")
    else:
        output.write_summary(frame, options.out, options.format)
    return 0


def _origin(header: Mapping[str, Any], is_refuted: bool, markdown: bool) -> str:
    """Say what was run, where and with what."""
    facts = _common_facts(header)
    facts["Ceilings"] = _ceilings(header["ceilings"])
    if header["ceilings"] is not None and is_refuted:
        facts["Ceilings"] += "; not used: cells of this run exceed it"
    sessions = header["sessions"]
    facts["Threads"] = f"{header['threads']}, seed {header['seed']}, sessions {sessions}"
    return facts_text(facts, markdown)


def _common_facts(header: Mapping[str, Any]) -> dict[str, str]:
    """Say what every kind of run records: when, by which command, where and with what."""
    machine, versions, providers = header["machine"], header["versions"], header["providers"]
    memory_gib = (machine["memory_bytes"] or 0) / 2**30
    ended = header["finished_utc"] or "not finished"
    elapsed = "" if header["elapsed_s"] is None else f", {header['elapsed_s'] / 60:.1f} minutes"
    return {
        "Run": f"{header['run_id']}, {header['created_utc']} to {ended}{elapsed}",
        "Command": " ".join(header["command"]),
        "Machine": f"{machine['cpu_model']}, {machine['cores']} cores, {memory_gib:.1f} GiB, "
        f"{machine['os']} {machine['arch']}",
        **condition_facts(machine),
        "Providers": ", ".join(f"{k} {v}" for k, v in providers.items() if v),
        "Versions": ", ".join(f"{name} {v}" for name, v in versions.items() if v),
    }


def _ceilings(found: Mapping[str, Any] | None) -> str:
    """Write what the machine can do at best, as the run measured it."""
    if found is None:
        return "not measured"
    flops, memory = found["multiply_add_flops_per_s"], found["memory_bytes_per_s"]
    rates = f"{flops / 1e9:.0f} GFLOP/s ({found['provider']}), {memory / 1e9:.0f} GB/s"
    return f"{rates} on {found['threads']} threads"


def _check(paths: Sequence[Path]) -> int:
    sound, problems = check(*paths)
    for sentence in sound:
        print(visible(sentence))
    for problem in problems:
        print(problem, file=sys.stderr)
    return EXIT_REFUSED if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ablation-report", description=__doc__)
    parser.add_argument("--version", action="version", version=f"ablation-report {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    shower = commands.add_parser("show", help="print the tables of a run")
    shower.add_argument("run", type=Path, help="a run folder, or a published block ablation")
    shower.add_argument("--format", choices=("text", "md"), default="text")
    attention = commands.add_parser("attention", help="print the tables of attention alone")
    attention.add_argument("run", type=Path, help="a run folder of the attention bench")
    attention.add_argument("--format", choices=("text", "md"), default="text")
    checker = commands.add_parser("check", help="validate run folders and published files")
    checker.add_argument("paths", type=Path, nargs="+", help="files, runs, or folders of these")
    finder = commands.add_parser("findings", help="say what the rows say of each claim")
    finder.add_argument("paths", type=Path, nargs="+", help="files, runs, or folders of these")
    finder.add_argument("--format", choices=("text", "md"), default="text")
    agreer = commands.add_parser("agree", help="say how far two runs agree in order")
    comparer = commands.add_parser("compare", help="say cell by cell what changed between two runs")
    for command in (agreer, comparer):
        command.add_argument("first", type=Path, help="a run folder")
        command.add_argument("second", type=Path, help="another run folder")
    comparer.add_argument("--force", action="store_true", help="compare runs that differ in more")
    comparer.add_argument(
        "--fail-on",
        choices=("slower", "different"),
        help="exit 3 at such a cell, 4 at a process that is such as a whole",
    )
    site.add_arguments(commands.add_parser("site", help="write the pages of the site"))
    exporter = commands.add_parser("export", help="write a summary of many runs")
    exporter.add_argument("paths", type=Path, nargs="+", help="files, runs, or folders of these")
    exporter.add_argument("--format", choices=("csv", "parquet", "md"), default="csv")
    exporter.add_argument("--out", type=Path, help="a file (default: print)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `show` prints a run, `attention` one of attention alone, `findings` what the
rows say of each claim, `compare` two runs cell by cell, `agree` their orders, `export` a summary of
many runs, `site` writes the pages of the site; `check` validates files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablation_report import __version__
from ablation_report.attention_rows import AttentionRun, is_attention, load_attention
from ablation_report.attention_tables import LEGEND as ATTENTION_LEGEND
from ablation_report.attention_tables import attention_tables
from ablation_report.compare import compare_runs, compare_tables, differences
from ablation_report.conditions import condition_facts
from ablation_report.crossover_rows import SUITE, TIER, crossover_run
from ablation_report.escaping import escape, visible
from ablation_report.findings.text import findings_text
from ablation_report.load import check, load, load_run
from ablation_report.metrics import order_agreement, sound_ceilings
from ablation_report.schema import Problem, SchemaError
from ablation_report.site import command as site
from ablation_report.sources import gather, read_source
from ablation_report.suite_compare import compare_suites, suite_compare_table, suite_differences
from ablation_report.suite_rows import is_suite_run, load_suite_run
from ablation_report.suite_sources import recorded_source
from ablation_report.suite_text import show_suite, with_suites
from ablation_report.summary import summarize
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 when a file is missing or breaks the schema."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "check":
            return _check(options.paths)
        if options.command == "agree":
            print(agree(options.first, options.second))
            return 0
        if options.command == "compare":
            return _compare(options)
        if options.command == "findings":
            return _findings(options.paths, options.format)
        if options.command == "export":
            return _export(options)
        if options.command == "site":
            return site.run(options)
        if options.command == "attention" or is_attention(options.run):
            print(show_attention(options.run, options.format))
            return 0
        if is_suite_run(options.run):
            print(show_suite(options.run, options.format))
            return 0
        print(show(options.run, options.format))
    except (SchemaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def show(path: Path, layout: str) -> str:
    """Return the tables of one run folder or published block ablation as text or Markdown.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists every fault.
        OSError: a file is missing or cannot be read.
    """
    frame = load(path).collect()
    sources = frame["path"].unique().to_list()
    if len(sources) > 1:
        raise FileNotFoundError(f"{path}: holds {len(sources)} runs, name one")
    ceilings = _sound_ceilings(path)
    rate = None if ceilings is None else float(ceilings["multiply_add_flops_per_s"])
    summary = summary_table(frame, rate)
    tables = [table for table in (*config_tables(frame), summary, rungs_table(frame)) if table.rows]
    markdown = layout == "md"
    parts = [table.markdown() if markdown else table.text() for table in tables]
    return "\n\n".join([_origin(path, markdown), *parts, "\n".join(LEGEND)])


def show_attention(path: Path, layout: str) -> str:
    """Return the tables of one run of attention alone as text or Markdown.

    Raises:
        SchemaError: the folder is no such run, or a file of it breaks a rule; lists every fault.
        OSError: a file cannot be read.
    """
    run = _attention_run(path)
    markdown = layout == "md"
    tables = attention_tables(run.rows, run.header["impls"])
    parts = [table.markdown() if markdown else table.text() for table in tables]
    header = run.header
    facts = _common_facts(header)
    facts["Cases"] = (
        f"{header['n_cases']} asked for, {header['min_rounds']} to {header['rounds']} rounds each"
    )
    facts["Seed"] = str(header["seed"])
    return "\n\n".join([facts_text(facts, markdown), *parts, "\n".join(ATTENTION_LEGEND)])


def _attention_run(path: Path) -> AttentionRun:
    """Read a run of attention alone, or the crossover tier of a run of attention-sweep."""
    if not is_suite_run(path):
        return load_attention(path)
    run = crossover_run(load_suite_run(path))
    if run is None:
        message = f"no row of tier {TIER} of {SUITE}: ablation-report show shows the run"
        raise SchemaError([Problem(path, None, None, message)])
    return run


def agree(first: Path, second: Path) -> str:
    """Say how far two runs agree in the order of variants, each by the other's verdicts.

    Raises as `show` does.
    """
    runs = [load(path).collect().to_dicts() for path in (first, second)]
    lines = []
    for (name, cells), (other_name, others) in (
        ((first.name, runs[0]), (second.name, runs[1])),
        ((second.name, runs[1]), (first.name, runs[0])),
    ):
        found = order_agreement(cells, others)
        lines.append(
            f"{name}: {found.said} pairs faster or slower; {found.same} in the same order in "
            f"{other_name}, {len(found.contradicted)} contradicted beyond its floor"
        )
        lines += [f"  {config}: {a}, {b}" for config, a, b in found.contradicted]
    return "\n".join(map(visible, lines))


def _compare(options: argparse.Namespace) -> int:
    """Print two runs beside each other.

    Returns 2 if they differ in more than they may; as `--fail-on` asks, 3 at such a cell, and 4
    where no cell, but a process as a whole is such: it may be the state of that process alone, and
    a further run tells.
    """
    are_suites = [is_suite_run(path) for path in (options.first, options.second)]
    if are_suites[0] != are_suites[1]:
        print("one is a run of the block, the other one of a further suite", file=sys.stderr)
        return 2
    comparison = (_compared_suites if all(are_suites) else _compared)(options.first, options.second)
    found = comparison.differences
    if found and not options.force:
        print("the runs differ in", "; ".join(found), file=sys.stderr)
        print("--force compares them all the same", file=sys.stderr)
        return 2
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


def _compared(*paths: Path) -> _Comparison:
    first, second = map(read_source, paths)
    changes = compare_runs(first, second)
    return _Comparison(
        differences(first, second),
        compare_tables(first, second, changes),
        [change.verdict for change in changes.cells],
        [process.verdict for process in changes.processes],
    )


def _compared_suites(*paths: Path) -> _Comparison:
    first, second = (recorded_source(load_suite_run(path)) for path in paths)
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
    for problem in gathered.problems:
        print(problem, file=sys.stderr)
    return 1 if gathered.problems else 0


def _export(options: argparse.Namespace) -> int:
    """Write the summary of many runs as CSV, Parquet or Markdown."""
    frame = with_suites(summarize(*options.paths), *options.paths)
    if options.format == "parquet":
        if options.out is None:
            print("argument --out is missing: Parquet goes into a file", file=sys.stderr)
            return 2
        frame.write_parquet(options.out)
        return 0
    text = frame_csv(frame) if options.format == "csv" else frame_markdown(frame)
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, encoding="utf-8")
    return 0


def _origin(path: Path, markdown: bool) -> str:
    """Say what was run, where and with what."""
    if not path.is_dir():
        name = escape(path.name) if markdown else visible(path.name)
        return f"Published figures: {name}"
    header = load_run(path).header
    facts = _common_facts(header)
    facts["Ceilings"] = _ceilings(header["ceilings"])
    if header["ceilings"] is not None and _sound_ceilings(path) is None:
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


def _sound_ceilings(path: Path) -> Mapping[str, Any] | None:
    if not path.is_dir():
        return None
    run = load_run(path)
    return sound_ceilings(run.header["ceilings"], run.cells)


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
    return 1 if problems else 0


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

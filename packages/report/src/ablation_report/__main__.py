"""The command line: `show` prints the tables of a run, `findings` the verdict of each claim,
`compare` two runs row by row, `agree` their orders, `evidence` the error rates of verdicts,
`counters` the counters of two runs. `export` writes rows in formats of other tools, `site` the
pages of the site; `check` validates files.

Exit status: 0: success; 1: a path is missing or holds nothing to read, a file breaks a rule, or
`counters` found a change; 2: bad request; 3 and 4: `compare --fail-on` found a row, or a process;
130: Ctrl-C; 141: the reader of the output went away.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # `python -m` looks for modules in the current folder first: a random.py there is the user's
    del sys.path[0]

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from ablation_report import output
from ablation_report.command_line import FRAME_FORMATS, make_parser
from ablation_report.compare import compare_runs
from ablation_report.compare.conditions import differences
from ablation_report.compare.order import agree
from ablation_report.compare.tables import compare_tables
from ablation_report.escaping import visible
from ablation_report.latest import run_path
from ablation_report.load import Gathered, check, gather, read_one, without_rows
from ablation_report.output import UsageError
from ablation_report.reading import SchemaError
from ablation_report.run import Run
from ablation_report.tables import show
from ablation_report.tables.fitting import filled

EXIT_REFUSED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_NO_READER = 1, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status that the module's text lists."""
    output.prepare()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parsed(arguments)
        if getattr(options, "format", "text") != "text":
            output.print_data()
        return _guarded(options)
    except BrokenPipeError:
        output.drop()
        return EXIT_NO_READER
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the words of the command line; help is written out before the command ends."""
    try:
        return make_parser(arguments).parse_args(arguments)
    except SystemExit:
        output.flush()
        raise


def _guarded(options: argparse.Namespace) -> int:
    """Run a command to its end, with all output; print an error in words."""
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
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        **dict.fromkeys(("show", "attention"), _show),
        "check": _check,
        "agree": _agree,
        "evidence": _evidence,
        "compare": _compare,
        "counters": _counters,
        "findings": _findings,
        "export": _export,
        "site": _site,
    }
    return commands[options.command](options)


def _show(options: argparse.Namespace) -> int:
    """Print the tables of one run, or of all that a published file holds."""
    runs = read_one(run_path(options.run))
    parts = [show(run, options.format, output.width()) for run in runs]
    print("\n\n".join(parts) or f"{visible(options.run)}: a published file without rows")
    return 0


def _gather(options: argparse.Namespace) -> Gathered:
    """Read the runs and files that a command takes."""
    return gather(*map(run_path, options.paths))


def _pair(options: argparse.Namespace) -> tuple[Run, Run]:
    """Read the two recorded runs that a command takes."""
    return _recorded(options.first, options.command), _recorded(options.second, options.command)


def _recorded(path: Path, command: str) -> Run:
    runs = read_one(run_path(path))
    given = "published figures"
    if runs and not runs[0].is_published:
        if runs[0].rows:
            return runs[0]
        given = without_rows(runs[0])
    raise UsageError(f"{path}: {given}; {command} accepts recorded runs with rows")


def _agree(options: argparse.Namespace) -> int:
    """Print how far two runs agree in the order of variants."""
    lines, width = agree(*_pair(options)), output.width()
    print("\n".join(line for text in lines for line in filled(visible(text), width, "    ")))
    return 0


def _compare(options: argparse.Namespace) -> int:
    """Print what changed between two runs, row by row.

    Returns 2 if they differ in more than they may. With `--fail-on`, returns 3 if a row is so, and
    4 if no row is, but a process as a whole: its state may be the reason, and a third run decides.
    """
    first, second = _pair(options)
    found = differences(first, second)
    if found and not options.force:
        message = f"the runs differ in {'; '.join(found)}\n--force compares them anyway"
        raise UsageError(message)
    changes = compare_runs(first, second, options.margin / 100)
    tables = compare_tables(first, second, changes)
    print("\n\n".join(table.text(output.width()) for table in tables))
    if found:
        print("\nCompared with --force; the runs differ in", "; ".join(found))
    failing = {"slower": ("slower",), "different": ("slower", "faster")}.get(options.fail_on, ())
    if any(change.verdict in failing for change in changes.rows):
        return 3
    return 4 if any(process.verdict in failing for process in changes.processes) else 0


def _counters(options: argparse.Namespace) -> int:
    """Print which counters of programs changed between two runs, and which factor did it; 1 if
    one did."""
    from ablation_report.attribution.change import counter_changes
    from ablation_report.attribution.points import places_of
    from ablation_report.tables.counters import changes_text

    first, second = _pair(options)
    for run in (first, second):
        if not places_of(run):
            raise UsageError(
                f"{run.path}: no programs of factors; accepted: runs of suite attribution"
            )
    changes = counter_changes(first, second)
    print(changes_text(first, second, changes, output.width()))
    if options.out is not None:
        from ablation_report.tables.attribution_rows import changes_frame
        from ablation_report.tables.summary import write_summary

        write_summary(changes_frame(changes.programs), options.out, "csv")
    return 0 if changes.is_equal else EXIT_REFUSED


def _findings(options: argparse.Namespace) -> int:
    """Print the verdict of every claim on every run; 1 if one could not be read."""
    from ablation_report.findings.text import findings_text

    gathered = _gather(options)
    text, width = findings_text(gathered, options.format), output.width()
    if options.format == "text":
        # A rule below a heading is as wide as the terminal at most
        lines = (line if line.strip("-") else line[:width] for line in text.split("\n"))
        text = "\n".join(part for line in lines for part in filled(line, width, "  "))
    print(text)
    for line in (*gathered.problems, *gathered.notes):
        print(line, file=sys.stderr)
    return EXIT_REFUSED if gathered.problems else 0


def _evidence(options: argparse.Namespace) -> int:
    """Print how often the verdicts of some runs are wrong, and how far the runs agree; 1 if one
    could not be read."""
    from ablation_report.evidence import evidence
    from ablation_report.evidence.tables import evidence_tables

    gathered = _gather(options)
    tables = evidence_tables(evidence(gathered.runs))
    text = "\n\n".join(table.text(output.width()) for table in tables)
    print(text or "no recorded run has one program under two names")
    for line in (*gathered.problems, *gathered.notes):
        print(line, file=sys.stderr)
    return EXIT_REFUSED if gathered.problems else 0


def _export(options: argparse.Namespace) -> int:
    """Write the rows of runs, or their attribution, in a format of another tool."""
    if options.out is None and options.format == "parquet":
        raise UsageError("argument --out is missing: --format parquet needs a file")
    is_frame = options.format in FRAME_FORMATS
    if options.attribution and not is_frame:
        accepted = ", ".join(FRAME_FORMATS)
        raise UsageError(f"--attribution: --format is {options.format}; accepted: {accepted}")
    gathered = _gather(options)
    if gathered.problems:
        raise SchemaError(gathered.problems)
    for note in gathered.notes:
        print(note, file=sys.stderr)
    if is_frame:
        _export_frame(gathered, options)
    else:
        from ablation_report.export import export_text, write_export

        if options.out is None:
            print(export_text(gathered.runs, options.format), end="")
        else:
            write_export(gathered.runs, options.format, options.out)
    return 0


def _export_frame(gathered: Gathered, options: argparse.Namespace) -> None:
    from ablation_report.tables.summary import frame_csv, frame_markdown, summarize, write_summary

    if options.attribution:
        from ablation_report.tables.attribution_rows import attribution_frame

        frame = attribution_frame(gathered.runs)
    else:
        frame = summarize(gathered.runs)
    if options.out is None:
        print(frame_csv(frame) if options.format == "csv" else frame_markdown(frame), end="")
    else:
        write_summary(frame, options.out, options.format)


def _site(options: argparse.Namespace) -> int:
    """Write the pages of the site."""
    from ablation_report.site import command

    return command.run(options)


def _check(options: argparse.Namespace) -> int:
    """Print a line for each sound file and each fault; 1 if a file has one."""
    sound, problems = check(*map(run_path, options.paths))
    for sentence in sound:
        print(visible(sentence))
    for problem in problems:
        print(problem, file=sys.stderr)
    return EXIT_REFUSED if problems else 0


if __name__ == "__main__":
    sys.exit(main())

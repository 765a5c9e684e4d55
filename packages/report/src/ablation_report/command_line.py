"""The command line: commands, options, and the help of each with examples."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from ablation_report import __version__
from ablation_report.stats import MARGIN

PROGRAM = "ablation-report"
# The formats of export, those of frames first; `export.FORMATS` has the others
FRAME_FORMATS = ("csv", "parquet", "md")
EXPORT_FORMATS = (*FRAME_FORMATS, "json", "chrome", "speedscope", "bmf", "pyperf")
_RUN = "a run folder, a published file, the name of a run in data/runs, or latest"
_PATHS = "files, run folders, folders of these, names of runs in data/runs, or latest"
_EXAMPLES = """\
examples (each takes a few seconds):
  ablation-report show latest          the tables of the newest run in data/runs
  ablation-report compare RUN latest   what changed since another run
  ablation-report findings data/runs   the verdict of each claim on all runs
  ablation-report export latest --format chrome --out trace.json
                                       a trace for ui.perfetto.dev
  ablation-report check data/runs      the faults of all files

ablation-report COMMAND --help lists the options of a command."""
_EXPORT_EXAMPLES = """\
formats:
  csv, parquet, md  a table with a line for each row
  json              the same as objects; unknown values are null
  chrome            Chrome's trace events (ui.perfetto.dev): a thread for each
                    row, a span for each operation
  speedscope        speedscope.app: a profile for each row
  bmf               Bencher Metric Format: latency and throughput with intervals
  pyperf            every sample, for python -m pyperf stats

examples:
  ablation-report export latest --format pyperf --out samples.json
  ablation-report export data/runs --format csv > rows.csv"""


def make_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser of the command line; options of `site` only where the words name it."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Read recorded runs: tables, findings, comparisons, exports and the site.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_readers(commands)
    _add_pairs(commands)
    site = commands.add_parser("site", help="write the pages of the site")
    if "site" in arguments:
        # Charts take a second to load, which no other command waits for
        from ablation_report.site import command

        command.add_arguments(site)
    _add_export(commands)
    return parser


def _add_readers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands that print what is known of one run or of many."""
    shower = commands.add_parser("show", aliases=["attention"], help="print the tables of a run")
    shower.add_argument("run", type=Path, help=_RUN)
    checker = commands.add_parser("check", help="validate run folders and published files")
    checker.add_argument("paths", type=Path, nargs="+", help=_PATHS)
    finder = commands.add_parser("findings", help="print the verdict of each claim on every run")
    finder.add_argument("paths", type=Path, nargs="+", help=_PATHS)
    for printer in (shower, finder):
        printer.add_argument(
            "--format", choices=("text", "md"), default="text", help="default: %(default)s"
        )
    evident = commands.add_parser("evidence", help="print the error rates of verdicts")
    evident.add_argument("paths", type=Path, nargs="+", help=_PATHS)


def _add_pairs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands on two runs."""
    agreer = commands.add_parser("agree", help="compare the order of variants in two runs")
    comparer = commands.add_parser("compare", help="compare two runs row by row")
    counter = commands.add_parser("counters", help="compare the counters of programs in two runs")
    counter.add_argument("--out", type=Path, help="write the changes into this CSV file")
    for parser_of_two in (agreer, comparer, counter):
        parser_of_two.add_argument("first", type=Path, help=_RUN)
        parser_of_two.add_argument("second", type=Path, help="the later run")
    comparer.add_argument(
        "--force", action="store_true", help="also compare runs of different machines or versions"
    )
    comparer.add_argument(
        "--margin",
        type=_margin,
        default=100 * MARGIN,
        metavar="PERCENT",
        help="times within this percentage of each other are the same (default: %(default)g)",
    )
    comparer.add_argument(
        "--fail-on",
        choices=("slower", "different"),
        help="exit with 3 if a row is slower (different), with 4 if only a whole process is",
    )


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    exporter = commands.add_parser(
        "export",
        help="write rows in a format of another tool",
        epilog=_EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    exporter.add_argument("paths", type=Path, nargs="+", help=_PATHS)
    exporter.add_argument(
        "--format",
        choices=EXPORT_FORMATS,
        default="csv",
        metavar="NAME",
        help="a format listed below (default: %(default)s)",
    )
    exporter.add_argument(
        "--attribution",
        action="store_true",
        help="write worths of factors instead of rows (csv, parquet, md)",
    )
    exporter.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: standard output)"
    )


def _margin(text: str) -> float:
    """Read a percentage between 0 and 100."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 100:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}; accepted: a percentage above 0 and below 100")

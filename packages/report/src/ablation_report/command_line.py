"""The words of the command line: commands, options, and the help of each with examples."""

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
  ablation-report findings data/runs   what all runs say of each claim
  ablation-report export latest --format chrome --out trace.json
                                       a trace that ui.perfetto.dev opens
  ablation-report check data/runs      whether all files can be read

ablation-report COMMAND --help lists the options of a command."""
_EXPORT_EXAMPLES = """\
formats:
  csv, parquet, md  a table: a line for each row
  json              the same as objects; what is not known is null
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
    evident = commands.add_parser("evidence", help="print how often verdicts are wrong")
    evident.add_argument("paths", type=Path, nargs="+", help=_PATHS)


def _add_pairs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands on two runs."""
    agreer = commands.add_parser("agree", help="print how far two runs agree in order")
    comparer = commands.add_parser("compare", help="print row by row what changed between two runs")
    counter = commands.add_parser("counters", help="print which counters of programs changed")
    counter.add_argument("--out", type=Path, help="a file for the changes, as CSV")
    for parser_of_two in (agreer, comparer, counter):
        parser_of_two.add_argument("first", type=Path, help=_RUN)
        parser_of_two.add_argument("second", type=Path, help="the later one")
    comparer.add_argument(
        "--force", action="store_true", help="compare runs of other machines or versions too"
    )
    comparer.add_argument(
        "--margin",
        type=_margin,
        default=100 * MARGIN,
        metavar="PERCENT",
        help="two times within this part of each other are the same (default %(default)g)",
    )
    comparer.add_argument(
        "--fail-on",
        choices=("slower", "different"),
        help="exit 3 at such a row, 4 at a process that is such as a whole",
    )


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    exporter = commands.add_parser(
        "export",
        help="write rows in the formats of other tools",
        epilog=_EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    exporter.add_argument("paths", type=Path, nargs="+", help=_PATHS)
    exporter.add_argument(
        "--format",
        choices=EXPORT_FORMATS,
        default="csv",
        metavar="NAME",
        help="one of those below (default: %(default)s)",
    )
    exporter.add_argument(
        "--attribution",
        action="store_true",
        help="what each factor is worth, instead of the rows (csv, parquet, md)",
    )
    exporter.add_argument("--out", type=Path, metavar="FILE", help="default: print")


def _margin(text: str) -> float:
    """Read a percentage between 0 and 100."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 100:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}, expected a percentage above 0 and below 100")

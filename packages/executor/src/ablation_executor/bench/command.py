"""Carry out the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from .interrupt import UsageError
from .options import (
    Request,
    find_named_suite,
    listing,
    make_parser,
    make_request,
    names_all,
    refuse_with_resume,
)
from .progress import make_progress
from .run import Run, new_run, resume_run
from .run_folder import RunFolder
from .session import Session, carry_out, print_error
from .terminal import printable_lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; see `session.carry_out`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        suite = find_named_suite(given)
        options = make_parser(suite).parse_args(given)
        request: Request | None = None
        if (asked := suite.asked_listing(options)) is not None:
            print_lines(asked)
            return 0
        if options.list:
            print_lines(listing(suite, options, names_all(given)))
            return 0
        if options.resume is not None:
            refuse_with_resume(suite, options)
        else:
            request = make_request(suite, options, names_all(given))
    except UsageError as error:
        print_error(str(error))
        return error.status
    console = Console(no_color=options.no_color or None)
    progress = make_progress(console)

    def begin() -> Session:
        if request is None:
            named = suite if options.suite is not None else None
            run: Run = resume_run(options.resume, named, options.mem_limit, progress)
        else:
            run = new_run(request, options.out)
        folder = run.folder
        return Session(folder, lambda: run.measure(progress), lambda: print_run(folder, console))

    return carry_out(begin, progress.close)


def print_lines(text: str) -> None:
    """Print lines that fit the terminal."""
    # Here, since the report's tables are loaded for it
    from ablation_report.output import width
    from ablation_report.tables.fitting import filled

    columns = width()
    for line in text.split("\n"):
        print("\n".join(filled(line, columns, " " * 6)))


def print_run(folder: RunFolder, console: Console) -> None:
    """Print every table of a run, as the report does."""
    from ablation_report.output import width
    from ablation_report.tables import run_tables

    from .ending import recorded

    for table in run_tables(recorded(folder)) if folder.rows else ():
        # Names and reasons of a run that is continued may be anybody's
        text = Text(printable_lines(table.text(width())) + "\n")
        console.print(text, soft_wrap=True, highlight=False)

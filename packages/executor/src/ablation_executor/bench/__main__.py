"""`ablation-bench`, also `python -m ablation_executor.bench`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console

from .configs import UsageError
from .interrupt import EXIT_USAGE, end_at_once
from .options import Request, listing, make_parser, make_request, refuse_with_resume
from .progress import make_progress
from .run import new_run, resume_run
from .session import Session, carry_out, tell_error
from .table import print_run
from .terminal import prepare_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; see `session.carry_out`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if any(word.partition("=")[0] == "--suite" for word in given):
        from .suites.command import main as run_suite

        return run_suite(given)
    options = make_parser().parse_args(given)
    console = Console(no_color=options.no_color or None)
    if options.list:
        print(listing())
        return 0
    request: Request | None = None
    try:
        if options.resume is not None:
            refuse_with_resume(options)
        else:
            request = make_request(options)
    except UsageError as error:
        tell_error(str(error))
        return EXIT_USAGE
    progress = make_progress(console)

    def begin() -> Session:
        if request is None:
            run = resume_run(options.resume, options.mem_limit, progress)
        else:
            run = new_run(request, options.out)
        rows = run.folder.rows
        return Session(
            run.folder,
            lambda: run.measure(progress),
            lambda: print_run(rows, console),
            "--resume",
        )

    return carry_out(begin, progress.close)


def console_main() -> NoReturn:
    """Entry point of the installed command."""
    end_at_once()
    prepare_streams()
    sys.exit(main())


if __name__ == "__main__":
    console_main()

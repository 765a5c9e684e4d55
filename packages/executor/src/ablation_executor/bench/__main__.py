"""`ablation-bench`, also `python -m ablation_executor.bench`."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console

from .configs import UsageError
from .interrupt import EXIT_FAILED, EXIT_USAGE, Interrupted, interrupt, shown
from .options import listing, make_parser, make_request, refuse_with_resume
from .progress import make_progress
from .run import Run, new_run, resume_run
from .table import print_run


def _report(run: Run, console: Console) -> None:
    print_run(run.folder.rows, console)
    console.print(f"rows: {shown(run.folder.cells_path)}", soft_wrap=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: done; 1: done, but a cell is incorrect or failed, or a row could not be written; 2: the
    request was refused; 130 and 143: interrupted by Ctrl-C and SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if any(word.partition("=")[0] == "--suite" for word in given):
        from .suites.command import main as run_suite

        return run_suite(given)
    options = make_parser().parse_args(given)
    console = Console(no_color=options.no_color or None, width=None)
    if options.list:
        console.print(listing(), soft_wrap=True, highlight=False, markup=False)
        return 0
    progress = None
    run: Run | None = None
    try:
        if options.resume is not None:
            refuse_with_resume(options)
            request = None
        else:
            request = make_request(options)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)
        progress = make_progress(console)
        if request is None:
            run = resume_run(options.resume, options.mem_limit, progress)
        else:
            run = new_run(request, options.out)
        run.measure(progress)
    except (UsageError, OSError) as error:
        if progress is not None:
            progress.close()
        print(f"ablation-bench: error: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    except Interrupted as interrupted:
        if progress is not None:
            progress.close()
        if run is not None:
            _report(run, console)
            path = shlex.quote(shown(run.folder.path))
            console.print(
                f"interrupted; go on with: ablation-bench --resume {path}", soft_wrap=True
            )
        return 128 + interrupted.number
    progress.close()
    _report(run, console)
    wrong = any(row["status"] in ("incorrect", "error") for row in run.folder.rows)
    return EXIT_FAILED if wrong else 0


def console_main() -> NoReturn:
    """Entry point of the installed command."""
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
    sys.exit(1)


if __name__ == "__main__":
    console_main()

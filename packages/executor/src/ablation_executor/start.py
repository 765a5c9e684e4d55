"""What `python -m ablation_executor...` has to do before anything else is imported.

Python searches the current folder first for a module that `-m` names, and for all that it imports:
a user's `random.py` would be taken for the library's. And Ctrl-C while libraries are imported would
end in a traceback. Where this package is only imported, nothing is changed.
"""

from __future__ import annotations

import itertools
import os
import sys


def is_started(words: list[str]) -> bool:
    """True where the words of Python's command line start this package, not one that imports it."""
    return os.path.basename(sys.argv[0]) == "ablation-bench" or any(
        flag == "-m" and name.partition(".")[0] == __package__
        for flag, name in itertools.pairwise(words)
    )


def leave_out_current_folder() -> None:
    """Take the current folder from where modules are searched, if `-m` has put it there."""
    try:
        is_first = sys.path[:1] == [os.getcwd()]
    except FileNotFoundError:
        # The current folder is gone, and with it what it could hold
        return
    if is_first and sys.argv[0] == "-m" and not sys.flags.safe_path:
        del sys.path[0]


if sys.argv and is_started(sys.orig_argv):
    leave_out_current_folder()
    # Not before: there may be another signal.py
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)

"""`ablation-bench`, also `python -m ablation_executor.bench`."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from .interrupt import EXIT_USAGE, end_at_once
from .terminal import prepare_streams

CORE_VARIABLE = "OPENBLAS_CORETYPE"
# What the extra brings that the bench imports before it looks at a suite.
NEEDED = ("ablation_report", "psutil", "rich")
INSTALL_COMMAND = 'pip install "ablation-executor[bench]"'


def chosen_core() -> str | None:
    """Return the kind of matrix products that this process has chosen."""
    import ablation_kernels

    core: str | None = ablation_kernels.build_info().get("blas_core")
    return core


def take_core_of_run(arguments: Sequence[str]) -> None:
    """Begin anew under the matrix products that a run to be gone on with was begun with.

    Where two kinds are about as fast, each process would choose by its own measurement.
    """
    words = [word.removeprefix("--resume=") for word in arguments if word.startswith("--resume=")]
    words += [word for name, word in itertools.pairwise(arguments) if name == "--resume"]
    path = words[0] if words else None
    if path is None or CORE_VARIABLE in os.environ:
        return
    try:
        core = json.loads((Path(path) / "run.json").read_bytes())["providers"]["blas_core"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    if isinstance(core, str) and core and core != chosen_core():
        again = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, again, {**os.environ, CORE_VARIABLE: core})


def console_main() -> NoReturn:
    """Entry point of the installed command."""
    end_at_once()
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"ablation-bench: error: {', '.join(missing)} not installed: {INSTALL_COMMAND}")
        sys.exit(EXIT_USAGE)
    take_core_of_run(sys.argv[1:])
    prepare_streams()

    from .command import main

    sys.exit(main())


if __name__ == "__main__":
    console_main()

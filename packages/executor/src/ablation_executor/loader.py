"""A program file -> a program of this machine, without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .compiler import CompiledProgram, compile
from .program_file import read_program
from .workspace import Workspace


def load(
    path: str | os.PathLike[str],
    *,
    kernels: Mapping[str, str] | None = None,
    threads: int | None = None,
    workspace: Workspace | None = None,
) -> CompiledProgram:
    """Load a program from a file that `CompiledProgram.save` wrote, and compile it here.

    The saved options hold: the kernels that were named, and for other ops the best of this machine.
    `kernels` replaces named kernels; `threads` and `workspace` are as in `compile`.
    ProgramFileError: the file is not a program, is damaged, or has another version. ValueError:
    this machine has no kernel of a name. OSError: the file cannot be read.
    """
    graph, options = read_program(path)
    return compile(
        graph,
        kernels={**options.kernels, **(kernels or {})},
        threads=threads,
        plan=options.plan,
        share_rows=options.share_rows,
        other_arithmetic=options.other_arithmetic,
        workspace=workspace,
    )

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
    """Make a program of a file that `CompiledProgram.save` wrote.

    It is compiled here, by the options that it was saved with: the kernels that were named, and
    else the best of this machine. `kernels` names kernels in their place; `threads` and
    `workspace` are as in `compile`. ProgramFileError: the file is no program, is damaged, or is of
    another version. ValueError: this machine has no kernel of a name. OSError: it cannot be read.
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

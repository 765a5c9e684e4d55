"""The last lines of a run: its noise, and the commands to type next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ablation_report.latest import nearest_run
from ablation_report.run import Run
from ablation_report.tables import run_warning, times_note

from .run_folder import RunFolder
from .terminal import quoted

REPORT = "ablation-report"
# The file of the repository whose session `docs` builds the site
_NOX_FILE = Path("noxfile.py")


def recorded(folder: RunFolder) -> Run:
    """Return the run in a folder as the report reads it."""
    return Run(folder.path.name, folder.path, folder.info, tuple(folder.rows))


def last_lines(folder: RunFolder) -> Iterator[str]:
    """Yield the noise of a finished run, where there is much, and the commands to type next."""
    found = recorded(folder)
    if (noise := run_warning(found) or times_note(found)) is not None:
        yield noise
    run = quoted(folder.path)
    yield "next:"
    yield f"  {REPORT} show {run}"
    if (nearest := nearest_run(folder.path)) is not None:
        yield f"  {REPORT} compare {quoted(nearest)} {run}"
    if _NOX_FILE.is_file():
        yield f"  nox -s docs -- --mine {run}"

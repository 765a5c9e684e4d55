"""The float64 reference of a case, in a process of its own: its memory is gone before anything is
timed."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from . import children
from .case import Case, case_of
from .protocol import thread_variables
from .suites import find_suite

# A larger one is waited for before any worker loads, so that both never have their memory at once.
LARGE_BYTES = 256 << 20


class Reference:
    """The process that writes the reference of a case to `path`."""

    def __init__(self, case: Case, seed: int, folder: Path) -> None:
        """Start it in the background; OSError if that fails."""
        self.path = folder / "reference.npz"
        self._log = folder / "reference.log"
        command = [sys.executable, "-m", f"{__package__}.reference", "--case", case.label]
        command += ["--seed", str(seed), "--out", str(self.path)]
        with self._log.open("wb") as errors:
            self._process: subprocess.Popen[bytes] | None = children.start(
                command,
                thread_variables(case.threads),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )

    def wait(self) -> str | None:
        """Wait until it is there; return why it is not, or None."""
        if self._process is None:
            return None
        status = children.ended(self._process)
        self._process = None
        if not status:
            return None
        lines = self._log.read_text("utf-8", "replace").splitlines()
        said = f": {lines[-1][:300]}" if lines else ""
        return f"the float64 reference ended with status {status}{said}"

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            children.end(self._process)


def main(arguments: list[str] | None = None) -> None:
    """Compute one reference and write it to a file."""
    parser = argparse.ArgumentParser(prog="ablation_executor.bench.reference")
    parser.add_argument("--case", required=True, help="its label")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    case = case_of(options.case)
    find_suite(case.suite).write_reference(case, options.seed, options.out)


if __name__ == "__main__":
    main()

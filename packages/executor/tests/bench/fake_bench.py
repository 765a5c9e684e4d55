"""The command, which knows the fake suite besides, and has no ceilings: those of a busy machine are
low, and the fake workers' rates would be impossible.

ABLATION_FAKE_CEILINGS set to "measured" starts the processes that measure them all the same.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# As `ablation-bench` does before it imports anything
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path.insert(0, str(Path(__file__).parent))

import fake_suite  # type: ignore[import-not-found]  # noqa: E402

from ablation_executor.bench import run, suites  # noqa: E402
from ablation_executor.bench.__main__ import console_main  # noqa: E402

measure = vars(run)["measure_ceilings"]


def no_ceilings(threads: Iterable[int], before: Any) -> dict[str, Any]:
    """None, whatever is measured."""
    if os.environ.get("ABLATION_FAKE_CEILINGS") == "measured":
        measure(threads, before)
    return {}


suites.SUITES["fake"] = "fake"
sys.modules[f"{suites.__name__}.fake"] = fake_suite
setattr(run, "measure_ceilings", no_ceilings)  # noqa: B010

if __name__ == "__main__":
    console_main()

"""The command, which knows the fake suite besides, and measures no ceilings for it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

# As `ablation-bench` does before it imports anything
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path.insert(0, str(Path(__file__).parent))

import fake_suite  # type: ignore[import-not-found]  # noqa: E402

from ablation_executor.bench import run, suites  # noqa: E402
from ablation_executor.bench.__main__ import console_main  # noqa: E402

suites.SUITES["fake"] = "fake"
sys.modules[f"{suites.__name__}.fake"] = fake_suite
setattr(run, "measure_ceilings", lambda threads, before: {})  # noqa: B010

if __name__ == "__main__":
    console_main()

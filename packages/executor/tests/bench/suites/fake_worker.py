"""The worker of the suites, which knows the fake suite besides."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fake_suite  # type: ignore[import-not-found]

from ablation_executor.bench.suites import suite, worker

suite.SUITES["fake"] = "fake"
sys.modules[f"{suite.__package__}.fake"] = fake_suite

if __name__ == "__main__":
    worker.main()

"""What a worker gives back of a case that it drops, as JSON: blocks too small to be mapped by
themselves, behind one that stays, which the C library keeps unless it is asked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from ablation_executor.bench.case import make_case
from ablation_executor.bench.suite import Suite
from ablation_executor.bench.worker import Worker

BLOCK_BYTES, BLOCKS = 64 * 1024, 4096


def resident_bytes() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Load, drop, and tell the difference."""
    stays: list[Any] = []

    def load(*_: Any) -> Any:
        blocks = [np.ones(BLOCK_BYTES, np.uint8) for _ in range(BLOCKS)]
        stays.append(blocks.pop())
        return SimpleNamespace(blocks=blocks)

    worker = Worker(cast(Suite, SimpleNamespace(load=load)), "holder")
    case = make_case("attention-sweep", "cpu", (1, 1, 8, 8, 8))
    worker.do_load(case.label, 0, None)
    before = resident_bytes()
    worker.do_drop()
    told = {"held_bytes": BLOCK_BYTES * BLOCKS, "given_back_bytes": before - resident_bytes()}
    print(json.dumps(told))


if __name__ == "__main__":
    main()

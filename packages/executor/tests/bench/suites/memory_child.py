"""Readings of calls whose memory is known, as JSON; run with `memory.environment()`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablation_executor.bench import memory
from ablation_executor.bench.memory import MIB, measure

SIDE = 2048
FLOATS = 64 * MIB // 4


def square(_: Any) -> Any:
    """A result of 16 MiB."""
    return torch.ones(SIDE, SIDE)


def dropped_square(_: Any) -> Any:
    """16 MiB that only the call has."""
    return torch.ones(SIDE, SIDE).sum()


def touched(_: Any) -> Any:
    """64 MiB of NumPy's, which come from malloc."""
    np.ones(FLOATS, np.float32)
    return torch.ones(1)


def untouched(_: Any) -> Any:
    """64 MiB that are asked for and never written."""
    np.empty(FLOATS, np.float32)
    return torch.ones(1)


def own_kernel(_: Any) -> Any:
    """32 MiB of scratch and 16 MiB of output, none of it PyTorch's: so much that what the kernel
    counts late, some 64 pages a processor, is less than the 2% that two sources may differ by."""
    scratch = np.ones(8 * MIB, np.float32)
    return np.full(4 * MIB, scratch[-1])


def own_arena() -> int:
    """What `own_kernel` counts as its scratch."""
    return 32 * MIB


def leaves() -> Any:
    """A tensor of 16 MiB that asks for a gradient."""
    return torch.ones(SIDE, SIDE, requires_grad=True)


def without_clear_refs() -> memory.MemoryReading:
    """A reading where the peak cannot be reset."""
    kept = memory._CLEAR_REFS
    memory._CLEAR_REFS = Path("/proc/self")
    try:
        return measure(square)
    finally:
        memory._CLEAR_REFS = kept


def main() -> None:
    """Print all readings by name."""
    x = leaves()
    readings: dict[str, Callable[[], memory.MemoryReading]] = {
        "square": lambda: measure(square),
        "dropped_square": lambda: measure(dropped_square),
        "touched": lambda: measure(touched),
        "untouched": lambda: measure(untouched),
        "own_kernel": lambda: measure(own_kernel, is_traced=False, arena=own_arena),
        "with_graph": lambda: measure(lambda _: torch.exp(torch.exp(x)), inputs=[x]),
        "without_clear_refs": without_clear_refs,
    }
    print(json.dumps({name: dataclasses.asdict(read()) for name, read in readings.items()}))


if __name__ == "__main__":
    main()

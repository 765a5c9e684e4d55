"""Save a program where PyTorch is, run it where it is not: `save FOLDER`, then `load FOLDER`."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import ablation_executor
import ablation_kernels

PROGRAM, CALL = "program.safetensors", "call.npz"


def save(folder: Path) -> None:
    """Save a program, its input, and what PyTorch computes of it."""
    import torch

    module = torch.nn.TransformerEncoderLayer(64, 4, 256, batch_first=True, norm_first=True).eval()
    x = torch.randn(1, 32, 64)
    graph, _ = ablation_executor.optimize(ablation_executor.export(module, (x,)))
    ablation_executor.compile(graph).save(folder / PROGRAM)
    with torch.inference_mode():
        np.savez(folder / CALL, x=x.numpy(), y=module(x).numpy())


def load(folder: Path) -> None:
    """Run the saved program and a kernel; an error where PyTorch is, or a value is wrong."""
    if find_spec("torch") is not None:
        sys.exit("torch is installed; this is for an environment without it")
    call = np.load(folder / CALL)
    y = ablation_executor.load(folder / PROGRAM)(call["x"])
    # Sums of at most 256 products of numbers about 1
    np.testing.assert_allclose(y, call["y"], rtol=1e-4, atol=1e-5)
    probabilities = ablation_kernels.softmax(call["x"])
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, rtol=1e-5)
    print(f"Python {platform.python_version()} without torch: a saved program runs")


if __name__ == "__main__":
    {"save": save, "load": load}[sys.argv[1]](Path(sys.argv[2]))

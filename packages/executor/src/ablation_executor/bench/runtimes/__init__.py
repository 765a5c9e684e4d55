"""The runtimes that a suite can have a PyTorch module run by: a line and an adapter file for each.

Nothing here imports a runtime; an adapter does so in the worker process that it is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .adapter import Adapter

INSTALL_COMMAND = 'pip install "ablation-executor[baselines]"'


@dataclass(frozen=True)
class Runtime:
    """One runtime.

    `adapter` is a module of this package with a class `Adapter(name, threads)`. `origin` says whose
    code computes. `distributions` are those it cannot do without. `weights_copies` is how often a
    worker holds the weights once they are loaded. `takes_function` is True where it runs a function
    that the suite has besides the module.
    """

    name: str
    printed_name: str
    origin: str
    adapter: str
    distributions: tuple[str, ...]
    weights_copies: int = 1
    takes_function: bool = False


_ONNX = ("onnxruntime", "onnx", "onnxscript", "torch")

RUNTIMES: tuple[Runtime, ...] = (
    Runtime("torch", "PyTorch", "torch", "torch_eager", ("torch",)),
    Runtime("kernels", "ours", "ablation", "ours", ("torch",)),
    Runtime("numpy", "ours by NumPy", "numpy", "ours", ("torch",)),
    Runtime("torch-compile", "torch.compile", "inductor", "torch_compile", ("torch",)),
    Runtime("torch-compile-max", "torch.compile max", "inductor", "torch_compile", ("torch",), 2),
    Runtime("onnxruntime", "ONNX Runtime", "onnxruntime", "onnx_runtime", _ONNX, 2),
    Runtime("openvino", "OpenVINO", "openvino", "open_vino", ("openvino", "torch"), 2),
    Runtime("jax", "JAX jit", "jax", "jax_jit", ("jax", "jaxlib"), 1, takes_function=True),
)

BY_NAME: dict[str, Runtime] = {runtime.name: runtime for runtime in RUNTIMES}
# What a user would run instead of ours, besides PyTorch as it is.
OTHERS: tuple[Runtime, ...] = tuple(
    runtime for runtime in RUNTIMES if runtime.origin not in ("torch", "ablation", "numpy")
)
# Every distribution that a runtime needs, for the versions of a run.
DISTRIBUTIONS: tuple[str, ...] = tuple(
    dict.fromkeys(name for runtime in RUNTIMES for name in runtime.distributions)
)


@cache
def is_installed(distribution: str) -> bool:
    """Return whether a distribution is there, found without importing it."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def missing_reason(name: str) -> str | None:
    """Say why a runtime cannot run here, with the command that installs it.

    None when it can, and for a name that is no runtime's.
    """
    runtime = BY_NAME.get(name)
    missing = [part for part in runtime.distributions if not is_installed(part)] if runtime else []
    if not missing:
        return None
    return f"{', '.join(missing)} not installed: {INSTALL_COMMAND}"


def make_adapter(name: str, threads: int) -> Adapter:
    """Import the adapter of a runtime and make it, for a worker of its own."""
    module = import_module(f".{BY_NAME[name].adapter}", __name__)
    adapter: Adapter = module.Adapter(name, threads)
    return adapter

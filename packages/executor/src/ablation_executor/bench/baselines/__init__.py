"""The league: the runtimes that the block is compared with, a line and an adapter file for each.

Nothing here imports a runtime; an adapter does so in the worker process that it is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..worker import Runtime

INSTALL_COMMAND = 'pip install "ablation-executor[baselines]"'


@dataclass(frozen=True)
class Baseline:
    """One runtime of the league.

    `name` is the variant, its runtime and its worker; `adapter`, its executor in a row, is a module
    of this package with a class `Adapter(name, threads)`, a worker's `Runtime`. `module` is the
    block that it starts from, manual or sdpa. `distributions` are those it cannot do without.
    `weights_copies` is how often the worker holds the weights once they are loaded.
    """

    name: str
    printed_name: str
    adapter: str
    module: str
    distributions: tuple[str, ...]
    weights_copies: int


_ONNX = ("onnxruntime", "onnx", "onnxscript", "torch")

BASELINES: tuple[Baseline, ...] = (
    Baseline("torch-compile", "torch.compile", "torch_compile", "sdpa", ("torch",), 1),
    Baseline("torch-compile-max", "torch.compile max", "torch_compile", "sdpa", ("torch",), 2),
    Baseline("onnxruntime", "ONNX Runtime", "onnx_runtime", "sdpa", _ONNX, 2),
    Baseline("openvino", "OpenVINO", "open_vino", "sdpa", ("openvino", "torch"), 2),
    Baseline("jax", "JAX jit", "jax_jit", "manual", ("jax", "jaxlib"), 1),
)

BY_NAME: dict[str, Baseline] = {baseline.name: baseline for baseline in BASELINES}
BASELINE_NAMES: tuple[str, ...] = tuple(BY_NAME)
# Every distribution that a baseline needs, for the versions of a run.
DISTRIBUTIONS: tuple[str, ...] = tuple(
    dict.fromkeys(name for baseline in BASELINES for name in baseline.distributions)
)


@cache
def is_installed(distribution: str) -> bool:
    """Whether a distribution is there, found without importing it."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def missing_reason(name: str) -> str | None:
    """Why a runtime cannot run here, with the command that installs it.

    None when it can, and for a name that is no baseline's.
    """
    baseline = BY_NAME.get(name)
    missing = (
        [part for part in baseline.distributions if not is_installed(part)] if baseline else []
    )
    if not missing:
        return None
    return f"{', '.join(missing)} not installed: {INSTALL_COMMAND}"


def weights_copies(runtime: str) -> int:
    """How often the worker of a runtime holds the weights; once if it is no baseline's."""
    baseline = BY_NAME.get(runtime)
    return baseline.weights_copies if baseline else 1


def make_runtime(name: str, threads: int) -> Runtime:
    """Import the adapter of a baseline and make its runtime, for a worker of its own."""
    adapter = import_module(f".{BY_NAME[name].adapter}", __name__)
    runtime: Runtime = adapter.Adapter(name, threads)
    return runtime

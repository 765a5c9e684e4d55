"""One call that says what this project does with a module: `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .bench.compared import Compared


def compare(
    module: torch.nn.Module,
    inputs: Any,
    *,
    torch_compile: bool = False,
    threads: int | None = None,
    time_s: float = 5.0,
) -> Compared:
    """Time a module under PyTorch eager and under our tuned default, in turns, in this process.

    Args:
        module: a module in eval mode, float32, on the CPU. It is not changed.
        inputs: a tensor, a tuple of the arguments of forward, or a dict of its keyword arguments.
            Tensors are float32, bool or integers, on the CPU; all shapes are fixed.
        torch_compile: measure `torch.compile` of the module, too.
        threads: threads of each variant; None takes `ablation_kernels.get_num_threads()`.
        time_s: seconds that the rounds take. At least six rounds are made, so that a module of long
            calls takes more.

    Returns:
        The times in nanoseconds, ratios to PyTorch eager with their intervals and verdicts, errors
        against the module in float64, the parts of a call, and the rewrites that were refused.
        `print` shows it as tables.

    Raises:
        TypeError: an argument of another type.
        ValueError: an argument that no variant takes; the message names it and what is accepted. A
            module that has calls outside our op set is no error: the result lists these calls.
        ImportError: the extra `bench` is not installed.

    The module, its copy in float64 while the reference is computed, and two programs of ours are in
    memory. The bench, `ablation-bench --module`, measures each runtime in a process of its own and
    writes rows; its times are to be preferred where both can be had.
    """
    try:
        from .bench.in_process import measured
    except ModuleNotFoundError as error:
        raise ImportError(
            f"compare needs {error.name}: pip install 'ablation-executor[bench]'"
        ) from error
    return measured(module, inputs, torch_compile, threads, time_s)

"""What keeps PyTorch's implementations from running here, the same for every suite."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

from .case import Case
from .suite import Implementation, Refusal

COMPILERS = ("g++", "clang++")


def torch_refusal(implementation: Implementation, case: Case) -> Refusal | None:
    """PyTorch is not here, or what torch.compile needs on a CPU; None if all is there."""
    if find_spec("torch") is None:
        return Refusal("unsupported", "no_torch", "PyTorch is not installed")
    is_compiled = implementation.origin == "inductor"
    if is_compiled and case.device == "cpu" and not any(map(shutil.which, COMPILERS)):
        needed = " nor ".join(COMPILERS)
        text = f"torch.compile needs a C++ compiler, and neither {needed} is here"
        return Refusal("unsupported", "no_compiler", text)
    return None

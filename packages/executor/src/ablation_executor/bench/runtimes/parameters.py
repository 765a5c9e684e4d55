"""Parameters of PyTorch modules as NumPy arrays over the same memory."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from ...constants import frozen
from .adapter import Array


def load_weights(module: nn.Module, weights: Mapping[str, Array]) -> None:
    """Make the module's parameters share the memory of these arrays (no copy)."""
    with warnings.catch_warnings():
        # Of arrays that a graph owns: they are read-only, and a module in eval mode only reads.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        state = {name: torch.from_numpy(array) for name, array in weights.items()}
    module.load_state_dict(state, strict=True, assign=True)


def take_weights(module: nn.Module) -> dict[str, Array]:
    """The module's parameters as arrays that `export` takes without a copy; the module reads them.

    They are read-only: nobody may train the module afterwards. Takes the memory of one parameter
    more while it works.
    """
    weights: dict[str, Array] = {}
    for name, parameter in module.named_parameters():
        array = np.array(parameter.detach().numpy())
        parameter.data = torch.from_numpy(array)
        weights[name] = frozen(array)
    return weights

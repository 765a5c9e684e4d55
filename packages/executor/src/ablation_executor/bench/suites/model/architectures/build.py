"""What a builder gives, random weights, and the layers of a model as a module of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Built:
    """A module in eval mode, and its example inputs."""

    module: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


def draw_weights(module: nn.Module) -> None:
    """Draw every parameter from PyTorch's generator.

    Matrices have variance 1 / inputs, so that activations stay of order one. To the vectors, biases
    and the weights of norms, 0.1 of a normal number is added: none can be left out unnoticed.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * torch.randn(parameter.shape))
            else:
                n_inputs = parameter[0].numel()
                parameter.normal_(std=n_inputs**-0.5)


class Layers(nn.Module):
    """Layers of a model one after another, each with what the model gave it besides its input.

    Tensors that it gave (masks, tables of rotary embeddings) are constants of the module: a model
    makes them once for all of its layers.
    """

    def __init__(self, layers: Sequence[nn.Module], calls: Sequence[tuple[Any, Any]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self._calls: list[tuple[list[Any], Any, list[int]]] = []
        for index, given in enumerate(calls):
            leaves, spec = pytree.tree_flatten(given)
            places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
            for place in places:
                self.register_buffer(f"given_{index}_{place}", leaves[place].clone())
            kept = [None if i in places else leaf for i, leaf in enumerate(leaves)]
            self._calls.append((kept, spec, places))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, ...) -> the same shape, float32."""
        for index, layer in enumerate(self.layers):
            kept, spec, places = self._calls[index]
            leaves = list(kept)
            for place in places:
                leaves[place] = getattr(self, f"given_{index}_{place}")
            args, kwargs = pytree.tree_unflatten(leaves, spec)
            result = layer(x, *args, **kwargs)
            x = result if isinstance(result, torch.Tensor) else result[0]
        return x


def layers_of(model: nn.Module, layers: Sequence[nn.Module], inputs: Built) -> Built:
    """Return the layers of a model, and the tensor that the first one got in a call of the model.

    ValueError where a layer is not called with a tensor first.
    """
    seen: list[tuple[torch.Tensor, Any]] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if args:
            first, *rest = args
        else:
            kwargs = dict(kwargs)
            first, rest = kwargs.pop("hidden_states"), []
        if not isinstance(first, torch.Tensor):
            raise ValueError(f"a layer was called with a {type(first).__name__} first")
        seen.append((first, (tuple(rest), kwargs)))

    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    with torch.no_grad():
        model(*inputs.args, **inputs.kwargs)
    for hook in hooks:
        hook.remove()
    module = Layers(layers, [call for _, call in seen]).eval()
    return Built(module, (torch.randn(seen[0][0].shape),))


def token_ids(vocabulary: int, batch: int, length: int) -> torch.Tensor:
    """Return random token ids (batch, length), int64."""
    return torch.randint(vocabulary, (batch, length))

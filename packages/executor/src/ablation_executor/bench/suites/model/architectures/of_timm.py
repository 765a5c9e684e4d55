"""Vision transformers of timm, made without weights of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .build import Built, draw_weights, layers_of
from .timm_import import load_timm

if TYPE_CHECKING:
    from . import Request


def build(request: Request) -> Built:
    """Make the whole model, or its first blocks; Swin's layers are pairs, of which every second
    one has shifted windows."""
    timm, settings = load_timm(), dict(request.settings)
    # Swin's windows with a bias count as experimental there
    timm.layers.set_fused_attn(request.attention == "sdpa", request.attention == "sdpa")
    name = settings.pop("_model")
    is_swin = request.family == "swin"
    depth: Any = request.layers
    if is_swin:
        depth = _swin_depths(request.layers)
        heads, width = settings.pop("num_heads", (3, 6, 12, 24)), settings.pop("embed_dim", 96)
        settings |= {"num_heads": heads[: len(depth)], "embed_dim": width}
    key = "depths" if is_swin else "depth"
    model = timm.create_model(name, pretrained=False, **settings, **{key: depth}).eval()
    draw_weights(model)
    size = settings["img_size"]
    inputs = Built(model, (torch.randn(request.batch, 3, size, size),))
    if request.is_whole:
        return inputs
    blocks = model.layers[0].blocks if is_swin else model.blocks
    return layers_of(model, list(blocks)[: request.layers], inputs)


def _swin_depths(layers: int) -> tuple[int, ...]:
    """Return the blocks of each stage: 2, 2, 6, 2 of the whole model, or fewer."""
    depths: list[int] = []
    for most in (2, 2, 6, 2):
        taken = min(most, layers - sum(depths))
        if taken > 0:
            depths.append(taken)
    return tuple(depths)

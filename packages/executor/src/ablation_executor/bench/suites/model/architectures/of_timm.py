"""Vision transformers of timm, made without weights of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .build import Built, draw_weights, layers_of
from .timm_import import load_timm

if TYPE_CHECKING:
    from . import Architecture


def build(
    architecture: Architecture,
    *,
    layers: int,
    is_whole: bool,
    settings: dict[str, Any],
    batch: int,
    length: int,
    attention: str,
) -> Built:
    """Make the whole model, or its first blocks; Swin's layers are pairs, of which every second
    one has shifted windows."""
    timm = load_timm()
    # Swin's windows with a bias count as experimental there
    timm.layers.set_fused_attn(attention == "sdpa", attention == "sdpa")
    name = settings.pop("_model")
    is_swin = architecture.family == "swin"
    depth: Any = layers
    if is_swin:
        depth = _swin_depths(layers)
        heads, width = settings.pop("num_heads", (3, 6, 12, 24)), settings.pop("embed_dim", 96)
        settings |= {"num_heads": heads[: len(depth)], "embed_dim": width}
    key = "depths" if is_swin else "depth"
    model = timm.create_model(name, pretrained=False, **settings, **{key: depth}).eval()
    draw_weights(model)
    inputs = Built(model, (torch.randn(batch, 3, settings["img_size"], settings["img_size"]),))
    if is_whole:
        return inputs
    blocks = model.layers[0].blocks if is_swin else model.blocks
    return layers_of(model, list(blocks)[:layers], inputs)


def _swin_depths(layers: int) -> tuple[int, ...]:
    """Return the blocks of each stage: 2, 2, 6, 2 of the whole model, or fewer."""
    depths: list[int] = []
    for most in (2, 2, 6, 2):
        taken = min(most, layers - sum(depths))
        if taken > 0:
            depths.append(taken)
    return tuple(depths)

"""Models of transformers, made from their configuration: no file of weights is looked for."""

from __future__ import annotations

import os
from operator import attrgetter
from typing import TYPE_CHECKING, Any

# Before the library is imported, which reads it once
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

from .build import Built, draw_weights, layers_of, token_ids

if TYPE_CHECKING:
    from . import Request

# A narrow vocabulary lacks the token ids that a configuration names; no text is made here
transformers.logging.set_verbosity_error()
# What a class of models is called, and its list of layers, where a configuration says nothing else.
USUAL = {
    "layers": "layers",
    "count": "num_hidden_layers",
    "model": "Model",
    "whole": "ForCausalLM",
    "inputs": "tokens",
    "module": "",
}
# A single layer reads no token.
FEW_TOKENS = 512


def build(request: Request) -> Built:
    """Make the whole model, or its first layers."""
    settings = dict(request.settings)
    told = {**USUAL, **{key[1:]: settings.pop(key) for key in list(settings) if key[0] == "_"}}
    library: Any = transformers
    if told["module"]:
        library = attrgetter(told["module"])(transformers)
    kind = told["kind"]
    if not request.is_whole and "vocab_size" in settings:
        settings["vocab_size"] = min(settings["vocab_size"], FEW_TOKENS)
    config = _config(kind, told, {**settings, told["count"]: request.layers}, request.length)
    made = getattr(library, kind + told["whole" if request.is_whole else "model"])
    model = made._from_config(config, attn_implementation=request.attention).float().eval()
    draw_weights(model)
    inputs = Built(model, **_inputs(told["inputs"], config, request.batch, request.length))
    if request.is_whole:
        return inputs
    return layers_of(model, list(attrgetter(told["layers"])(model)), inputs)


def _config(kind: str, told: dict[str, Any], settings: dict[str, Any], length: int) -> Any:
    """Return the configuration, with room for the sequence."""
    config_class = getattr(transformers, f"{told.get('config', kind)}Config")
    rope = {key: told[key] for key in ("rope_theta", "partial_rotary_factor") if key in told}
    if rope:
        settings["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, **rope}
    config = config_class(**settings)
    room = next((n for n in ("max_position_embeddings", "n_positions") if hasattr(config, n)), None)
    # RoBERTa counts positions from behind its padding token
    if room is not None and getattr(config, room) < length + 2:
        setattr(config, room, length + 2)
    return config


def _inputs(kind: str, config: Any, batch: int, length: int) -> dict[str, Any]:
    """Return the arguments of a call."""
    if kind == "image":
        size = config.image_size
        return {"kwargs": {"pixel_values": torch.randn(batch, 3, size, size)}}
    if kind == "sound":
        frames = 2 * config.max_source_positions
        return {"args": (torch.randn(batch, config.num_mel_bins, frames),)}
    ids = token_ids(config.vocab_size, batch, length)
    others = {"use_cache": False} if hasattr(config, "use_cache") else {}
    return {"kwargs": {"input_ids": ids, **others}}

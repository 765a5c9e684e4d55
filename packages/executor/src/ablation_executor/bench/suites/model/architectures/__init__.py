"""The architectures that `--model` knows: 29 models of 23 families, by their sizes alone.

A model is made from its configuration with random weights; nothing is downloaded. Nothing here
imports a framework: `build` does, in the process that makes the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .sizes import CONFIGURATIONS

if TYPE_CHECKING:
    from .build import Built

SDPA, EAGER = "sdpa", "eager"
ATTENTIONS = (SDPA, EAGER)
REAL, SMALL = "real", "small"
SIZES = (REAL, SMALL)
DEFAULT_LENGTH, MAX_LENGTH = 128, 1 << 17
# What a source of models needs, by distribution, and how it is installed.
SOURCES: Mapping[str, tuple[str, str]] = {
    "transformers": ("transformers", 'pip install "ablation-executor[models]"'),
    "timm": ("timm", "pip install --no-deps timm (torchvision is not needed)"),
    "torch": ("torch", 'pip install "ablation-executor[bench]"'),
}


@dataclass(frozen=True)
class Architecture:
    """One model: `settings` are those of its configuration, `small` replaces some for a narrow
    model of the same structure. `source` is whose code it is, "torch" for torch.nn and our own.

    `n_layers` and `width` are those of the whole model. `has_length` is True where the length of
    the sequence can be chosen; an image or a piece of sound has one of its own.
    """

    name: str
    family: str
    source: str
    builder: str
    n_layers: int
    width: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    has_length: bool = True
    attentions: tuple[str, ...] = ATTENTIONS

    def configured(self, size: str) -> dict[str, Any]:
        """Return the settings at a size."""
        return {**self.settings, **(self.small if size == SMALL else {})}

    def build(
        self, *, layers: int, is_whole: bool, size: str, batch: int, length: int, attention: str
    ) -> Built:
        """Make the module, with random weights of PyTorch's generator, and its inputs."""
        module = import_module(f"{__name__}.{self.builder}")
        settings = self.configured(size)
        request = Request(self.family, layers, is_whole, settings, batch, length, attention)
        built: Built = module.build(request)
        return built


@dataclass(frozen=True)
class Request:
    """What a builder makes: the whole model or its first `layers` alone, by `settings` of its
    configuration, with `attention` sdpa or eager."""

    family: str
    layers: int
    is_whole: bool
    settings: Mapping[str, Any]
    batch: int
    length: int
    attention: str


ARCHITECTURES: tuple[Architecture, ...] = tuple(
    Architecture(**configuration) for configuration in CONFIGURATIONS
)
BY_NAME: Mapping[str, Architecture] = {one.name: one for one in ARCHITECTURES}
NAMES: tuple[str, ...] = tuple(BY_NAME)
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(one.family for one in ARCHITECTURES))

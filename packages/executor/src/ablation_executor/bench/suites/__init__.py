"""The registry of suites, a line each. Importing it loads no suite and no framework."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..suite import Suite

DEFAULT = "block"
# The name of a suite to the package below this one whose attribute SUITE is the suite.
SUITES: dict[str, str] = {
    DEFAULT: "block",
    "attribution": "attribution",
    "model": "model",
    "attention-sweep": "attention_sweep",
    "lm-step": "lm_step",
    "attention-backward": "attention_backward",
    "attention-parts": "attention_parts",
}
# The options of a suite that name it by themselves.
IMPLIED: dict[str, str] = {"module": "model", "model": "model", "list_models": "model"}


def find_suite(name: str) -> Suite:
    """Import the suite of exactly this name; KeyError if there is none."""
    suite: Suite = import_module(f".{SUITES[name]}", __name__).SUITE
    return suite

"""Findings of lm-step: the size that a name stands for, and the parts of a step."""

from __future__ import annotations

SUITE = "lm-step"

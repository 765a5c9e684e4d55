"""A small case, and PyTorch on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ablation_executor.bench.case import Case, make_case


def small_case(**changes: Any) -> Case:
    """A model of 23 000 parameters, on one thread."""
    parameters = {"size": "test", "d_ff": 48, "layers": 2, "vocab": 61, "autocast": "none"}
    shape = (2, 2, 24, 24, 16)
    return make_case("lm-step", "tiny", shape, causal=True, **{**parameters, **changes})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: at these sizes others would only be waited for."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

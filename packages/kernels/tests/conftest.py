"""Fixtures of all kernel tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

import ablation_kernels

# Text has the width that a test gives it: processes of pytest-xdist start with one of their own
os.environ.pop("COLUMNS", None)

#: More than one on any machine, so that parallel kernels really split; odd, so that ranges differ.
THREADS = 3


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    """Every test starts with the same number of threads."""
    before = ablation_kernels.get_num_threads()
    ablation_kernels.set_num_threads(THREADS)
    yield THREADS
    ablation_kernels.set_num_threads(before)


@pytest.fixture
def random() -> np.random.Generator:
    """The same numbers in every run, other ones for every array."""
    return np.random.default_rng(20260731)

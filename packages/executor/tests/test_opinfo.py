"""A short run of PyTorch's own samples; `opinfo.py` on the command line runs all of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("expecttest", reason="PyTorch's samples need expecttest")

import opinfo

#: As many of the ops as take half a minute on two cores.
OPS = 40


def test_samples_of_supported_ops_are_right_or_refused() -> None:
    """One sample of each supported op and type, in an order that the seed draws."""
    ops = [op for op in opinfo.all_ops() if opinfo.is_supported(op)]
    chosen = np.random.default_rng(1).permutation(len(ops))[:OPS]
    tally = opinfo.run([ops[i] for i in chosen], 1, 1, special=True)
    assert not tally.wrong, "\n".join(tally.wrong)
    assert tally.right.total() > tally.refused.total(), tally

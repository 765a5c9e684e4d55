"""A short run of ONNX's own test cases; `onnx_nodes.py` on the command line runs all of them."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="the cases of nodes come with onnx")

import onnx_nodes

#: One case of so many: as many as take half a minute on two cores.
EVERY = 20


def test_cases_of_nodes_are_right_or_refused() -> None:
    tally = onnx_nodes.run(onnx_nodes.cases()[::EVERY])
    assert not tally.wrong, "\n".join(tally.wrong)
    assert tally.right.total() > tally.refused.total(), tally
    assert len(tally.right) >= 25, tally

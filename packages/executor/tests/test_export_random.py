"""A short run of random modules; `random_modules.py` on the command line runs as many as wanted."""

from __future__ import annotations

import pytest
import random_modules

#: As many as take twenty seconds on two cores.
COUNTS = {"transformers": 8, "calls": 12}


@pytest.mark.parametrize("kind", COUNTS)
def test_random_modules_are_right_or_refused(kind: str) -> None:
    tally = random_modules.run([kind], range(COUNTS[kind]))
    assert not tally.wrong and not tally.invalid, tally
    assert tally.count("right") >= COUNTS[kind] // 2, tally


def test_random_modules_under_torch_compile() -> None:
    tally = random_modules.run(["transformers"], range(100, 102), backend=True)
    assert not tally.wrong and tally.count("right") == 2, tally

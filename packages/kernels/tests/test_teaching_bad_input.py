"""Bad calls of the teaching set, each with its argument named; scratch that does not fit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from harness import Float32

import ablation_kernels
from ablation_kernels import teaching


def zeros(*shape: int) -> Float32:
    return np.zeros(shape, np.float32)


GOOD = zeros(1, 2, 5, 4)
BAD: list[tuple[str, type[Exception], dict[str, Any], str]] = [
    ("q", ValueError, {"q": zeros(2, 5, 4)}, "(2, 5, 4)"),
    ("q", ValueError, {"q": zeros(1, 2, 0, 4)}, "(1, 2, 0, 4)"),
    ("q", TypeError, {"q": None}, "float32 array"),
    ("q", TypeError, {"q": GOOD.astype(np.float64)}, "float64"),
    ("q", ValueError, {"q": zeros(1, 2, 4, 5).swapaxes(2, 3)}, "contiguous"),
    ("k", TypeError, {"k": GOOD.astype(np.int32)}, "int32"),
    ("k", ValueError, {"k": zeros(1, 2, 6, 4), "v": zeros(1, 2, 6, 4)}, "as many keys as queries"),
    ("k", ValueError, {"k": zeros(1, 3, 5, 4)}, "(1, 3, 5, 4)"),
    ("v", ValueError, {"v": zeros(1, 2, 5, 3)}, "(1, 2, 5, 3)"),
    ("v", TypeError, {"v": [1.0]}, "list"),
    ("form", ValueError, {"form": "flashy"}, "'naive', 'blocked', 'fused_row', 'flash'"),
    ("form", TypeError, {"form": None}, "NoneType"),
    ("softmax", ValueError, {"softmax": "online"}, "'safe', 'unsafe'"),
    ("softmax", TypeError, {"softmax": True}, "bool"),
    ("block_q", ValueError, {"block_q": 0}, "is 0"),
    ("block_q", ValueError, {"block_q": 2**31}, str(2**31)),
    ("block_q", TypeError, {"block_q": 16.0}, "float"),
    ("block_k", ValueError, {"block_k": -1}, "is -1"),
    ("block_k", TypeError, {"block_k": None}, "NoneType"),
    ("block_k", TypeError, {"block_k": True}, "bool"),
    ("scale", TypeError, {"scale": "1"}, "str"),
    ("scale", TypeError, {"scale": True}, "bool"),
    ("scale", ValueError, {"scale": float("nan")}, "nan"),
    ("scale", ValueError, {"scale": 1e39}, "1e+39"),
    ("threads", ValueError, {"threads": 0}, "is 0"),
    ("threads", ValueError, {"threads": 4}, "1 to 3"),  # the fixture's get_num_threads() is 3
    ("threads", TypeError, {"threads": 1.0}, "float"),
    ("spans", TypeError, {"spans": 1}, "int"),
    ("out", ValueError, {"out": zeros(1, 2, 5, 5)}, "(1, 2, 5, 5)"),
    ("out", TypeError, {"out": GOOD.astype(np.float64)}, "float64"),
    ("out", ValueError, {"out": GOOD}, "overlaps"),
]  # fmt: skip


@pytest.mark.parametrize(
    "argument,kind,keywords,given", BAD, ids=[f"{a}-{i}" for i, (a, *_) in enumerate(BAD)]
)
def test_bad_calls_name_argument_given_and_accepted(
    argument: str, kind: type[Exception], keywords: dict[str, Any], given: str
) -> None:
    call: dict[str, Any] = {"q": GOOD, "k": GOOD.copy(), "v": GOOD.copy(), "form": "flash"}
    with pytest.raises(kind) as caught:
        teaching.attention(**{**call, **keywords})
    text = str(caught.value)
    assert f"'{argument}'" in text and given in text and "accepted: " in text, text


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 2, 0, 4)])
def test_formula_of_a_bad_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"'shape' is .*accepted"):
        teaching.scratch_formula_bytes(shape, "naive")


def test_sequences_beyond_the_limit() -> None:
    x = zeros(1, 1, 2**24 + 1, 1)
    with pytest.raises(ValueError, match=r"'q'.*at most 16777216"):
        teaching.attention(x, x, x, "fused_row")


OUT_OF_MEMORY = """
import resource
import numpy as np
from ablation_kernels import teaching
x = np.zeros((1, 1, 2**15, 1), np.float32)
resource.setrlimit(resource.RLIMIT_DATA, (2**30, resource.RLIM_INFINITY))
try:
    teaching.attention(x, x, x, "naive")
except MemoryError:
    print("MemoryError")
x = x[:, :, :5]
print(teaching.attention(x, x, x, "naive").scratch_bytes)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or ablation_kernels.build_info()["sanitizer"] != "none",
    reason="a limit on data, which a sanitizer's own memory would pass",
)
def test_scratch_that_does_not_fit() -> None:
    """4 GiB of scores under a limit of 1 GiB; the next call works."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["MemoryError", "100"], done.stderr

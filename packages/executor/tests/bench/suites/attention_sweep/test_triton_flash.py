"""The Triton kernel, by Triton's interpreter; skipped where Triton is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

PROGRAM = """
import torch
from ablation_executor.bench.suites.attention.check import check_case, factor_of, limits_of
from ablation_executor.bench.case import make_case
from ablation_executor.bench.suites.attention.triton_flash import flash_forward

TYPES = {"float32": torch.float32, "float16": torch.float16}

def attend(case, inputs):
    tensors = [torch.from_numpy(array).to(TYPES[case.dtype]) for array in inputs]
    o, lse = flash_forward(*tensors, causal=case.causal, scale=case.scale)
    outputs = {"o": o.float().numpy()}
    if case.dtype == "float32":
        outputs["lse"] = lse.numpy()
    return tuple(tensor.float().numpy() for tensor in tensors), outputs

for dtype in TYPES:
    for causal in (False, True):
        for lengths in ((100, 100, 32), (128, 128, 16), (40, 70, 24), (1, 65, 16)):
            shape = (1, 2, *lengths)
            case = make_case("attention-sweep", "test", shape, dtype=dtype, causal=causal)
            for one in (case, case.with_sizes(gain=30.0)):
                verdict = check_case(attend, one, 0, limits_of(dtype, True, factor_of(one)))
                assert verdict.reason is None, (one.label, verdict.reason)
try:
    flash_forward(*[torch.zeros(1, 1, 4, 16, dtype=torch.bfloat16)] * 3, causal=False, scale=1.0)
except ValueError as error:
    assert "torch.bfloat16; accepted: torch.float32, torch.float16" in str(error)
else:
    raise AssertionError("bfloat16 was taken")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
def test_it_agrees_with_the_reference() -> None:
    # The interpreter is chosen when the kernel's module is imported
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr

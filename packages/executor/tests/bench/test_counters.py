"""The counters of the block's programs are those that are recorded: a pass that stops firing, or
fires elsewhere, fails here by the name of its factor.

After a change that is meant, record them anew: the command is `COMMAND`, with ABLATION_SIMD=avx2
and `--out data/counters/avx2`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import ablation_kernels
from ablation_executor import passes
from ablation_executor.bench import command, options
from ablation_executor.bench.suites import attribution
from ablation_executor.bench.suites.attribution import planning
from ablation_report.__main__ import main as report

REFERENCE = Path(__file__).parents[4] / "data" / "counters" / "avx2"
FACTORS = "folding,adds,attention,packed_weights,layout,shared_joins"
COMMAND = (
    *("--suite", "attribution", "--counters-only", "--configs", "Toy,GPT-2"),
    *("--threads", "2", "--factors", FACTORS),
)

needs_two_threads = pytest.mark.skipif(options.max_threads() < 2, reason="needs two processors")


@needs_two_threads
@pytest.mark.skipif(
    "avx2" not in ablation_kernels.build_info()["isa_available"], reason="needs AVX2"
)
def test_counters_are_those_recorded(tmp_path: Path, capsys: Any) -> None:
    words = [sys.executable, "-m", "ablation_executor.bench", *COMMAND]
    done = subprocess.run(
        [*words, "--out", str(tmp_path / "run")],
        env={**os.environ, "ABLATION_SIMD": "avx2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    status = report(["counters", str(REFERENCE), str(tmp_path / "run")])
    assert status == 0, capsys.readouterr().out


def _planned_here(cases: Any, limit: int, seed: int) -> Any:
    return {case.label: planning.plan_case(case, limit, seed) for case in cases}


def _count(out: Path, patch: pytest.MonkeyPatch) -> Path:
    """Count the programs of Toy in this process, whose passes a test may change."""
    patch.setattr(attribution, "plans_of", _planned_here)
    words = ["--suite", "attribution", "--counters-only", "--configs", "Toy", "--threads", "2"]
    words += ["--factors", "folding,adds,attention,layout"]
    assert command.main([*words, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        return _count(tmp_path_factory.mktemp("counters") / "whole", patch)


@needs_two_threads
@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("merge_qkv", "Layout (merged QKV): fires no longer"),
        ("direct_layout", "Layout (direct): fires no longer"),
        ("fuse_attention", "Attention (fused)"),
        ("fuse_matmul_add", "Fused adds"),
        ("absorb_into_matmul", "Folding"),
    ],
)
def test_a_pass_that_stops_firing_is_named(
    name: str,
    factor: str,
    whole: Path,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(passes.PASSES, name, lambda graph, log: graph)
    broken = _count(tmp_path / "broken", monkeypatch)
    capsys.readouterr()
    assert report(["counters", str(whole), str(broken)]) == 1
    assert factor in capsys.readouterr().out

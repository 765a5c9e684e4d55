"""The same tests on every instruction set of this machine, each forced in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ablation_kernels

HERE = Path(__file__).parent
INFO = ablation_kernels.build_info()
#: What the tests around this one do not already run on.
OTHERS = [name for name in INFO["isa_available"] if name != INFO["isa_used"]]
#: Where vectors are used; scalar kernels and copies are the same on every set.
FILES = (
    "test_elementwise.py",
    "test_softmax.py",
    "test_layer_norm.py",
    "test_rms_norm.py",
    "test_rotary.py",
    "test_reduce.py",
    "test_attention.py",
    "test_attention_backward.py",
    "test_attention_hidden_tiles.py",
    "test_attention_one_array.py",
    "test_attention_shared_keys.py",
    "test_matmul_packed.py",
    "test_matmul_strassen.py",
)


def run(arguments: list[str], simd: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ABLATION_SIMD": simd}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment, capture_output=True, text=True, timeout=300, cwd=HERE,
    )  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_suite_on_instruction_set(name: str) -> None:
    done = run(
        ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "simd", *FILES], simd=name
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("name", INFO["isa_available"])
def test_build_info_tells(name: str) -> None:
    code = (
        "import ablation_kernels as k; i = k.build_info(); t = [r for r in k.op_table() if r.simd];"
        " print(i['simd'], i['isa_used'],"
        " *{r.provider.split('+')[0] for r in t if r.op != 'matmul' and r.gemm != 'packed'},"
        " *{r.provider.split('+')[0] for r in t if r.gemm == 'packed'})"
    )
    done = run(["-c", code], simd=name)
    assert done.returncode == 0, done.stderr
    *used, packed = done.stdout.split()
    assert used == [name, name, name]
    assert packed == (INFO["isa_packed"] if name == "vdsp" else name)


@pytest.mark.skipif(INFO["blas"] != "openblas", reason="Accelerate chooses by itself")
@pytest.mark.parametrize("name", [n for n in INFO["isa_available"] if not n.startswith("neon")])
def test_products_follow_the_instruction_set(name: str) -> None:
    code = "import ablation_kernels as k; print(k.build_info()['blas_core'])"
    done = run(["-W", "error", "-c", code], simd=name)
    assert done.returncode == 0, done.stderr
    # Where 512-bit registers multiply no faster, AVX2 products serve AVX-512 machines too.
    accepted = {"avx512": {"SkylakeX", "Haswell"}, "avx2": {"Haswell"}, "baseline": {"Nehalem"}}
    if INFO["blas_core_wanted"]:
        assert done.stdout.strip() in accepted[name]


@pytest.mark.skipif(not INFO["blas_core_wanted"], reason="the library's own choice stands here")
def test_a_library_loaded_before_is_told() -> None:
    code = "import scipy_openblas32, ablation_kernels as k; print(k.build_info()['blas_core'])"
    environment = {**os.environ, "ABLATION_SIMD": "baseline", "OPENBLAS_CORETYPE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() != "Nehalem"
    assert "import ablation_kernels first" in done.stderr


@pytest.mark.parametrize("name", ["avx1024", "AVX2 ", "none"])
def test_unknown_name(name: str) -> None:
    done = run(["-c", "import ablation_kernels"], simd=name)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ABLATION_SIMD" in last and f"'{name}'" in last
    assert all(available in last for available in INFO["isa_available"])


def test_built_sets_that_this_machine_lacks_are_refused() -> None:
    for name in set(INFO["isa_built"]) - set(INFO["isa_available"]):
        done = run(["-c", "import ablation_kernels"], simd=name)
        assert done.returncode == 1 and "ABLATION_SIMD" in done.stderr


def test_the_best_available_is_used() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "ABLATION_SIMD"}
    code = (
        "import ablation_kernels as k;"
        " print(*map(k.build_info().get, ('isa_used', 'isa_available')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == f"{INFO['isa_available'][0]} {INFO['isa_available']}"

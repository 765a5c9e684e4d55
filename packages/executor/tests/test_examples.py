"""The examples of the READMEs, of the quick start and of the page on extensions run as printed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
RUNNER = ROOT / ".ci" / "run_examples.py"
PAGES = (
    "packages/kernels/README.md",
    "packages/executor/README.md",
    "docs/quick-start.md",
    "docs/extend.md",
)
CORE = ROOT / "packages" / "kernels" / "csrc"
SOFTMAX_OF_ROWS = r"""
#include <cmath>
#include <cstdio>
#include "softmax/softmax.h"
int main() {
    float x[] = {1, 2, 3, 4, -1, 80, 79, -INFINITY};
    ablation::Call call;
    call.inputs[0].data = call.output.data = x;
    call.output.shape = {2, 4};
    ablation::softmax_online_scalar(call);
    for (float y : x) std::printf("%.9g ", y);
}
"""

pytestmark = pytest.mark.skipif(not RUNNER.is_file(), reason="no repository around this package")


def test_python_examples_run() -> None:
    pytest.importorskip("safetensors", reason="an example saves a program")
    command = [sys.executable, str(RUNNER), *(str(ROOT / page) for page in PAGES)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert all(f"examples of {page}" in ended.stdout for page in PAGES)
    assert "time / eager" in ended.stdout and "relu_of_relu fired 1 times" in ended.stdout


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_the_kernel_is_compiled_and_right(tmp_path: Path) -> None:
    """The example by itself, against its line in the list and the headers of the kernels."""
    page = (ROOT / "docs" / "extend.md").read_text()
    (line,) = re.findall(r"^KERNEL\(.*\)$", page, re.MULTILINE)
    (source,) = re.findall(r"^```cpp\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for folder in ("core", "softmax"):
        shutil.copytree(CORE / folder, tmp_path / folder)
    kernels = tmp_path / "core" / "kernels.def"
    last = next(x for x in kernels.read_text().splitlines() if x.startswith("KERNEL(softmax, "))
    kernels.write_text(kernels.read_text().replace(last, f"{line}\n{last}"))
    (tmp_path / "softmax" / "online_scalar.cpp").write_text(source)
    (tmp_path / "main.cpp").write_text(SOFTMAX_OF_ROWS)
    program = tmp_path / "program"
    subprocess.run(
        [
            *("c++", "-std=c++20", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}", "-o", program),
            *(tmp_path / "main.cpp", tmp_path / "softmax" / "online_scalar.cpp"),
        ],
        check=True,
    )
    told = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    rows = [[1.0, 2.0, 3.0, 4.0], [-1.0, 80.0, 79.0, float("-inf")]]
    exact = np.exp(np.array(rows) - np.max(rows, axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    assert np.array(told.split(), float).reshape(2, 4) == pytest.approx(exact, rel=1e-6)

"""Which arrays are taken, without a copy: NumPy, DLPack, buffers, torch; sizes of 64 bits."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest
from harness import kernels_of, normal

import ablation_kernels


class OnlyDlpack:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, x: np.ndarray) -> None:
        self._x = x

    def __dlpack__(self, **keywords: Any) -> Any:
        return self._x.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_dlpack(random: np.random.Generator) -> None:
    x, out = normal(random, 5, 17), np.empty((5, 17), np.float32)
    expected = ablation_kernels.softmax(x)
    np.testing.assert_array_equal(ablation_kernels.softmax(OnlyDlpack(x)), expected)
    ablation_kernels.softmax(OnlyDlpack(x), out=OnlyDlpack(out))
    np.testing.assert_array_equal(out, expected)


def test_buffer_protocol() -> None:
    x = array.array("f", [-1.0, 0.5, 2.0])
    out = array.array("f", [9.0, 9.0, 9.0])
    ablation_kernels.relu(memoryview(x), out=out)
    assert list(out) == [0.0, 0.5, 2.0]
    np.testing.assert_array_equal(ablation_kernels.relu(x), [0.0, 0.5, 2.0])


def test_torch(random: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = normal(random, 3, 33)
    out = torch.empty(3, 33)
    result: Any = ablation_kernels.softmax(torch.from_numpy(x), out=out)
    assert result is out
    np.testing.assert_array_equal(out.numpy(), ablation_kernels.softmax(x))
    parameter = torch.nn.Parameter(torch.from_numpy(x))
    np.testing.assert_array_equal(ablation_kernels.relu(parameter.detach()), np.maximum(x, 0))


def test_read_only_inputs_are_taken(random: np.random.Generator) -> None:
    x = normal(random, 5, 17)
    expected = ablation_kernels.softmax(x)
    x.flags.writeable = False
    np.testing.assert_array_equal(ablation_kernels.softmax(x), expected)


def test_strides_of_axes_of_one_element_do_not_matter(random: np.random.Generator) -> None:
    x = normal(random, 1, 3, 1, 7)
    odd = np.lib.stride_tricks.as_strided(x, x.shape, (4, 28, 400, 4))
    np.testing.assert_array_equal(ablation_kernels.relu(odd), np.maximum(x, 0))


def test_out_is_returned_and_inputs_are_not_copied(random: np.random.Generator) -> None:
    x, out = normal(random, 5, 17), np.empty((5, 17), np.float32)
    assert ablation_kernels.relu(x, out=out) is out
    assert ablation_kernels.relu(x, out=x) is x
    np.testing.assert_array_equal(x, out)


def test_result_owns_its_memory(random: np.random.Generator) -> None:
    results = [ablation_kernels.relu(normal(random, 64, 64)) for _ in range(20)]
    copies = [result.copy() for result in results]
    for result, copy in zip(results, copies, strict=True):
        np.testing.assert_array_equal(result, copy)
        assert result.flags.writeable and result.flags.c_contiguous


@pytest.mark.parametrize("kernel", kernels_of("slice"))
def test_indices_pass_32_bits(kernel: str) -> None:
    """8 GiB of addresses of which a few pages are touched."""
    size = 2**31 + 1000
    try:
        x = np.zeros(size, np.float32)
    except MemoryError:
        pytest.skip("no address space for 8 GiB")
    x[-1], x[2**31] = 5, 7
    part = ablation_kernels.slice(x, 0, 2**31 - 3, size, kernel=kernel)
    assert part.shape == (1003,)
    assert part[3] == 7 and part[-1] == 5 and np.count_nonzero(part) == 2
    block = ablation_kernels.slice(x.reshape(-1, 8), 0, size // 8 - 1, size // 8, kernel=kernel)
    np.testing.assert_array_equal(block, [[0, 0, 0, 0, 0, 0, 0, 5]])

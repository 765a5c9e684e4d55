"""op_table, build_info, best_kernel, scratch_bytes; and every line of the table run once."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import EXAMPLES, Example, assert_within, example_of, function_of, guarded, joined

import ablation_kernels

TABLE = ablation_kernels.op_table()
LIST = Path(__file__).parents[1] / "csrc" / "core" / "kernels.def"
INFO = ablation_kernels.build_info()
OPS = sorted({info.op for info in TABLE})


def attributes_of(op: str, example: Example) -> dict[str, Any]:
    """The call's attributes, as the functions of the table want them."""
    if op == "permute":
        return {"perm": example.args[1]}
    if op == "slice":
        return dict(zip(("axis", "start", "stop"), example.args[1:], strict=True))
    if op == "take":
        return {"axis": example.args[2]}
    return {
        key: value for key, value in example.keywords.items() if not isinstance(value, np.ndarray)
    }


@pytest.mark.parametrize("info", TABLE, ids=[info.name for info in TABLE])
@pytest.mark.parametrize("short", [False, True])
def test_every_kernel_of_the_table(info: ablation_kernels.KernelInfo, short: bool) -> None:
    """By its full name and by the part after the op."""
    example = example_of(info.op)
    name = info.name.removeprefix(info.op + "_") if short else info.name
    keywords = {**example.keywords, "kernel": name}
    actual = guarded(info.op, example.expected.shape, *example.args, **keywords)
    assert_within(actual, example.expected, example.allowed)
    fresh = joined(function_of(info.op)(*example.args, **keywords))
    assert isinstance(fresh, np.ndarray)
    np.testing.assert_array_equal(fresh, actual)


def test_every_op_has_an_example_and_a_function() -> None:
    assert set(OPS) == set(EXAMPLES)
    assert all(callable(function_of(op)) for op in OPS)


@pytest.mark.parametrize("info", TABLE, ids=[info.name for info in TABLE])
def test_name_says_the_axes(info: ablation_kernels.KernelInfo) -> None:
    parts = info.name.removeprefix(info.op + "_").split("_")
    assert info.name.startswith(info.op + "_")
    assert info.parallel == ("parallel" in parts)
    assert f"_{info.form}_".replace("__", "_") in f"_{'_'.join(parts)}_"
    if "scalar" in parts:
        assert not info.simd and not info.parallel
    if "simd" in parts:
        assert info.simd
    assert info.gemm in ("none", "scalar", "blas", "packed")
    assert info.idea and info.idea == info.idea.strip()


@pytest.mark.parametrize("info", TABLE, ids=[info.name for info in TABLE])
def test_provider_is_what_this_machine_uses(info: ablation_kernels.KernelInfo) -> None:
    expected = [
        (INFO["simd"], info.simd and info.op != "matmul" and info.gemm != "packed"),
        (INFO["isa_packed"], info.gemm == "packed"),
        (INFO["parallel"], info.parallel),
        (INFO["blas"], info.gemm == "blas"),
    ]
    for provider, is_used in expected:
        if is_used:
            assert provider in info.provider


@pytest.mark.skipif(not LIST.exists(), reason="kernels.def is not beside these tests")
def test_table_is_the_list() -> None:
    line = re.compile(r'^KERNEL\((\w+), (\w+), "(\w*)", (\d), (\d), (\w+), \w+, "(.*)"\)$', re.M)
    expected = [
        (op, name, form, simd == "1", parallel == "1", gemm, idea)
        for op, name, form, simd, parallel, gemm, idea in line.findall(LIST.read_text())
    ]
    assert len(expected) > 30
    table = [(i.op, i.name, i.form, i.simd, i.parallel, i.gemm, i.idea) for i in TABLE]
    assert table == expected


@pytest.mark.parametrize("op", OPS)
def test_functions_have_the_attributes_and_defaults_of_the_list(op: str) -> None:
    info = ablation_kernels.ops()[op]
    signature = inspect.signature(getattr(ablation_kernels, op))
    defaults = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if name not in (*info.slots, "kernel", "out")
    }
    assert defaults == {
        name: inspect.Parameter.empty if attribute.is_required else attribute.default
        for name, attribute in info.attributes.items()
    }
    for name, attribute in info.attributes.items():
        assert attribute.name == name
        assert attribute.default is None or type(attribute.default) is attribute.type
        if attribute.choices and not attribute.is_required:
            assert attribute.default in attribute.choices


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("slice", {"axis": 0, "start": 0}, "slice: needs the attribute 'stop'"),
        ("permute", {}, "permute: needs the attribute 'perm'"),
        ("permute", {"perm": (0,) * 9}, "permute: argument 'perm' has 9 axes; accepted: at most 8"),
        ("take", {}, "take: needs the attribute 'axis'"),
        ("concat", {"axis": 3}, "concat: argument 'axis' is 3; accepted: an axis of x, which has"),
        ("relu", {"slope": 1.0}, "relu: has no attribute 'slope'; accepted: none"),
        ("rotary", {"layout": "qkv"}, "'layout' is 'qkv'; accepted: 'bhsd', 'bshd'"),
        ("matmul", {"beta": 1.0}, "'beta'; accepted: transpose_b alpha activation"),
        ("matmul", {"activation": "None"}, "'None'; accepted: None, 'relu', 'gelu', 'gelu_tanh', "),
        ("layer_norm", {"eps": -0.5}, "'eps' is -0.5; accepted: a number >= 0"),
    ],
)
def test_attributes_refuse(op: str, attributes: dict[str, Any], message: str) -> None:
    shapes = [getattr(array, "shape", None) for array in example_of(op).args]
    slots = len(ablation_kernels.ops()[op].slots)
    with pytest.raises(ValueError, match=re.escape(message)):
        ablation_kernels.infer_shape(op, (shapes + [None] * slots)[:slots], attributes)


def test_build_info() -> None:
    for key in ("compiler", "flags", "blas_library", "sanitizer", "blas_core"):
        assert isinstance(INFO[key], str)
    assert INFO["compiler"] and INFO["blas_library"]
    assert "fast-math" not in INFO["flags"]
    assert INFO["simd"] in INFO["isa_built"]
    assert INFO["isa_used"] in INFO["isa_built"]
    assert INFO["isa_packed"] in INFO["isa_available"]
    assert INFO["isa_packed"] != "vdsp"
    assert "baseline" in INFO["isa_built"]
    assert INFO["parallel"] in ("pool", "gcd")
    assert INFO["blas"] in ("openblas", "accelerate")
    assert INFO["clock"] in ("CLOCK_MONOTONIC", "mach_absolute_time")
    assert isinstance(INFO["table_version"], int) and INFO["table_version"] >= 1


def test_clock_overhead() -> None:
    assert ablation_kernels.clock_overhead_ns() > 0


@pytest.mark.parametrize("op", OPS)
def test_no_kernel_means_the_best_one(op: str) -> None:
    example = example_of(op)
    arrays = [x for x in example.args if isinstance(x, np.ndarray)]
    if op != "matmul":  # whose bias is a keyword here and a slot there
        shapes = [x.shape for x in arrays] + [
            x.shape for x in example.keywords.values() if isinstance(x, np.ndarray)
        ]
        best = ablation_kernels.best_kernel(op, shapes, attributes_of(op, example))
        assert best in [info.name for info in TABLE if info.op == op]
        chosen = function_of(op)(*example.args, **example.keywords)
        named = function_of(op)(*example.args, **example.keywords, kernel=best)
        np.testing.assert_array_equal(joined(chosen), joined(named))
    chosen = guarded(op, example.expected.shape, *example.args, **example.keywords)
    assert_within(chosen, example.expected, example.allowed)


@pytest.mark.parametrize("heads", [1, 8, 64])
def test_best_attention_exists(heads: int) -> None:
    shape = (1, heads, 8192, 128)
    names = [info.name for info in TABLE if info.op == "attention"]
    assert ablation_kernels.best_kernel("attention", [shape, shape, shape]) in names


@pytest.mark.skipif(INFO["blas"] == "accelerate", reason="packing is never the choice there")
@pytest.mark.parametrize(
    "queries,kv_heads,packs",
    [(1, 12, False), (7, 12, False), (8, 12, True), (4096, 12, True), (1, 2, False), (2, 3, True)],
)
def test_keys_are_packed_where_queries_enough_read_them(
    queries: int, kv_heads: int, packs: bool
) -> None:
    q, k = (1, 12, queries, 64), (1, kv_heads, 4096, 64)
    assert ("packed" in ablation_kernels.best_kernel("attention", [q, k, k])) == packs


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_scratch_of_the_backward_pass(threads: int) -> None:
    """Linear in the sequence: no matrix of scores, on any number of threads."""
    sizes = []
    for length in (2**13, 2**14):
        shape = (1, 64, length, 128)
        shapes = [shape, shape, shape, shape, shape[:-1], shape]
        name = "attention_backward_flash_simd_parallel"
        sizes.append(ablation_kernels.scratch_bytes(name, shapes, {}, threads))
    assert 0 < sizes[1] - sizes[0] <= 32 * 64 * 2**13 * (128 + 2) * 4


@pytest.mark.skipif(INFO["blas"] == "accelerate", reason="its matrix units are faster")
def test_a_constant_matrix_is_worth_packing() -> None:
    shapes = [(7, 24), (24, 40), None, None]
    assert "packed" not in ablation_kernels.best_kernel("matmul", shapes)
    best = ablation_kernels.best_kernel("matmul", shapes, constants=["b"])
    assert best == "matmul_packed_simd_parallel"
    batched = [(2, 7, 24), (2, 24, 40), None, None]
    assert "packed" not in ablation_kernels.best_kernel("matmul", batched, constants=["b"])


@pytest.mark.parametrize("call", ["best_kernel", "scratch_bytes"])
def test_unknown_names_get_the_nearest(call: str) -> None:
    with pytest.raises(ValueError, match="softmax"):
        if call == "best_kernel":
            ablation_kernels.best_kernel("sofmax", [(3, 4)])
        else:
            ablation_kernels.scratch_bytes("softmax_smid", [(3, 4)], {}, 1)


ATTENTION_KERNELS = [info.name for info in TABLE if info.op == "attention"]


@pytest.mark.parametrize("info", TABLE, ids=[info.name for info in TABLE])
def test_scratch_is_aligned_and_grows_with_threads(info: ablation_kernels.KernelInfo) -> None:
    example = example_of(info.op)
    shapes = [x.shape for x in example.args if isinstance(x, np.ndarray)]
    attributes = attributes_of(info.op, example)
    sizes = [
        ablation_kernels.scratch_bytes(info.name, shapes, attributes, threads)
        for threads in (1, 2, 8)
    ]
    assert sizes == sorted(sizes) and sizes[0] >= 0
    assert all(size % 64 == 0 for size in sizes)
    assert info.parallel or sizes[0] == sizes[2]


def test_scratch_of_packed_keys_passes_32_bits() -> None:
    """Keys and values of one head, and one thread's share more for each other thread."""
    shape = (1, 1, 2**24, 128)
    sizes = [
        ablation_kernels.scratch_bytes(
            "attention_flash_packed_simd_parallel", [shape] * 3, {"scale": 0.1}, threads
        )
        for threads in (1, 2, 3)
    ]
    assert sizes[0] >= 2 * 2**24 * 128 * 4
    assert 0 < sizes[1] - sizes[0] == sizes[2] - sizes[1] < 2**24


@pytest.mark.parametrize("kernel", [name for name in ATTENTION_KERNELS if "packed" not in name])
def test_scratch_passes_32_bits(kernel: str) -> None:
    """A tile as large as the sequence: 64 x 8192 x 8192 scores of four bytes, nothing allocated."""
    shape = (1, 64, 8192, 128)
    attributes = {"scale": 0.1, "tile_q": 8192, "tile_k": 8192}
    size = ablation_kernels.scratch_bytes(kernel, [shape] * 3, attributes, 64)
    workers = 64 if kernel.endswith("parallel") else 1
    assert size >= workers * 8192 * 8192 * 4
    mask = (1, 64, 8192, 8192)  # 2^32 elements
    assert (
        ablation_kernels.scratch_bytes(kernel, [shape, shape, shape, mask], attributes, 64) >= size
    )

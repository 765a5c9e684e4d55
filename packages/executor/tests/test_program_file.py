"""Programs on disk: round trips, and every damage is a ProgramFileError, never a crash."""

from __future__ import annotations

import gc
import json
import random as python_random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_graphs import attention_graph, inputs_of, random

from ablation_executor import (
    CompiledProgram,
    Graph,
    GraphBuilder,
    Integers,
    ProgramFileError,
    Range,
    ReleasedConstantError,
    Workspace,
    load,
    optimize,
)
from ablation_executor.compiler import compile
from ablation_executor.ir import Result
from ablation_executor.program_file import METADATA_KEY, VERSION

safetensors_numpy = pytest.importorskip("safetensors.numpy")
safe_open = pytest.importorskip("safetensors").safe_open


def linear_graph() -> Graph:
    """Two products with one weight, a scalar, integers in and out, a name for each output."""
    builder = GraphBuilder()
    x = builder.input("x", (2, 8))
    ids = builder.input("ids", (2, 1), Integers("int32", Range(0, 9)))
    weight, bias = builder.constant("weight", random(8, 8)), builder.constant("bias", random(8))
    y = builder.node("matmul", [x, weight, bias], {"activation": "relu"}, module_path="first")
    y = builder.node("matmul", [y, weight], {"transpose_b": True, "alpha": 0.1})
    y = builder.node("mul", [y, builder.constant("scalar", np.float32(0.1))])
    moved = builder.node("permute", [builder.node("add", [y, ids])], {"perm": (1, 0)})
    results = (Result("logits"), Result("ids", Integers("int32", Range(0, 9))))
    return builder.finish(moved, ids, results=results)


def ids() -> Any:
    return np.array([[3], [9]], np.int32)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    graph = linear_graph()
    compile(graph).save(tmp_path / "program.safetensors")
    return tmp_path / "program.safetensors"


def check_round_trip(program: CompiledProgram, path: Path, inputs: Any) -> CompiledProgram:
    program.save(path)
    loaded = load(path)
    one, other = program(*inputs), loaded(*inputs)
    for want, got in zip(
        one if isinstance(one, list) else [one],
        other if isinstance(other, list) else [other],
        strict=True,
    ):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    assert loaded.input_names == program.input_names
    assert loaded.output_names == program.output_names
    assert loaded.kernels == program.kernels
    assert str(loaded.graph) == str(program.graph)
    assert [path.name] == [file.name for file in path.parent.iterdir()]
    return loaded


def test_a_program_computes_the_same_after_a_round_trip(tmp_path: Path) -> None:
    graph = linear_graph()
    path = tmp_path / "program.safetensors"
    loaded = check_round_trip(compile(graph), path, (random(2, 8), ids()))
    assert loaded.graph.inputs[1].integers == Integers("int32", Range(0, 9))
    with pytest.raises(ValueError, match=r"input 'ids' has the value 10 at \[1, 0\]"):
        loaded(random(2, 8), ids() + 1)
    again, _ = optimize(attention_graph(mask=random(4, 5)))
    check_round_trip(compile(again), path, inputs_of(again))
    with safe_open(path, framework="numpy") as file:
        assert len(file.keys()) == len(again.constants)


def test_options_are_kept_and_kernels_chosen_anew_unless_named(tmp_path: Path) -> None:
    graph = attention_graph()
    path = tmp_path / "program.safetensors"
    program = compile(graph, kernels={"softmax": "scalar"}, plan="naive", share_rows=False)
    loaded = check_round_trip(program, path, inputs_of(graph))
    assert "softmax_scalar" in loaded.kernels.values() and loaded.options == program.options
    assert loaded.arena_bytes == program.arena_bytes
    again = load(path, kernels={"softmax": "simd"}, threads=1)
    assert "softmax_simd" in again.kernels.values()
    edit(path, lambda text: text["options"].update(kernels={"softmax": "softmax_of_tomorrow"}))
    with pytest.raises(ValueError, match="softmax has no kernel 'softmax_of_tomorrow'"):
        load(path)


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 64, 131])
def test_packed_constants_are_saved_when_their_graph_is_gone(
    width: int, transpose_b: bool, tmp_path: Path
) -> None:
    builder = GraphBuilder()
    x = builder.input("x", (3, 40))
    weight = random(width, 40) if transpose_b else random(40, width)
    weight.reshape(-1)[:2] = -0.0, np.nan
    bits = weight.tobytes()
    attributes = {"transpose_b": transpose_b}
    y = builder.node("matmul", [x, builder.constant("weight", weight)], attributes)
    program = compile(builder.finish(y), kernels={"matmul": "packed_simd"})
    del builder, x, y
    gc.collect()
    assert program.packed_weights_bytes
    program.save(tmp_path / "program.safetensors")
    _, tensors = read(tmp_path / "program.safetensors")
    assert tensors["weight"].tobytes() == bits
    given = random(3, 40)
    np.testing.assert_array_equal(load(tmp_path / "program.safetensors")(given), program(given))


def test_sums_that_are_packed_are_no_constant(tmp_path: Path) -> None:
    """Strassen's scheme packs sums: the constant is that of the graph, or there is none."""
    path = tmp_path / "program.safetensors"
    graph = linear_graph()
    options: Any = {"kernels": {"matmul": "strassen_simd"}, "share_rows": False}
    program = compile(graph, **options)
    program.save(path)
    path.unlink()
    del graph
    gc.collect()
    with pytest.raises(ReleasedConstantError, match="packed as sums, by other_arithmetic"):
        program.save(path)
    assert not list(tmp_path.iterdir())
    shared = Workspace()
    compile(linear_graph(), workspace=shared, **options).save(path)
    first, second = load(path, workspace=shared), load(path, workspace=shared)
    assert shared.constant_bytes == first.constant_bytes == second.constant_bytes


def test_a_saved_program_runs_without_torch(saved: Path, tmp_path: Path) -> None:
    x = random(2, 8)
    np.save(tmp_path / "x.npy", x)
    script = """
import sys
sys.modules["torch"] = None
import numpy as np, ablation_executor as ae
np.save("y.npy", ae.load("program.safetensors")(np.load("x.npy"), [[3], [9]])[0])
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), load(saved)(x, ids())[0])


# Damage


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON and the tensors of a file."""
    with safe_open(path, framework="numpy") as file:
        text = json.loads(file.metadata()[METADATA_KEY])
        return text, dict(zip(file.keys(), map(file.get_tensor, file.keys()), strict=True))


def write(path: Path, text: Any, tensors: dict[str, Any]) -> None:
    safetensors_numpy.save_file(tensors, path, {METADATA_KEY: json.dumps(text)})


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    text, tensors = read(path)
    change(text)
    write(path, text, tensors)


EDITS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (
        lambda t: t.update(version=VERSION + 1),
        "version is 2, expected 1: it was written by a newer",
    ),
    (lambda t: t.update(version=0), "version is 0, expected 1$"),
    (lambda t: t.update(version=True), "'version' is true or false, expected a whole number"),
    (lambda t: t.update(format="onnx"), "format is 'onnx', expected 'ablation-executor program'"),
    (lambda t: t.pop("format"), "the program has no field 'format'"),
    (lambda t: t.update(nodes={}), "'nodes' is an object, expected a list of objects"),
    (lambda t: t["nodes"].append(7), r"the program.nodes\[8\] is the number 7, expected an object"),
    (lambda t: t["nodes"][0].update(op="exec"), "unknown op 'exec'"),
    (lambda t: t["nodes"][0].update(inputs=["x"]), "matmul has 4 slots, 1 given"),
    (lambda t: t["nodes"][0].update(inputs=["x", "y", None, None]), "there is no value 'y' before"),
    (lambda t: t["nodes"][0].update(inputs=[1]), "'inputs' has the number 1, expected texts and"),
    (lambda t: t["nodes"][0]["inputs"].reverse(), "the graph is damaged: node 'matmul': slot 'a'"),
    (lambda t: t["nodes"][1].update(name="matmul"), "two nodes are named 'matmul'"),
    (lambda t: t["nodes"][0]["output"].update(name="x"), "a second value is named 'x'"),
    (lambda t: t["nodes"][0]["output"].update(shape=[2, 9]), r"declared \[2, 9\], matmul gives"),
    (lambda t: t["nodes"][0]["attributes"].update(speed=2), "matmul has no attribute 'speed'"),
    (lambda t: t["nodes"][0]["attributes"].update(alpha=[1]), "alpha is .*, expected float"),
    (lambda t: t["nodes"][0]["attributes"].update(alpha={}), "'alpha' is an object, expected no"),
    (lambda t: t["nodes"][4]["attributes"].update(perm=[0, 9]), "the graph is damaged: node 'per"),
    (
        lambda t: t["nodes"][4]["attributes"].update(perm=["0"]),
        "'perm' has a text, expected whole",
    ),
    (lambda t: t["nodes"][4]["attributes"].update(perm=[2**70]), "'perm' has a number beyond 64"),
    (lambda t: t["inputs"][0].update(shape=[2, -8]), r"'shape' is \[2, -8\], which is no shape"),
    (lambda t: t["inputs"][0].update(shape=[2**30] * 9), "which is no shape"),
    (lambda t: t["inputs"][0].update(shape=None), "'shape' is null, expected a list of whole"),
    (lambda t: t["inputs"][1]["integers"].update(dtype="float64"), "dtype is 'float64'; accepted:"),
    (lambda t: t["inputs"][1]["integers"].update(high=2**25), r"is beyond 2\^24"),
    (
        lambda t: t["inputs"][1].update(integers=5),
        "'integers' is the number 5, expected an object or",
    ),
    (lambda t: t["constants"][0].update(tensor="other"), "the file has no tensor 'other'"),
    (lambda t: t["constants"][0].update(shape=[4, 16]), r"is F32\[8, 8\], expected F32\[4, 16\]"),
    (lambda t: t["checksums"].update(bias=1), "tensor 'bias' is damaged: its checksum differs"),
    (lambda t: t["outputs"][0].update(value="nowhere"), "there is no value 'nowhere' before it"),
    (lambda t: t["outputs"][0].update(name="ids"), "two outputs are named 'ids'"),
    (lambda t: t["outputs"].clear(), "has no outputs"),
    (lambda t: t["options"].update(share_rows=1), "'share_rows' is the number 1, expected true or"),
    (lambda t: t["options"].update(plan="best"), "unknown plan 'best'"),
    (lambda t: t["options"]["kernels"].update(sing="loud"), "unknown op 'sing'"),
]


@pytest.mark.parametrize(("change", "message"), EDITS)
def test_an_edited_file_is_refused(change: Any, message: str, saved: Path) -> None:
    edit(saved, change)
    with pytest.raises(ValueError, match=message) as caught:
        load(saved)
    if "unknown" not in message:
        assert isinstance(caught.value, ProgramFileError) and str(saved) in str(caught.value)


def test_a_file_that_is_cut_off_or_changed_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        with pytest.raises(ProgramFileError, match="no safetensors file, or it is damaged"):
            load(saved)
    draw = python_random.Random(3)
    for _ in range(60):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        saved.write_bytes(changed)
        outcome(saved)
    changed = bytearray(whole)
    changed[-1] ^= 1
    saved.write_bytes(changed)
    with pytest.raises(ProgramFileError, match="is damaged: its checksum differs"):
        load(saved)


def outcome(path: Path) -> str:
    """Load a file and run it: it is refused by a plain error, or computes something."""
    try:
        program = load(path)
        program(
            *[
                np.ones(value.shape, np.float32)
                if value.integers is None
                else np.full(value.shape, value.integers.range.low)
                for value in program.graph.inputs
            ]
        )
    except ProgramFileError:
        return "refused"
    except ValueError:
        return "refused by compile"
    return "loaded"


def random_edit(draw: python_random.Random, text: Any) -> Any:
    """The same JSON with one part replaced, taken out or doubled."""
    path: list[Any] = []
    part = text
    while isinstance(part, dict | list) and part and (not path or draw.random() < 0.9):
        key = draw.choice(list(part)) if isinstance(part, dict) else draw.randrange(len(part))
        path.append(key)
        part = part[key]
    parent = text
    for key in path[:-1]:
        parent = parent[key]
    junk = [None, True, -1, 0, 3, 2**31, 2**80, 0.5, "", "x", "weight", [], [0, 1], {}, part]
    if draw.random() < 0.2:
        del parent[path[-1]]
    else:
        parent[path[-1]] = draw.choice(junk)
    return text


def test_random_edits_never_end_in_another_error(saved: Path) -> None:
    original, tensors = read(saved)
    draw, outcomes = python_random.Random(5), []
    for _ in range(300):
        text = random_edit(draw, json.loads(json.dumps(original)))
        write(saved, text, tensors)
        outcomes.append(outcome(saved))
    assert outcomes.count("refused") >= 150 and "loaded" in outcomes, outcomes


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "program.safetensors"
    path.write_bytes(b"PK\x03\x04 some archive " * 9)
    with pytest.raises(ProgramFileError, match="is no safetensors file, or it is damaged"):
        load(path)
    safetensors_numpy.save_file({"weight": random(2, 2)}, path, {"format": "pt"})
    with pytest.raises(ProgramFileError, match=r"without the key 'ablation_executor.program'"):
        load(path)
    for text in ("{", "[" * 100_000, "[]", '{"version": NaN}', "9" * 9000):
        safetensors_numpy.save_file({}, path, {METADATA_KEY: text})
        with pytest.raises(ProgramFileError, match=r"no JSON|expected an object"):
            load(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        load(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)


def test_a_file_is_written_whole_or_not(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    monkeypatch.setattr(Path, "replace", raise_full)
    graph = linear_graph()
    with pytest.raises(OSError, match="disk is full"):
        compile(graph).save(saved)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


def raise_full(*_: Any) -> None:
    raise OSError("the disk is full")

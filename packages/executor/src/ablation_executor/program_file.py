"""Programs on disk: one safetensors file, the constants as its tensors, the rest as JSON.

The JSON is the text of the key METADATA_KEY in the file's header: inputs, constants, nodes and
outputs of the graph, and the options of `compile`. A program is planned, and its kernels are
chosen, on the machine that loads it. Reading parses and checks: nothing in a file is ever executed.
"""

from __future__ import annotations

import json
import os
import weakref
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .constants import ReleasedConstantError, frozen
from .file_fields import Fields, ProgramFileError
from .integers import Integers, Range
from .ir import Array, Graph, GraphError, Node, Result, Value, verify
from .ops import OPS

__all__ = ["Options", "ProgramFileError", "Released", "read_program", "write_program"]

FORMAT = "ablation-executor program"
VERSION = 1
METADATA_KEY = "ablation_executor.program"


@dataclass(frozen=True)
class Options:
    """What `compile` was asked for: named kernels by op, the plan, and its two switches."""

    kernels: Mapping[str, str] = field(default_factory=dict)
    plan: str = "greedy"
    share_rows: bool = True
    other_arithmetic: bool = False


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "programs on disk need the package safetensors: pip install"
            " 'ablation-executor[programs]'"
        ) from error
    return safetensors


# Writing ------------------------------------------------------------------------------------------


def write_program(
    graph: Graph, options: Options, arrays: Mapping[Value, Array], path: str | os.PathLike[str]
) -> None:
    """Write a graph with the arrays of its constants; the file is there whole or not at all."""
    library = _safetensors()
    tensors: dict[str, Array] = {}
    keys: dict[int, str] = {}
    for value in graph.constants:
        array = arrays[value]
        if id(array) not in keys:  # an array of several constants is stored once
            keys[id(array)] = value.name
            tensors[value.name] = array
    described = _described(graph, {value: keys[id(arrays[value])] for value in graph.constants})
    text = {
        "format": FORMAT,
        "version": VERSION,
        **described,
        "checksums": {key: zlib.crc32(array.tobytes()) for key, array in tensors.items()},
        "options": {
            "kernels": dict(options.kernels),
            "plan": options.plan,
            "share_rows": options.share_rows,
            "other_arithmetic": options.other_arithmetic,
        },
    }
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        metadata = {METADATA_KEY: json.dumps(text, allow_nan=False)}
        library.numpy.save_file(tensors, unfinished, metadata)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _described(graph: Graph, keys: Mapping[Value, str]) -> dict[str, Any]:
    """The graph as JSON has it; attributes are complete, so that a default may change."""
    results = graph.results or tuple(map(Result, graph.output_names))
    return {
        "inputs": [{**_place(value), **_integers(value.integers)} for value in graph.inputs],
        "constants": [{**_place(value), "tensor": keys[value]} for value in graph.constants],
        "nodes": [
            {
                "name": node.name,
                "op": node.op,
                "inputs": [None if value is None else value.name for value in node.inputs],
                "output": _place(node.output),
                "attributes": OPS[node.op].complete(node.attributes),
                "module_path": node.module_path,
            }
            for node in graph.nodes
        ],
        "outputs": [
            {"value": value.name, "name": result.name, **_integers(result.integers)}
            for value, result in zip(graph.outputs, results, strict=True)
        ],
    }


def _place(value: Value) -> dict[str, Any]:
    return {"name": value.name, "shape": list(value.shape)}


def _integers(integers: Integers | None) -> dict[str, Any]:
    if integers is None:
        return {"integers": None}
    low, high = integers.range.low, integers.range.high
    return {"integers": {"dtype": integers.dtype, "low": low, "high": high}}


# Reading ------------------------------------------------------------------------------------------


def read_program(path: str | os.PathLike[str]) -> tuple[Graph, Options]:
    """The graph and the options of a file; ProgramFileError names the path and what is wrong.

    OSError where there is no file that can be read.
    """
    library = _safetensors()
    with open(path, "rb"):  # the system's own error, which names the path
        pass
    try:
        with library.safe_open(path, framework="numpy") as file:
            return _Reader(file).read()
    except ProgramFileError as error:
        raise ProgramFileError(f"{os.fspath(path)}: {error}") from error
    except library.SafetensorError as error:
        raise ProgramFileError(
            f"{os.fspath(path)} is no safetensors file, or it is damaged: {error}"
        ) from error


class _Reader:
    """Makes a graph of an open file, each field checked before it is used."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.tensors = set(file.keys())
        self.values: dict[str, Value] = {}

    def read(self) -> tuple[Graph, Options]:
        fields = self._fields()
        checksums = fields.object("checksums")
        inputs = [self._input(part) for part in fields.objects("inputs")]
        graph = Graph(inputs, [])
        for part in fields.objects("constants"):
            value = self._value(part)
            graph.constants[value] = self._array(part, value, checksums)
        graph.nodes = [self._node(part) for part in fields.objects("nodes")]
        outputs = fields.objects("outputs")
        graph.outputs = [self._named(part, part.text("value")) for part in outputs]
        graph.results = tuple(Result(part.text("name"), _read_integers(part)) for part in outputs)
        if not outputs:
            raise ProgramFileError("the program has no outputs")
        options = _read_options(fields.object("options"))
        try:
            verify(graph)
        except (GraphError, TypeError, OverflowError) as error:  # the last two of kernels' shapes
            raise ProgramFileError(f"the graph is damaged: {error}") from error
        return graph, options

    def _fields(self) -> Fields:
        text = (self.file.metadata() or {}).get(METADATA_KEY)
        if text is None:
            raise ProgramFileError(
                f"it is a safetensors file without the key {METADATA_KEY!r}: not written by"
                " CompiledProgram.save"
            )
        try:
            fields = Fields(json.loads(text, parse_constant=_refuse_constant), "the program")
        except (ValueError, RecursionError) as error:
            raise ProgramFileError(f"its description is no JSON: {error}") from error
        if fields.text("format") != FORMAT:
            raise ProgramFileError(f"format is {fields.text('format')!r}, expected {FORMAT!r}")
        version = fields.whole("version")
        if version != VERSION:
            hint = ": it was written by a newer ablation-executor" if version > VERSION else ""
            raise ProgramFileError(f"version is {version}, expected {VERSION}{hint}")
        return fields

    def _value(self, fields: Fields) -> Value:
        value = Value(fields.text("name"), fields.shape("shape"))
        if value.name in self.values:
            raise ProgramFileError(f"{fields.place}: a second value is named {value.name!r}")
        self.values[value.name] = value
        return value

    def _input(self, fields: Fields) -> Value:
        value = self._value(fields)
        value.integers = _read_integers(fields)
        return value

    def _array(self, fields: Fields, value: Value, checksums: Fields) -> Array:
        key = fields.text("tensor")
        if key not in self.tensors:
            raise ProgramFileError(f"{fields.place}: the file has no tensor {key!r}")
        stored = self.file.get_slice(key)
        dtype, shape = stored.get_dtype(), tuple(stored.get_shape())
        if dtype != "F32" or shape != value.shape:
            raise ProgramFileError(
                f"{fields.place}: tensor {key!r} is {dtype}{list(shape)}, expected"
                f" F32{list(value.shape)}"
            )
        array = frozen(np.asarray(self.file.get_tensor(key)))
        if zlib.crc32(array.tobytes()) != checksums.whole(key):
            raise ProgramFileError(
                f"{fields.place}: tensor {key!r} is damaged: its checksum differs"
            )
        return array

    def _named(self, fields: Fields, name: str) -> Value:
        if name not in self.values:
            raise ProgramFileError(f"{fields.place}: there is no value {name!r} before it")
        return self.values[name]

    def _node(self, fields: Fields) -> Node:
        names = fields.optional_texts("inputs")
        inputs = [None if name is None else self._named(fields, name) for name in names]
        return Node(
            fields.text("name"),
            fields.text("op"),
            inputs,
            self._value(fields.object("output")),
            fields.object("attributes").settings(),
            fields.text("module_path"),
        )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _read_integers(fields: Fields) -> Integers | None:
    if fields.is_null("integers"):
        return None
    part = fields.object("integers")
    try:
        return Integers(part.text("dtype"), Range(part.whole("low"), part.whole("high")))
    except ProgramFileError:
        raise
    except ValueError as error:
        raise ProgramFileError(f"{part.place}: {error}") from error


def _read_options(fields: Fields) -> Options:
    kernels = fields.object("kernels")
    return Options(
        {op: kernels.text(op) for op in kernels.names()},
        fields.text("plan"),
        fields.truth("share_rows"),
        fields.truth("other_arithmetic"),
    )


@dataclass(frozen=True)
class Released:
    """A constant that its program has packed: its number there, and the array while it lives."""

    number: int
    array: weakref.ref[Array]


def arrays_of(
    graph: Graph, released: Mapping[Value, Released], unpacked: Callable[[int], Array]
) -> dict[Value, Array]:
    """The array of each constant; that of a released one by its reference, or else unpacked.

    ReleasedConstantError: nobody has the array any more, and it cannot be unpacked.
    """
    arrays: dict[Value, Array] = {}
    for value in graph.constants:
        if value not in released:
            arrays[value] = graph.constants[value]
            continue
        array = released[value].array()
        if array is None:
            try:
                array = unpacked(released[value].number)
            except ValueError as error:
                raise ReleasedConstantError(
                    f"constant %{value.name} was packed as sums, by other_arithmetic, and its array"
                    " is gone with the graph that was given to compile(): save while that graph is"
                    " there, or give compile() a workspace, which keeps the arrays"
                ) from error
        arrays[value] = array
    return arrays

"""The stub, which type checkers and the reference read, says what the native module has."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablation_kernels import _native

STUB = ast.parse(Path(_native.__file__).with_name("_native.pyi").read_text())


def described() -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef]]:
    """The names of the stub: functions, classes, and what classes have."""
    for node in STUB.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name != "__init__":
                    yield f"{node.name}.{part.name}", part


NODES = dict(described())


def found(name: str) -> Any:
    thing: Any = _native
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def test_both_have_the_same_names() -> None:
    public = {name for name in vars(_native) if not name.startswith("_")}
    assert {name for name in NODES if "." not in name} == public
    for kind in ("Program", "Workspace"):
        own = {f"{kind}.{name}" for name in vars(found(kind)) if not name.startswith("_")}
        assert {name for name in NODES if name.startswith(f"{kind}.")} == own


@pytest.mark.parametrize("name", [name for name, node in NODES.items() if ast.get_docstring(node)])
def test_documentation_is_the_same(name: str) -> None:
    native = inspect.cleandoc(found(name).__doc__)
    # A function's begins with its signature
    signature, _, text = native.partition("\n\n")
    told = text if signature.startswith(f"{name.rpartition('.')[2]}(") else native
    assert told == ast.get_docstring(NODES[name])


def test_all_of_the_classes_is_documented() -> None:
    assert [
        name for name in NODES if name[0].isupper() and not ast.get_docstring(NODES[name])
    ] == []

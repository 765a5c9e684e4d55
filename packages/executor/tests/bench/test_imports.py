"""Which package may import which, read from the sources: the runtime knows no bench, the report
neither of the others, nothing imports in a circle, and no function hides a module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[3]
ROOTS = {
    "ablation_executor": PACKAGES / "executor" / "src" / "ablation_executor",
    "ablation_report": PACKAGES / "report" / "src" / "ablation_report",
}
# What `pip install ablation-executor` does not bring.
# One call of a user's that measures: it imports the bench when it is made, and names the extra.
DOORS = {
    "ablation_executor.comparison": [
        "ablation_executor.bench.compared",  # for types
        "ablation_executor.bench.in_process",
    ]
}
BENCH_ONLY = ("ablation_report", "rich", "psutil", "torch", "ablation_executor.bench")


def module_files(package: str) -> dict[str, Path]:
    """The modules of a package by their full name."""
    root = ROOTS[package]
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = {name: path for package in ROOTS for name, path in module_files(package).items()}


def is_for_types(node: ast.AST) -> bool:
    """True for `if TYPE_CHECKING:`, whose imports do not take place."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def import_nodes(tree: ast.AST, *, whole: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a module: those that its import makes, or with `whole` all."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif is_for_types(node) and not whole:
            continue
        elif whole or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from import_nodes(node, whole=whole)


def imported(name: str, *, whole: bool) -> set[str]:
    """The full names of what a module imports; of a name in a package, its module if it is one."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in import_nodes(ast.parse(path.read_text()), whole=whole):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
            continue
        base = node.module or ""
        if node.level:
            up = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*up, *([node.module] if node.module else [])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            found.add(inner if inner in MODULES else base)
    return found


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("name", [n for n in MODULES if is_within(n, "ablation_executor")])
def test_the_runtime_imports_no_bench(name: str) -> None:
    if is_within(name, "ablation_executor.bench"):
        return
    told = [other for other in imported(name, whole=True) if is_within(other, f"{name[:17]}.bench")]
    assert sorted(told) == DOORS.get(name, [])
    assert not any(is_within(other, f"{name[:17]}.bench") for other in imported(name, whole=False))
    for other in imported(name, whole=True):
        assert other.partition(".")[0] not in ("ablation_report", "rich", "psutil")


@pytest.mark.parametrize("name", [n for n in MODULES if is_within(n, "ablation_report")])
def test_the_report_imports_neither_of_the_others(name: str) -> None:
    tops = {other.partition(".")[0] for other in imported(name, whole=True)}
    assert not tops & {"ablation_executor", "ablation_kernels"}


@pytest.mark.parametrize("package", ROOTS)
def test_nothing_is_imported_in_a_circle(package: str) -> None:
    """A package's `__init__` counts only where a module asks it for a name of its own."""
    graph = {
        name: {other for other in imported(name, whole=False) if other in MODULES}
        for name in MODULES
        if is_within(name, package)
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name in done:
            return
        for other in sorted(graph.get(name, ())):
            visit(other, (*way, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("name", [n for n, p in MODULES.items() if p.name == "__init__.py"])
def test_no_name_hides_a_module(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    inner = {n.rpartition(".")[2] for n in MODULES if n.rpartition(".")[0] == name}
    bound: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign):
            bound.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            # `from . import x` binds the module itself, as `from package import x` does
            is_itself = (node.level == 1 and not node.module) or node.module == name
            bound.update(
                alias.asname or alias.name
                for alias in node.names
                if not (is_itself and alias.asname in (None, alias.name))
            )
    assert bound & inner == set()


def test_the_runtime_alone_brings_nothing_of_the_bench() -> None:
    code = (
        "import sys, ablation_executor\n"
        f"print([name for name in {BENCH_ONLY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

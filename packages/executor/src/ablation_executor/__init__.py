"""Export a PyTorch module, choose its optimizations one by one, and run it as a native program."""

from __future__ import annotations

from . import start  # noqa: F401  first, before what it protects
from .comparison import compare
from .compiler import CompiledProgram, compile
from .constants import ReleasedConstantError
from .exporter import export
from .file_fields import ProgramFileError
from .integers import Integers, Range
from .interpreter import interpret
from .ir import Graph, GraphBuilder, GraphError, Node, Result, Value, verify
from .loader import load
from .ops import CATEGORIES, OPS
from .passes import DEFAULT_PASSES, PASSES, optimize
from .per_op import PerOp
from .profile import OpTime, Profile
from .refusal import ExportError, Refusal, RefusalGroup, UnsupportedOpError
from .rewrite import RewriteLog
from .selection import check_table_version
from .shape_programs import ShapePrograms
from .workspace import Workspace

__version__ = "0.1.0"

check_table_version()

__all__ = [
    "CATEGORIES",
    "DEFAULT_PASSES",
    "OPS",
    "PASSES",
    "CompiledProgram",
    "ExportError",
    "Graph",
    "GraphBuilder",
    "GraphError",
    "Integers",
    "Node",
    "OpTime",
    "PerOp",
    "Profile",
    "ProgramFileError",
    "Range",
    "Refusal",
    "RefusalGroup",
    "ReleasedConstantError",
    "Result",
    "RewriteLog",
    "ShapePrograms",
    "UnsupportedOpError",
    "Value",
    "Workspace",
    "compare",
    "compile",
    "export",
    "interpret",
    "load",
    "optimize",
    "verify",
]


def __dir__() -> list[str]:
    """List the API alone: not what this file imports to make it."""
    return sorted([*__all__, "__version__"])

"""Export a PyTorch module, choose its optimizations one by one, and run it as a native program."""

from __future__ import annotations

from . import start  # noqa: F401  first, before what it protects
from .compiler import CompiledProgram, compile
from .constants import ReleasedConstantError
from .exporter import export
from .interpreter import interpret
from .ir import Graph, GraphBuilder, GraphError, Node, Value, verify
from .ops import CATEGORIES, OPS
from .passes import DEFAULT_PASSES, PASSES, optimize
from .per_op import PerOp
from .profile import OpTime, Profile
from .refusal import ExportError, Refusal, UnsupportedOpError
from .rewrite import RewriteLog
from .selection import check_table_version
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
    "Node",
    "OpTime",
    "PerOp",
    "Profile",
    "Refusal",
    "ReleasedConstantError",
    "RewriteLog",
    "UnsupportedOpError",
    "Value",
    "Workspace",
    "compile",
    "export",
    "interpret",
    "optimize",
    "verify",
]

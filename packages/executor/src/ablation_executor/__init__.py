"""Export a PyTorch module, choose its optimizations one by one, and run it as a native program."""

from __future__ import annotations

from .aten import ExportError, UnsupportedOpError
from .export import export
from .interpret import interpret
from .ir import Graph, GraphBuilder, GraphError, Node, Value, verify
from .ops import CATEGORIES, OPS
from .passes import DEFAULT_PASSES, PASSES, optimize
from .rewrite import RewriteLog
from .variants import LARGE_VARIANTS, VARIANTS, Variant

__version__ = "0.1.0"

__all__ = [
    "CATEGORIES",
    "DEFAULT_PASSES",
    "LARGE_VARIANTS",
    "OPS",
    "PASSES",
    "VARIANTS",
    "ExportError",
    "Graph",
    "GraphBuilder",
    "GraphError",
    "Node",
    "RewriteLog",
    "UnsupportedOpError",
    "Value",
    "Variant",
    "export",
    "interpret",
    "optimize",
    "verify",
]

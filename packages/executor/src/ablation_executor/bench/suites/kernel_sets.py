"""The kernel of every op, where a variant gives them and no chooser runs."""

from __future__ import annotations

from ...selection import ops_with

# Products and attention have kernels by how they work, not by form alone: a variant names them.
MATMUL, ATTENTION = "matmul_blas_parallel", "attention_fused_{vector}"


def kernel_set(vector: str = "simd_parallel", **named: str) -> dict[str, str]:
    """Return a kernel for every op that a graph can have: `named` by op, else the op's kernel of
    the form `vector` (scalar, simd or simd_parallel), or its parallel one where it has no vector
    code.

    Products are OpenBLAS's and attention keeps rows of scores, unless they are named.
    """
    plain = {op: f"{op}_parallel" for op in ops_with("parallel")}
    vectors = {op: f"{op}_{vector}" for op in ops_with("simd_parallel")}
    given = {"matmul": MATMUL, "attention": ATTENTION.format(vector=vector)}
    return {**plain, **vectors, **given, **named}

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def initialize(blas_path: str) -> None: ...
def kernel_rows() -> list[tuple[str, str, str, bool, bool, str, str, str]]: ...
def op_rows() -> list[
    tuple[str, str, str, str, list[tuple[str, type, Any, bool, tuple[str | None, ...]]]]
]: ...
def build_info() -> dict[str, Any]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def clock_overhead_ns() -> float: ...
def measure_ceilings() -> tuple[str, int, float, float, float]: ...
def call(
    op: str,
    inputs: tuple[Any, ...],
    attributes: dict[str, Any],
    kernel: str | None,
    out: Any | None,
) -> Any: ...
def call_with_shapes(
    op: str,
    inputs: tuple[Any, ...],
    attributes: dict[str, Any],
    kernel: str | None,
    out: Any | None,
) -> tuple[Any, tuple[tuple[int, ...], ...]]: ...
def scratch_bytes(
    kernel: str,
    shapes: Sequence[Sequence[int] | None],
    attributes: dict[str, Any],
    threads: int,
    constants: Sequence[str] = (),
) -> int: ...
def packed_bytes(
    kernel: str,
    shapes: Sequence[Sequence[int] | None],
    attributes: dict[str, Any],
    constants: Sequence[str] = (),
) -> int: ...
def infer_shape(
    op: str, shapes: Sequence[Sequence[int] | None], attributes: dict[str, Any]
) -> tuple[int, ...]: ...
def best_kernel(
    op: str,
    shapes: Sequence[Sequence[int] | None],
    attributes: dict[str, Any],
    constants: Sequence[str] = (),
) -> str: ...
def attention_bf16(
    q: Any,
    k: Any,
    v: Any,
    causal: bool,
    scale: float | None,
    with_lse: bool,
    out: Any | None,
) -> tuple[Any, NDArray[np.float32] | None]: ...
def attention_bf16_scratch_bytes(
    q: Sequence[int], k: Sequence[int], causal: bool, threads: int
) -> int: ...
def teaching_attention(
    q: Any,
    k: Any,
    v: Any,
    form: str,
    block_q: int,
    block_k: int,
    scale: float | None,
    is_safe: bool,
    threads: int,
    spans: bool,
    out: Any | None,
) -> tuple[Any, tuple[int, ...], int, tuple[int, list[tuple[str, int, int]]] | None]: ...

class Workspace:
    def __init__(self) -> None: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def packed_bytes(self) -> int: ...

class Program:
    def __init__(
        self,
        values: Sequence[tuple[Any, ...]],
        calls: Sequence[tuple[Any, ...]],
        arena_bytes: int,
        stages: Sequence[tuple[int, int]] = (),
        workspace: Workspace | None = None,
    ) -> None: ...
    def run(
        self, inputs: Sequence[Any], outputs: Sequence[Any] | None = None
    ) -> list[NDArray[np.float32]]: ...
    def run_timed(
        self, inputs: Sequence[Any], outputs: Sequence[Any] | None = None
    ) -> tuple[list[NDArray[np.float32]], NDArray[np.int64], int]: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def packed_bytes(self) -> int: ...
    @property
    def copied_bytes(self) -> int: ...
    @property
    def released_constants(self) -> tuple[int, ...]: ...
    @property
    def n_calls(self) -> int: ...
    @property
    def call_names(self) -> tuple[str, ...]: ...

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
    """Memory that programs share in turns: those that are built with it as `workspace`.

    One arena, as large as the largest of them asks for. Of a constant that nobody can write
    to, one packed copy for all calls that read it alike, whichever program makes them. A
    packed copy, and the array that it was made from, live as long as a program uses the copy;
    the arena lives as long as the workspace or one of its programs.

    Programs of one workspace that are called by several threads wait for one another, and so
    does one that is built meanwhile.
    """
    def __init__(self) -> None: ...
    @property
    def arena_bytes(self) -> int:
        """Size of the arena in bytes: the largest that a program was built with."""
    @property
    def packed_bytes(self) -> int:
        """Bytes of all packed copies that programs share now, each counted once."""

class Program:
    """A planned sequence of kernel calls over one arena.

    Args:
        values: a tuple for each value, whose id is its index: ('input', shape), ('constant',
            array), ('arena', shape, offset in bytes), ('output', shape), ('alias', shape,
            earlier id).
        calls: a tuple for each call, in order: (kernel, [value id or None per input slot],
            output id, attributes, scratch offset in bytes, name).
        arena_bytes: size of the arena; offsets are multiples of 64.
        stages: (first call, number of calls) of consecutive calls whose rows (along the last
            axis) do not depend on one another and that share one fork-join, each thread with
            rows of its own. run_timed gives the times of the first thread's rows, and adds
            the wait for the others to the last call of the stage.
        workspace: a Workspace whose arena and packed copies the program shares, or None for
            memory of its own. Constants that are copied or packed because others may write to
            them are not shared.

    Raises:
        ValueError: names the call or value that is not right.

    An output lies apart from the call's inputs and scratch, or takes exactly the place of an
    input in a slot of OpInfo.in_place.

    The program owns its constants: writing to an array after construction does not change the
    program. It packs a constant matrix of a packed kernel once, whatever the number of calls,
    and copies every other array, except a read-only NumPy array that owns its memory (or a
    view of one), which it reads in place.

    Scratch and worker slots are sized for get_num_threads() at construction: with fewer
    threads set since then the program runs on those, with more run() raises ValueError.
    """
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
    ) -> list[NDArray[np.float32]]:
        """Run the calls and return the output arrays.

        inputs: float32 arrays in the order of the input values; outputs: arrays to write, or None
        for new NumPy arrays. The loop allocates nothing and releases the GIL. Two threads that
        run one program, or programs of one workspace, take turns. Raises IndexError that names
        the call whose input names an element that is not there (`take`); the outputs are then
        partly written.
        """
    def run_timed(
        self, inputs: Sequence[Any], outputs: Sequence[Any] | None = None
    ) -> tuple[list[NDArray[np.float32]], NDArray[np.int64], int]:
        """Run as `run` does, with a clock read around each call.

        Returns (outputs, int64 nanoseconds per call, nanoseconds of the whole loop).
        """
    def unpacked(self, value: int) -> NDArray[np.float32]:
        """Return a constant, bit by bit as it was given, from its packed copy.

        value: the id of a constant that a kernel has packed, as those of `released_constants`.
        Raises ValueError for another value, and for a constant that only kernels of another
        arithmetic (`matmul_strassen`) have packed: their copies hold sums.
        """
    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena that the program uses."""
    @property
    def packed_bytes(self) -> int:
        """Bytes of constants that the program reads in a kernel's own layout, each counted once.

        Copies that a workspace shares among programs count in each.
        """
    @property
    def copied_bytes(self) -> int:
        """Bytes of constants that the program copied because others may write to them."""
    @property
    def released_constants(self) -> tuple[int, ...]:
        """Ids of the constants that are read only in a kernel's own layout.

        The program does not keep their arrays alive. With a workspace it keeps the arrays whose
        packed copies it shares: these are not among them.
        """
    @property
    def n_calls(self) -> int:
        """Number of calls."""
    @property
    def call_names(self) -> tuple[str, ...]:
        """Name of each call, in order."""

"""The ops, kernels and ceilings of this wheel on this machine, read from the native op table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from ablation_kernels import _native


@dataclass(frozen=True)
class KernelInfo:
    """One line of the op table: a kernel, which computes one op.

    provider names who does the primitive work here: an instruction set (or vdsp), a BLAS and a
    thread provider joined by "+", or "scalar". That of matmul leaves out the instruction set, which
    does only the bias and the activation there. gemm is "none", "scalar", "blas" or "packed" (own).
    """

    name: str
    op: str
    form: str
    simd: bool
    parallel: bool
    gemm: str
    provider: str
    idea: str


@dataclass(frozen=True)
class AttributeInfo:
    """One keyword of an op.

    type is bool, int, float, str or tuple (of axes). A str is one of `choices`, of which the op may
    refuse some; choices is () for the other types. None is accepted if it is the default, which an
    attribute that is required does not have.
    """

    name: str
    type: type
    default: Any
    is_required: bool
    choices: tuple[str | None, ...]


@dataclass(frozen=True)
class OpInfo:
    """One op: its input slots in order, those that may be absent, those that out may share.

    rows: slots of which row i of the output needs only row i, along the last axis, and the whole of
    the other slots; empty where rows depend on one another. For matmul it holds where b is one
    matrix. attributes: the keywords by name.
    """

    name: str
    slots: tuple[str, ...]
    optional: frozenset[str]
    in_place: frozenset[str]
    rows: frozenset[str]
    attributes: Mapping[str, AttributeInfo]


@dataclass(frozen=True)
class Ceilings:
    """The highest rates of this machine, measured now on `threads` threads.

    multiply_add_flops_per_s: float32 FLOP/s of independent multiply-adds in the registers of
    `provider`, the instruction set in use. memory_bytes_per_s: bytes read and written per second by
    y = a * s + b over arrays that are larger than the caches (a write counts once). fork_join_ns:
    median nanoseconds that a fork-join adds to its work while the pool is awake; 0 on one thread.
    """

    provider: str
    threads: int
    multiply_add_flops_per_s: float
    memory_bytes_per_s: float
    fork_join_ns: float


def measure_ceilings() -> Ceilings:
    """Measure the multiply-adds, the memory and the fork-join on get_num_threads() threads.

    Takes about half a second. The rates are the best of 10 runs, the fork-join is the median of 501
    calls. Raises MemoryError if 192 MiB are not free.
    """
    return Ceilings(*_native.measure_ceilings())


def op_table() -> list[KernelInfo]:
    """Return every kernel that exists here, the plainest of each op first."""
    return [KernelInfo(*row) for row in _native.kernel_rows()]


def ops() -> dict[str, OpInfo]:
    """Return every op by name."""
    return dict(_ops())


@cache
def _ops() -> dict[str, OpInfo]:
    table = {}
    for name, slots, in_place, rows, attributes in _native.op_rows():
        names = slots.split()
        table[name] = OpInfo(
            name,
            tuple(slot.rstrip("?") for slot in names),
            frozenset(slot.rstrip("?") for slot in names if slot.endswith("?")),
            frozenset(in_place.split()),
            frozenset(rows.split()),
            MappingProxyType({row[0]: AttributeInfo(*row) for row in attributes}),
        )
    return table


def build_info() -> dict[str, Any]:
    """Return how the wheel was built and what it uses here.

    Keys: table_version, compiler, flags, sanitizer, isa_built, isa_available, isa_bf16_available
    (sets that multiply bfloat16), isa_used, isa_packed (that of the packed kernels: vdsp has none),
    isa_bf16 (that of `attention_bf16`), simd, parallel, blas, blas_core (the kernels that
    the BLAS library really runs), blas_core_wanted (those asked of it; empty: its own choice),
    blas_library, clock.
    """
    return _native.build_info()


def best_kernel(
    op: str,
    shapes: Sequence[Sequence[int] | None],
    attributes: dict[str, Any] | None = None,
    *,
    constants: Sequence[str] = (),
) -> str:
    """Return the kernel that `kernel=None` takes for these input shapes (None: slot absent).

    `constants` names the slots that a program gets as constants. Raises ValueError for an unknown
    op or shapes that the op does not accept.
    """
    return _native.best_kernel(op, shapes, attributes or {}, constants)


def infer_shape(
    op: str,
    shapes: Sequence[Sequence[int] | None],
    attributes: dict[str, Any] | None = None,
) -> tuple[int, ...]:
    """Return the output shape of an op for these input shapes (None: slot absent).

    Raises ValueError for an unknown op or shapes that the op does not accept.
    """
    return _native.infer_shape(op, shapes, attributes or {})


def scratch_bytes(
    kernel: str,
    shapes: Sequence[Sequence[int] | None],
    attributes: dict[str, Any] | None = None,
    threads: int = 1,
    *,
    constants: Sequence[str] = (),
) -> int:
    """Return the bytes of scratch that a kernel needs for these shapes on this many threads.

    `constants` names the slots that a program gets as constants: a constant that is packed ahead
    takes no scratch. Raises ValueError for an unknown kernel or shapes that its op does not accept.
    """
    return _native.scratch_bytes(kernel, shapes, attributes or {}, threads, constants)


def packed_bytes(
    kernel: str,
    shapes: Sequence[Sequence[int] | None],
    attributes: dict[str, Any] | None = None,
    *,
    constants: Sequence[str] = (),
) -> int:
    """Return the bytes of a call's packed constants in a program; 0 where it packs none.

    `constants` names the slots that the program gets as constants. Raises ValueError for an unknown
    kernel or shapes that its op does not accept.
    """
    return _native.packed_bytes(kernel, shapes, attributes or {}, constants)


def set_num_threads(n: int) -> None:
    """Set how many threads parallel kernels use, the caller included: 1 to 1024.

    Programs are sized for the count at their construction and refuse to run with more. Raises
    ValueError outside the range.
    """
    _native.set_num_threads(n)


def get_num_threads() -> int:
    """Return how many threads parallel kernels use; at start `default_threads()`."""
    return _native.get_num_threads()


def clock_overhead_ns() -> float:
    """Return the median cost of one clock read of `Program.run_timed`, in nanoseconds."""
    return _native.clock_overhead_ns()

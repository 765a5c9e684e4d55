"""Memory that compiled programs share: equal constants, packed copies and the arena, once each."""

from __future__ import annotations

import weakref

import numpy as np

import ablation_kernels

from .ir import Array, Graph

# Elements that are compared before two constants are compared as a whole.
_SAMPLES = 64


class Workspace:
    """Memory of programs that take turns, for `compile(graph, workspace=...)`.

    The programs share one arena, as large as the largest needs. Constants of the same shape and
    bits are kept once, from whatever graph they come, and so is the packed copy that kernels read.
    A constant and its packed copies live as long as a graph or a program uses them, the arena as
    long as the workspace or one of its programs.
    """

    def __init__(self) -> None:
        self.native = ablation_kernels.Workspace()
        self._known: list[tuple[bytes, weakref.ref[Array]]] = []

    @property
    def arena_bytes(self) -> int:
        """Size of the arena: the largest that a program was compiled with."""
        return self.native.arena_bytes

    @property
    def packed_bytes(self) -> int:
        """Bytes of all packed copies that programs use now, each counted once."""
        return self.native.packed_bytes

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constants that graphs and programs use now, each counted once."""
        return sum(array.nbytes for _, known in self._known if (array := known()) is not None)

    def share_constants(self, graph: Graph) -> None:
        """Let a graph hold the workspace's array in the place of each constant equal to it.

        `compile` does it for the graph of its program. For a graph that is kept or interpreted, do
        it once after `optimize`, whose passes make new arrays in each call.
        """
        self._known = [entry for entry in self._known if entry[1]() is not None]
        for value, array in list(graph.constants.items()):
            graph.constants[value] = self._shared(array)

    def _shared(self, array: Array) -> Array:
        sample = _sample(array)
        for known_sample, reference in self._known:
            known = reference()
            if known is None or known_sample != sample:
                continue
            if known is array or _has_same_bits(known, array):
                return known
        self._known.append((sample, weakref.ref(array)))
        return array


def _sample(array: Array) -> bytes:
    """Type, shape and some elements: what equal arrays have in common and few others."""
    elements = array.reshape(-1)[:: max(1, array.size // _SAMPLES)]
    return repr((array.dtype.str, array.shape)).encode() + elements.tobytes()


def _has_same_bits(one: Array, other: Array) -> bool:
    """Whether the elements are equal bit by bit: -0.0 is not 0.0, a NaN is itself."""
    bits = f"u{one.itemsize}"
    return np.array_equal(one.view(bits), other.view(bits))

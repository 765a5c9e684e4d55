"""The reference of a module in float64, the error of PyTorch's float32, and the limit of a variant.

The reference is the module itself in float64, with what it casts to float32 left in float64. The
limit of a result is a multiple of the error that PyTorch makes in float32, eagerly: two programs
that round as often differ from the exact result by as much, up to the luck of the largest of all
elements. What is wrong is off by far more: one bfloat16 rounding by 2^16 times a float32 one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from ...runtimes.adapter import Array, as_tensors
from ...suite import Verdict
from .subject import Subject

Double = npt.NDArray[np.float64]

# Times the error of eager float32. Over the named models our largest error is 0.5 to 2.3 times that
# of eager float32 (data/models.json); the rest is for short results, of which one element is the
# largest by chance.
MULTIPLE = 8.0
# Units of 2^-24 of the largest element that every result may be off by: eager float32 may be exact
# where another order of a sum rounds.
LEAST_UNITS = 8.0
UNIT_ROUNDOFF = 2.0**-24
ALL_ELEMENTS_UP_TO = 1 << 22
SAMPLED_ROWS = 64


class InFloat64(TorchFunctionMode):
    """Has a module compute in float64 where it names float32: casts, sums, new tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call with float64 in the place of float32."""

        def widened(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        args, kwargs = pytree.tree_map(widened, (args, kwargs or {}))
        return (torch.Tensor.double if func is torch.Tensor.float else func)(*args, **kwargs)


@dataclass(frozen=True)
class Reference:
    """The results in float64, at `rows` of those that have very many, and the largest error of
    eager float32 in each; `fingerprint` is that of the weights and inputs."""

    names: tuple[str, ...]
    expected: tuple[Double, ...]
    eager: tuple[float, ...]
    fingerprint: int
    # With the inputs of `reverse`, which no program has met as it was built.
    other: Reference | None = None

    def limit(self, index: int) -> float:
        """Return what a result may be off by."""
        finite = self.expected[index][np.isfinite(self.expected[index])]
        most = float(np.abs(finite).max()) if finite.size else 0.0
        return max(MULTIPLE * self.eager[index], LEAST_UNITS * UNIT_ROUNDOFF * most)

    def save(self, path: Path) -> None:
        """Write as .npz."""
        parts = {"": self} if self.other is None else {"": self, "other_": self.other}
        arrays: dict[str, Any] = {
            "names": np.array(self.names),
            "fingerprint": np.array(self.fingerprint),
            **{f"{prefix}eager": np.array(part.eager) for prefix, part in parts.items()},
            **{
                f"{prefix}expected_{index}": array
                for prefix, part in parts.items()
                for index, array in enumerate(part.expected)
            },
        }
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @staticmethod
    def load(path: Path) -> Reference:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            names = tuple(map(str, arrays["names"]))

            def part(prefix: str, other: Reference | None) -> Reference:
                expected = (arrays[f"{prefix}expected_{index}"] for index in range(len(names)))
                eager = tuple(map(float, arrays[f"{prefix}eager"]))
                return Reference(names, tuple(expected), eager, int(arrays["fingerprint"]), other)

            return part("", part("other_", None) if "other_eager" in arrays else None)


def reverse(inputs: Sequence[Array]) -> None:
    """Turn the elements of each input around, where they lie: other inputs of the same kind.

    Token ids and masks stay some, and a second call restores all.
    """
    for array in inputs:
        flat = array.reshape(-1)
        flat[:] = flat[::-1].copy()


def sampled(array: Array) -> Array:
    """Return all rows of an array, or of a very large one 64 spread over it."""
    rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    if rows.size <= ALL_ELEMENTS_UP_TO:
        return rows
    return rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLED_ROWS).round().astype(np.int64))]


def compute_reference(subject: Subject) -> Reference:
    """Compute a module in float32 and then in float64, which its parameters are afterwards.

    `other` is that of the inputs reversed, None where the module does not take them so.
    """
    fingerprint = subject.fingerprint()
    with torch.no_grad():
        single = [_called(subject, is_wide=False)]
        reverse(subject.inputs)
        try:
            single.append(_called(subject, is_wide=False))
        except MemoryError:
            raise
        except Exception:
            # Whatever a module that wants them in an order raises
            single.append([])
        reverse(subject.inputs)
        # Deep copies would hold the weights twice more
        subject.module.double()
        other = None
        if single[1]:
            reverse(subject.inputs)
            other = _reference(subject, single[1], fingerprint)
            reverse(subject.inputs)
        return replace(_reference(subject, single[0], fingerprint), other=other)


def _called(subject: Subject, *, is_wide: bool) -> list[Array]:
    """Return the rows of the results that are compared."""
    given = as_tensors(subject.inputs)
    if is_wide:
        given = tuple(t.double() if t.is_floating_point() else t for t in given)
    result = subject.module(*given)
    parts = result if isinstance(result, list | tuple) else (result,)
    return [np.array(sampled(part.numpy())) for part in parts]


def _reference(subject: Subject, single: Sequence[Array], fingerprint: int) -> Reference:
    """Return the reference for the inputs as they are; `single` is what float32 gave."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with InFloat64():
            wide = _called(subject, is_wide=True)
    finally:
        torch.set_default_dtype(usual)
    expected = tuple(array.astype(np.float64) for array in wide)
    eager = tuple(_error(given, wanted)[0] for given, wanted in zip(single, expected, strict=True))
    return Reference(subject.results, expected, eager, fingerprint)


def _error(given: Array, expected: Double) -> tuple[float, int]:
    """Return the largest error, infinite where one is finite and the other is not or has another
    sign, and the place in the flat array."""
    with np.errstate(invalid="ignore"):
        same = (given == expected) | (np.isnan(given) & np.isnan(expected))
        error = np.where(same, 0.0, np.abs(given.astype(np.float64) - expected))
    error[np.isnan(error)] = np.inf
    place = int(error.argmax()) if error.size else 0
    return (float(error.flat[place]) if error.size else 0.0), place


def compare(
    results: Sequence[Array], reference: Reference, fingerprint: Callable[[], int] | None = None
) -> Verdict:
    """Compare results with the reference; the verdict has the largest error of each, its limit, and
    under `eager_error` the largest error of eager float32."""
    names = reference.names
    limits = {name: reference.limit(index) for index, name in enumerate(names)}
    if fingerprint is not None and fingerprint() != reference.fingerprint:
        reason = (
            "the factory returns other weights or inputs in another process: seed its random"
            " numbers, or load them from a file"
        )
        return Verdict({}, limits, reason, 0)
    if len(results) != len(names):
        return Verdict({}, limits, f"{len(results)} results, expected {len(names)}", 0)
    errors: dict[str, float] = {}
    wrong: str | None = None
    for index, (name, whole) in enumerate(zip(names, results, strict=True)):
        given, wanted = sampled(whole), reference.expected[index]
        if given.shape != wanted.shape:
            wrong = wrong or f"{name} has {given.shape} rows and columns, expected {wanted.shape}"
            continue
        errors[name], place = _error(given, wanted)
        if wrong is None and not errors[name] <= limits[name]:
            row, column = np.unravel_index(place, wanted.shape)
            wrong = (
                f"{name}: row {int(row)} column {int(column)} is {given.flat[place]:.6g}, expected"
                f" {wanted.flat[place]:.6g}; {limits[name]:.3g} allowed"
            )
    rows = sum(len(wanted) for wanted in reference.expected)
    details = {"eager_error": max(reference.eager, default=0.0)}
    return Verdict(errors, limits, wrong, rows, details)

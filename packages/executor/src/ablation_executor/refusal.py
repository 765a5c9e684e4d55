"""What export refuses and how it says so: each refusal names the op, its place and what works."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """One call that export refuses.

    `op` is the ATen overload, "" where the reason is not one op. `module_path` is that of the
    innermost module that made the call, "" for the root; `source` is file:line, "" where unknown.
    `is_unsupported`: the overload is outside the op set, with whatever arguments.
    """

    op: str
    reason: str
    module_path: str = ""
    module_kind: str = ""
    source: str = ""
    is_unsupported: bool = False

    @property
    def place(self) -> str:
        """The module and the line of the call, in words."""
        where = f"module {self.module_path!r}" if self.module_path else "the root module"
        kind = f" ({self.module_kind})" if self.module_kind else ""
        return f"{where}{kind}{f' at {self.source}' if self.source else ''}"

    def __str__(self) -> str:
        return f"{self.op}, made by {self.place}: {self.reason}"


class ExportError(ValueError):
    """The module cannot be exported as it is; the message says what to change.

    `refusals` has every refused call of the module, in running order, where the reason is calls.
    """

    def __init__(self, message: str, refusals: Sequence[Refusal] = ()) -> None:
        super().__init__(message)
        self.refusals = tuple(refusals)

    @property
    def op(self) -> str:
        """The ATen overload of the first refusal, "" where there is none."""
        return self.refusals[0].op if self.refusals else ""

    @property
    def module_path(self) -> str:
        """The module path of the first refusal, "" for the root module."""
        return self.refusals[0].module_path if self.refusals else ""


class UnsupportedOpError(ExportError, NotImplementedError):
    """At least one of the refused calls is of an ATen overload outside the op set."""


def near_names(op: str, supported: Iterable[str]) -> list[str]:
    """Three supported overloads, those whose ops have the nearest names."""
    overloads: dict[str, str] = {}
    for name in supported:
        overloads.setdefault(_op_name(name), name)
    near = difflib.get_close_matches(_op_name(op), overloads, n=3, cutoff=0.0)
    return [overloads[name] for name in near]


def _op_name(overload: str) -> str:
    """The middle of aten.op.overload."""
    return (*overload.split("."), overload)[1]


def error_of(refusals: Sequence[Refusal]) -> ExportError:
    """One error for all refused calls of a module, each op and reason once with its count."""
    kind = UnsupportedOpError if any(part.is_unsupported for part in refusals) else ExportError
    groups: dict[tuple[str, str], list[Refusal]] = {}
    for part in refusals:
        groups.setdefault((part.op, part.reason), []).append(part)
    if len(groups) == 1:
        (group,) = groups.values()
        times = f" ({len(group)} calls in all)" if len(group) > 1 else ""
        return kind(f"{group[0]}{times}", refusals)
    lines = [
        f"- {group[0].op} ({len(group)} call{'s' * (len(group) > 1)}), first made by"
        f" {group[0].place}: {group[0].reason}"
        for group in groups.values()
    ]
    return kind(f"{len(refusals)} calls are refused:\n" + "\n".join(lines), refusals)

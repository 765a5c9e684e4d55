"""What export refuses and how it says so: each refusal names the op, its place and what works."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """One call that export refuses, or one input or result.

    `op` is the ATen overload, "" where the reason is not one op. `module_path` is that of the
    innermost module that made the call, "" for the root; `source` is file:line, "" where unknown.
    `is_unsupported`: the overload is outside the op set, with whatever arguments. `near` has the
    supported overloads with the nearest names, where this one is outside; `advice` says what works.
    """

    op: str
    reason: str
    module_path: str = ""
    module_kind: str = ""
    source: str = ""
    is_unsupported: bool = False
    near: tuple[str, ...] = ()
    advice: str = ""

    @property
    def place(self) -> str:
        """The module and the line of the call, in words."""
        where = f"module {self.module_path!r}" if self.module_path else "the root module"
        kind = f" ({self.module_kind})" if self.module_kind else ""
        return f"{where}{kind}{f' at {self.source}' if self.source else ''}"

    def __str__(self) -> str:
        made = f"{self.op}, made by {self.place}: " if self.op else ""
        return f"{made}{self.why}"

    @property
    def why(self) -> str:
        """Reason, near names and advice in one text."""
        near = f"; the supported ops with the nearest names: {', '.join(self.near)}"
        advice = f". What works: {self.advice}"
        return f"{self.reason}{near if self.near else ''}{advice if self.advice else ''}"


@dataclass(frozen=True)
class RefusalGroup:
    """The refusals of one op for one reason; `module_paths` has each module that made one, once."""

    op: str
    reason: str
    count: int
    module_paths: tuple[str, ...]
    near: tuple[str, ...]
    advice: str
    first: Refusal


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

    @property
    def groups(self) -> list[RefusalGroup]:
        """The refusals by op and reason, in running order: the table of what stands against it."""
        return grouped(self.refusals)


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


#: What works in the place of ops that are often refused.
_OUTSIDE = "compute it behind the program, from its outputs"
_CHOOSE = "compute both and choose with torch.where"
_ADVICE = {
    **dict.fromkeys(("sort", "argsort", "topk", "argmax", "argmin", "unique", "mode"), _OUTSIDE),
    **dict.fromkeys(
        ("nonzero", "masked_select", "index_put", "scatter", "masked_scatter"), _CHOOSE
    ),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), "run this module in PyTorch"),
    "cumprod": "exp of cumsum of log, where all is positive",
}
_ANY_ADVICE = (
    "ops of supported_ops(), or torch.compile(model, backend='ablation'), which leaves this call to"
    " PyTorch"
)


def unsupported(
    op: str, supported: Iterable[str], module_path: str, module_kind: str, source: str
) -> Refusal:
    """The refusal of an overload outside the op set."""
    return Refusal(
        op,
        "it is not supported",
        module_path,
        module_kind,
        source,
        is_unsupported=True,
        near=tuple(near_names(op, supported)),
        advice=_ADVICE.get(_op_name(op), _ANY_ADVICE),
    )


def grouped(refusals: Iterable[Refusal]) -> list[RefusalGroup]:
    """Refusals by op and reason, in the order of the first of each."""
    groups: dict[tuple[str, str], list[Refusal]] = {}
    for part in refusals:
        groups.setdefault((part.op, part.reason), []).append(part)
    return [
        RefusalGroup(
            op,
            reason,
            len(group),
            tuple(dict.fromkeys(part.module_path for part in group)),
            group[0].near,
            group[0].advice,
            group[0],
        )
        for (op, reason), group in groups.items()
    ]


def error_of(refusals: Sequence[Refusal]) -> ExportError:
    """One error for all refused calls of a module, each op and reason once with its count."""
    kind = UnsupportedOpError if any(part.is_unsupported for part in refusals) else ExportError
    groups = grouped(refusals)
    if len(groups) == 1:
        times = f" ({groups[0].count} calls in all)" if groups[0].count > 1 else ""
        return kind(f"{groups[0].first}{times}", refusals)
    lines = [_line(group) for group in groups]
    calls = "calls are" if all(part.op for part in refusals) else "calls, inputs or results are"
    return kind(f"{len(refusals)} {calls} refused:\n" + "\n".join(lines), refusals)


def _line(group: RefusalGroup) -> str:
    if not group.op:
        return f"- {group.first}"
    calls = f"{group.count} call{'s' * (group.count > 1)}"
    return f"- {group.op} ({calls}), first made by {group.first.place}: {group.first.why}"

"""What is measured: one shape, type, mask and number of threads of a suite, and its label."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Scalar = int | float | bool | str

DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
DEVICES = ("cpu", "cuda")
# What a custom tier means where it leaves something out; the same for every suite.
CUSTOM_HEAD_DIM, CUSTOM_HEADS, CUSTOM_BATCH = 64, 12, 1
MAX_LENGTH, MAX_HEAD_DIM, MAX_HEADS, MAX_BATCH = 1 << 20, 1 << 12, 1 << 12, 1 << 12

_LABEL = re.compile(
    r"(?P<suite>[a-z-]+)/(?P<tier>\S+) (?P<mask>causal|full) B(?P<B>\d+) H(?P<H>\d+) "
    r"Q(?P<Nq>\d+) K(?P<Nk>\d+) d(?P<d>\d+) (?P<dtype>[a-z0-9]+) t(?P<threads>\d+) "
    r"(?P<device>[a-z]+)(?P<parameters>( [A-Za-z_]\w*=\S+)*)"
)
_PARAMETER = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Case:
    """One case of a suite: attention of q (B, H, Nq, d) over k and v (B, H, Nk, d), or a model with
    such attention in it, on `threads` threads of `device`.

    causal hides key j from query i where j > i, counted from the top left whatever Nq and Nk are.
    `parameters` holds what only the suite knows (tile sizes, a model's size, autocast), as sorted
    pairs so that a case can be hashed: give them by `make_case` and read them by `get`.
    """

    suite: str
    tier: str
    B: int
    H: int
    Nq: int
    Nk: int
    d: int
    dtype: str = "float32"
    causal: bool = False
    threads: int = 1
    device: str = "cpu"
    parameters: tuple[tuple[str, Scalar], ...] = ()

    def __post_init__(self) -> None:
        """ValueError for what a label could not carry."""
        for name in ("B", "H", "Nq", "Nk", "d", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted: 1 and more")
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"dtype {self.dtype!r}; accepted: {', '.join(DTYPE_BYTES)}")
        if self.device not in DEVICES:
            raise ValueError(f"device {self.device!r}; accepted: {', '.join(DEVICES)}")
        if list(self.parameters) != sorted(dict(self.parameters).items()):
            raise ValueError(f"parameters {self.parameters} are not sorted pairs of distinct names")
        for name, value in self.parameters:
            if not _PARAMETER.fullmatch(name) or _scalar(_text(value)) != value:
                raise ValueError(f"parameter {name}={value!r} would not come back from a label")

    @property
    def label(self) -> str:
        """The case in one line, from its fields: `parse_label` is the way back."""
        parts = [
            f"{self.suite}/{self.tier}",
            "causal" if self.causal else "full",
            f"B{self.B} H{self.H} Q{self.Nq} K{self.Nk} d{self.d}",
            f"{self.dtype} t{self.threads} {self.device}",
            *(f"{name}={_text(value)}" for name, value in self.parameters),
        ]
        return " ".join(parts)

    def get(self, name: str, default: Any = None) -> Any:
        """A parameter of the suite's own."""
        return dict(self.parameters).get(name, default)

    def with_parameters(self, **changes: Scalar) -> Case:
        """This case with some parameters set anew."""
        merged = {**dict(self.parameters), **changes}
        return dataclasses.replace(self, parameters=tuple(sorted(merged.items())))

    @property
    def scale(self) -> float:
        """What the scores are multiplied with: the parameter `scale`, or 1 / sqrt(d)."""
        return float(self.get("scale", self.d**-0.5))

    @property
    def q_shape(self) -> tuple[int, int, int, int]:
        """Shape of the queries and of the output."""
        return (self.B, self.H, self.Nq, self.d)

    @property
    def k_shape(self) -> tuple[int, int, int, int]:
        """Shape of the keys and of the values."""
        return (self.B, self.H, self.Nk, self.d)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return DTYPE_BYTES[self.dtype]

    @property
    def input_bytes(self) -> int:
        """Bytes of q, k and v."""
        return self.itemsize * self.B * self.H * self.d * (self.Nq + 2 * self.Nk)

    @property
    def output_bytes(self) -> int:
        """Bytes of the output."""
        return self.itemsize * self.B * self.H * self.d * self.Nq

    @property
    def scores_bytes(self) -> int:
        """Bytes of all scores, (B, H, Nq, Nk), in the case's type."""
        return self.itemsize * self.B * self.H * self.Nq * self.Nk

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key that it sees, in one head, counted exactly."""
        if not self.causal:
            return self.Nq * self.Nk
        within = min(self.Nq, self.Nk)
        return within * (within + 1) // 2 + (self.Nq - within) * self.Nk

    @property
    def flops_useful(self) -> int:
        """Operations of both forward products over the pairs that count: 4 d a pair. A tile that is
        computed and masked adds nothing, nor does one that is skipped."""
        return 4 * self.B * self.H * self.d * self.pairs

    @property
    def flops_fa(self) -> int:
        """The convention of the FlashAttention papers for the forward: 4 B H Nq Nk d, half of it
        under a causal mask."""
        whole = 4 * self.B * self.H * self.Nq * self.Nk * self.d
        return whole // 2 if self.causal else whole

    def to_dict(self) -> dict[str, Any]:
        """For a message to a worker."""
        fields = dataclasses.asdict(self)
        return {**fields, "parameters": dict(self.parameters)}

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Case:
        """The case whose `to_dict` gave `fields`."""
        return Case(**{**fields, "parameters": tuple(sorted(fields["parameters"].items()))})


def make_case(suite: str, tier: str, shape: tuple[int, int, int, int, int], **given: Any) -> Case:
    """A case of shape (B, H, Nq, Nk, d); what is no field of `Case` is a parameter of the suite."""
    fields = {field.name for field in dataclasses.fields(Case)}
    parameters = {name: value for name, value in given.items() if name not in fields}
    own = {name: value for name, value in given.items() if name in fields}
    return Case(suite, tier, *shape, **own, parameters=tuple(sorted(parameters.items())))


def parse_label(label: str) -> Case:
    """The case that has this label; ValueError for a text that is none."""
    found = _LABEL.fullmatch(label)
    if found is None:
        raise ValueError(f"{label!r} is no label of a case")
    pairs = (part.split("=", 1) for part in found["parameters"].split())
    batch, heads, length_q, length_k, head_dim = (
        int(found[name]) for name in ("B", "H", "Nq", "Nk", "d")
    )
    return Case(
        found["suite"],
        found["tier"],
        batch,
        heads,
        length_q,
        length_k,
        head_dim,
        dtype=found["dtype"],
        causal=found["mask"] == "causal",
        threads=int(found["threads"]),
        device=found["device"],
        parameters=tuple(sorted((name, _scalar(text)) for name, text in pairs)),
    )


@dataclass(frozen=True)
class CustomTier:
    """Sizes given on the command line as Q:K[:head_dim[:heads[:batch]]]; the name is the text with
    every default written out, so that it parses back to the same sizes."""

    Nq: int
    Nk: int
    d: int = CUSTOM_HEAD_DIM
    H: int = CUSTOM_HEADS
    B: int = CUSTOM_BATCH

    @property
    def name(self) -> str:
        """The tier's name, for example 1000:1000:64:12:1."""
        return f"{self.Nq}:{self.Nk}:{self.d}:{self.H}:{self.B}"

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(B, H, Nq, Nk, d), as `make_case` takes it."""
        return (self.B, self.H, self.Nq, self.Nk, self.d)


def is_custom(text: str) -> bool:
    """True for a tier that is meant as sizes, well formed or not."""
    return ":" in text


def parse_custom(text: str) -> CustomTier:
    """The sizes of a custom tier; ValueError telling what is accepted."""
    accepted = (
        f"accepted: Q:K[:head_dim[:heads[:batch]]], Q and K from 1 to {MAX_LENGTH}, head_dim from "
        f"1 to {MAX_HEAD_DIM} (default {CUSTOM_HEAD_DIM}), heads from 1 to {MAX_HEADS} (default "
        f"{CUSTOM_HEADS}), batch from 1 to {MAX_BATCH} (default {CUSTOM_BATCH})"
    )
    parts = text.strip().split(":")
    most = (MAX_LENGTH, MAX_LENGTH, MAX_HEAD_DIM, MAX_HEADS, MAX_BATCH)
    if not 2 <= len(parts) <= len(most) or not all(part.isdecimal() for part in parts):
        raise ValueError(f"tier {text!r} is not of that form; {accepted}")
    numbers = [int(part) for part in parts]
    if any(not 1 <= number <= top for number, top in zip(numbers, most, strict=False)):
        raise ValueError(f"tier {text!r} is out of range; {accepted}")
    return CustomTier(*numbers)


def _text(value: Scalar) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _scalar(text: str) -> Scalar:
    """A number or a truth value as JSON has it, or else the text; "" and blanks are none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text if re.fullmatch(r"\S+", text) else f"{text!r} has blanks"
    return value if isinstance(value, int | float | bool) else f"{text!r} is no scalar"

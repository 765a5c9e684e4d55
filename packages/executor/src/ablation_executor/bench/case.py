"""What is measured: one size of a suite with type, threads and device, and its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablation_report.rows import (
    DEVICES,
    DTYPE_BYTES,
    attention_pairs,
    case_name,
    make_label,
    parse_label,
)

Scalar = int | float | bool | str

# What a custom tier means where it leaves something out; the same for every suite.
CUSTOM_HEAD_DIM, CUSTOM_HEADS, CUSTOM_BATCH = 64, 12, 1
MAX_LENGTH, MAX_HEAD_DIM, MAX_HEADS, MAX_BATCH = 1 << 20, 1 << 12, 1 << 12, 1 << 12
SHAPE = ("B", "H", "Nq", "Nk", "d")


@dataclass(frozen=True)
class Case:
    """One case of a suite on `threads` threads of `device`.

    `sizes` has what the suite measures, as sorted pairs so that a case can be hashed: give them by
    `make_case`, read them by `get`. Attention of q (B, H, Nq, d) over k and v (B, H, Nk, d), or a
    model with such attention in it, has B, H, Nq, Nk, d and causal among them; causal hides key j
    from query i where j > i, counted from the top left whatever Nq and Nk are.
    """

    suite: str
    tier: str
    sizes: tuple[tuple[str, Scalar], ...]
    dtype: str = "float32"
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        """ValueError for what a label could not carry."""
        for name in (*SHAPE, "threads"):
            value = self.threads if name == "threads" else self.get(name, 1)
            if value < 1:
                raise ValueError(f"{name} is {value}; accepted: 1 or more")
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"dtype {self.dtype!r}; accepted: {', '.join(DTYPE_BYTES)}")
        if self.device not in DEVICES:
            raise ValueError(f"device {self.device!r}; accepted: {', '.join(DEVICES)}")
        if list(self.sizes) != sorted(dict(self.sizes).items()):
            raise ValueError(f"sizes {self.sizes} are not sorted pairs of distinct names")
        _ = self.label

    @property
    def label(self) -> str:
        """The case in one line, from its fields; `case_of` reads it."""
        return make_label(
            self.suite, self.tier, dict(self.sizes), self.dtype, self.threads, self.device
        )

    @property
    def name(self) -> str:
        """The case in a word or a few, as progress and errors print it."""
        return case_name(dict(self.sizes)) or self.label

    def get(self, name: str, default: Any = None) -> Any:
        """A size by name."""
        return dict(self.sizes).get(name, default)

    def with_sizes(self, **changes: Scalar) -> Case:
        """This case with some sizes set anew."""
        sizes = {**dict(self.sizes), **changes}
        return Case(
            self.suite,
            self.tier,
            tuple(sorted(sizes.items())),
            self.dtype,
            self.threads,
            self.device,
        )

    @property
    def B(self) -> int:
        """Batch of the attention."""
        return self._length("B")

    @property
    def H(self) -> int:
        """Heads."""
        return self._length("H")

    @property
    def Nq(self) -> int:
        """Queries of a head."""
        return self._length("Nq")

    @property
    def Nk(self) -> int:
        """Keys of a head."""
        return self._length("Nk")

    @property
    def d(self) -> int:
        """Width of a head."""
        return self._length("d")

    @property
    def causal(self) -> bool:
        """Whether key j is hidden from query i where j > i."""
        return bool(self.get("causal", False))

    def _length(self, name: str) -> int:
        value = self.get(name)
        if value is None:
            raise AttributeError(f"the case {self.label!r} has no {name}")
        return int(value)

    @property
    def scale(self) -> float:
        """What the scores are multiplied with: the size `scale`, or 1 / sqrt(d)."""
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
        return int(self.itemsize * self.B * self.H * self.d * (self.Nq + 2 * self.Nk))

    @property
    def output_bytes(self) -> int:
        """Bytes of the output."""
        return int(self.itemsize * self.B * self.H * self.d * self.Nq)

    @property
    def scores_bytes(self) -> int:
        """Bytes of all scores, (B, H, Nq, Nk), in the case's type."""
        return int(self.itemsize * self.B * self.H * self.Nq * self.Nk)

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key that it sees, in one head, counted exactly."""
        return attention_pairs({"Nq": self.Nq, "Nk": self.Nk, "causal": self.causal})

    @property
    def flops_useful(self) -> int:
        """Operations of both forward products over the pairs that count: 4 d a pair. A tile that is
        computed and masked adds nothing, nor does one that is skipped."""
        return int(4 * self.B * self.H * self.d * self.pairs)

    @property
    def flops_fa(self) -> int:
        """The convention of the FlashAttention papers for the forward: 4 B H Nq Nk d, half of it
        under a causal mask."""
        whole = int(4 * self.B * self.H * self.Nq * self.Nk * self.d)
        return whole // 2 if self.causal else whole

    def to_dict(self) -> dict[str, Any]:
        """For a message to a worker."""
        return {"label": self.label}

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Case:
        """The case whose `to_dict` gave `fields`."""
        return case_of(fields["label"])


def case_of(label: str) -> Case:
    """The case that has this label; ValueError for a text that is none."""
    fields = parse_label(label)
    sizes = tuple(sorted(fields.pop("sizes").items()))
    return Case(sizes=sizes, **fields)


def make_case(
    suite: str, tier: str, shape: Sequence[int] = (), *, causal: bool | None = None, **given: Any
) -> Case:
    """A case of shape (B, H, Nq, Nk, d), or of none; what is no field of `Case` is a size."""
    fields = {name: given.pop(name) for name in ("dtype", "threads", "device") if name in given}
    sizes = dict(zip(SHAPE, shape, strict=True)) if shape else {}
    if causal is not None:
        sizes["causal"] = causal
    return Case(suite, tier, tuple(sorted({**sizes, **given}.items())), **fields)


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
    """The sizes of a custom tier; ValueError with what is accepted."""
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

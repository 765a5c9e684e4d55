"""What several cases of a run say together: growth over the length, and means over cases; and the
words for a case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ablation_report.fit import slope
from ablation_report.means import GeometricMean, geometric_mean
from ablation_report.run import Row, Run

# Shorter calls are start-up as much as work.
MIN_LENGTH = 1024
# What most cases of a suite have, and is not repeated in each name.
USUAL = {"autocast": "none", "inputs": "randn", "softmax": "safe", "scale": 1}
SHAPE = ("B", "H", "Nq", "Nk", "d", "causal")


@dataclass(frozen=True)
class Series:
    """The rows of one variant and phase that differ in length alone, shortest first."""

    variant: str
    phase: str
    where: str
    rows: tuple[Row, ...]

    def exponent(self, value: Callable[[Row], float | None]) -> float | None:
        """Return the power of the length with which a value grows, fitted over N of 1024 and more;
        None without two lengths that have it."""
        return slope(self.points(value))

    def points(self, value: Callable[[Row], float | None]) -> list[tuple[float, float]]:
        """Return length and value of each row of N of 1024 and more that has one."""
        return [
            (row["sizes"]["Nk"], found)
            for row in self.rows
            if row["sizes"]["Nk"] >= MIN_LENGTH and (found := value(row))
        ]

    @property
    def first_oom(self) -> Row | None:
        """The shortest length that did not fit into memory."""
        return next((row for row in self.rows if row["status"] == "oom"), None)


def series_of(run: Run) -> list[Series]:
    """Group the square cases of a run by what they have in common, without the length.

    Of several rows of one length (a published case that was run twice) the first counts.
    """
    groups: dict[tuple[str, str, str, str], dict[int, Row]] = {}
    for row in run.rows:
        sizes = row["sizes"]
        if "Nk" in sizes and sizes["Nk"] == sizes.get("Nq"):
            # The words leave out what is usual.
            others = str(sorted(_others(row).items()))
            key = (row["variant"], row["phase"], where(row), others)
            groups.setdefault(key, {}).setdefault(sizes["Nk"], row)
    return [
        Series(variant, phase, words, tuple(found[length] for length in sorted(found)))
        for (variant, phase, words, _), found in groups.items()
    ]


def where(row: Row) -> str:
    """Write a case without its length: tier, mask, batch, heads, head size, dtype."""
    words = [str(row["tier"]), *_mask(row), *_shape(row), str(row["dtype"])]
    if row["threads"] is not None:
        words.append("1 thread" if row["threads"] == 1 else f"{row['threads']} threads")
    return ", ".join([*words, *_other_words(row)])


def short_case(row: Row) -> str:
    """Write a case without what its tier has in common: mask, length, batch, heads, head size.

    A case that has a name is called by it.
    """
    sizes, last = row["sizes"], list[str]()
    if "config" in sizes:
        words = [str(sizes["config"])]
        last = [f"batch {sizes['B']}"] if sizes.get("B", 1) != 1 else []
    elif "model" in sizes or "module" in sizes:
        return ", ".join(_model_words(sizes))
    else:
        length = [f"N {length_of(row)}"] if "Nk" in row["sizes"] else []
        words = [*_mask(row), *length, *_shape(row)]
    if row["dtype"] != "float32":
        words.append(str(row["dtype"]))
    return ", ".join([*words, *_other_words(row), *last])


def length_of(row: Row) -> str:
    """Write the length of the sequence, or queries x keys."""
    queries, keys = row["sizes"].get("Nq"), row["sizes"]["Nk"]
    return str(keys) if queries in (None, keys) else f"{queries}x{keys}"


def mask_of(row: Row) -> str:
    """Write the mask in a word."""
    return "causal" if row["sizes"].get("causal") else "full"


def mean_ratios(run: Run, rows: Iterable[Row]) -> dict[tuple[str, str], GeometricMean]:
    """Return for each variant and phase the geometric mean of its time over that of the baseline,
    over the cases of these rows; a case without a ratio is missing."""
    groups: dict[tuple[str, str], dict[str, float | None]] = {}
    for row in rows:
        if row["variant"] == run.baseline:
            continue
        ratio = run.ratio(row, run.row(row["case"], run.baseline, row["phase"]))
        name = f"{short_case(row)} ({row['status']})" if ratio is None else row["case"]
        group = groups.setdefault((row["variant"], row["phase"]), {})
        group[name] = ratio.value if ratio else None
    return {key: geometric_mean(ratios) for key, ratios in groups.items()}


def _model_words(sizes: Mapping[str, object]) -> list[str]:
    """Write a named model, or a user's module, with what is not usual."""
    if "module" in sizes:
        return [str(sizes["module"])]
    words = [str(sizes["model"])]
    words += [f"N {sizes['Nk']}"] if "Nk" in sizes else []
    words += [f"B{sizes['B']}"] if sizes.get("B", 1) != 1 else []
    words += [f"{sizes['layers']} layers"] if sizes.get("layers", 1) != 1 else []
    words += [str(sizes["size"])] if "size" in sizes else []
    return words + ([f"{sizes['attention']} attention"] if "attention" in sizes else [])


def _mask(row: Row) -> list[str]:
    return [mask_of(row)] if "causal" in row["sizes"] else []


def _shape(row: Row) -> list[str]:
    words = [f"{name}{row['sizes'][name]}" for name in ("B", "H", "d") if name in row["sizes"]]
    return [" ".join(words)] if words else []


def _others(row: Row) -> dict[str, object]:
    """The sizes that are neither the shape of attention nor the name of the case."""
    named = (*SHAPE, "config")
    return {name: value for name, value in row["sizes"].items() if name not in named}


def _other_words(row: Row) -> list[str]:
    """Write what a suite's own sizes say; what is usual is left out, and widths where they have a
    name."""
    left = {name: value for name, value in _others(row).items() if USUAL.get(name) != value}
    if "size" in left:
        left = {k: v for k, v in left.items() if k not in ("layers", "d_ff", "vocab", "table_year")}
    words = [str(left.pop("size"))] if "size" in left else []
    if "layers" in left:
        words.append(f"{left.pop('layers')} layers")
        left.pop("d_ff", None)
        left.pop("vocab", None)
    if "block_q" in left and "block_k" in left:
        words.append(f"tile {left.pop('block_q')}x{left.pop('block_k')}")
    return [*words, *(_written(name, value) for name, value in sorted(left.items()))]


def _written(name: str, value: object) -> str:
    words = {"study_warmup": "calls before"}
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"{words.get(name, name)} {text}"

"""Makes damaged, foreign and odd copies of recorded runs and published files, by a seed."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ablation_report.load import read
from ablation_report.rows import HEADER_COLUMNS, ROW_COLUMNS, ROWS_NAME, make_label

DATA = Path(__file__).parents[3] / "data"
# Of each kind a recorded run, the rows that are taken of it, and the file that they are in; every
# run of the first schema is taken as a run of the present one too
RUNS = (
    ("2026-11-20-zen4-2-cores", 24, "cells.jsonl"),
    ("2026-11-20-zen4-attention", 12, "attention.jsonl"),
    ("2026-11-25-zen4-attention-sweep-quick", 16, "rows.jsonl"),
    ("2026-11-25-zen4-lm-step-quick", 12, "rows.jsonl"),
    ("2026-11-25-zen4-attention-parts-quick", 10, "rows.jsonl"),
    ("2026-11-25-zen4-attention-backward-quick", 12, "rows.jsonl"),
)
FILES = ("block_ablation_m4max.csv", "suites.csv")
LINES = 17

Json = Any
# In the place of a value; the last are written as they stand
ODD: tuple[Json, ...] = (
    *(None, True, False, 0, -1, 1, 7, 1.5, -0.0, 1e-320, 1e308, float("inf"), float("nan")),
    *(2**31, 2**53 + 1, 2**62, 2**63 - 1, 2**63, -(2**63), 2**70, 10**40, 10**400),
    *("", " ", "x", "oom", "1", "1e3", "naïve", "日本", "a\nb", "a|b", "\x1b[31m", "../../x", "\0"),
    *("\ud800", "x" * 5000, "index", "<b>", "${x}", "ok", "error", "data_parallel_x"),
    *([], {}, [[]], [None], [0], [1], [1, 2], ["x"], [2**63], [1.5], [-1], {"": 0}, {"x": {}}),
    *({"1": {}}, {"0": {}}, {"x" * 300: 1}, [1] * 2000, list(range(40))),
)
CELLS = (
    *("", " ", "0", "-1", "1", "1.5", "1,000", "1.000,5", "nan", "inf", "-inf", "1e400", "1e5"),
    *("١٢", "1_000", " 12 ", "+5", "0x10", "9" * 30, "9" * 5000, "x", '"', '"a\nb"', "ok", "oom"),
    *("a;b", "'", "naïve", "\x00", "=1+1", "TRUE", "x" * 200_000, "1e-320", "1e17", "torch-naive"),
)


class Mutant:
    """A run or published file to be written: the header, lines of rows, and what to do at last."""

    def __init__(self, generator: random.Random, header: Json, rows: list[Json], name: str) -> None:
        self.generator = generator
        self.header = header
        self.rows = rows
        self.name = name
        self.told: list[str] = []

    def write(self, folder: Path) -> Path:
        """Write the run, damage its files as the seed says, and return its folder."""
        folder.mkdir(parents=True)
        lines = [json.dumps(row).encode() for row in self.rows]
        (folder / "run.json").write_bytes(json.dumps(self.header).encode())
        (folder / self.name).write_bytes(b"".join(line + b"\n" for line in lines))
        if self.generator.random() < 0.3:
            chosen = folder / self.generator.choice(["run.json", self.name, self.name])
            self.told.append(f"{chosen.name}: {damage_file(self.generator, chosen)}")
        return folder

    def change(self) -> None:
        """Change a value of the header, of a row, or the same one of all rows."""
        where = self.generator.choice(["header", "row", "row", "rows", "rows", "list"])
        if where == "header":
            self.told.append("header " + change_value(self.generator, self.header))
        elif where == "list" or not self.rows:
            self.told.append(change_lines(self.generator, self.rows))
        else:
            row = self.generator.choice(self.rows)
            seed = self.generator.random()
            chosen = [row] if where == "row" else self.rows
            told = [change_value(random.Random(seed), each) for each in chosen if _is_row(each)]
            self.told.append(f"{where} {told[:1]}")

    def mend(self) -> None:
        """Make what depends on other columns agree with them again, where that can be."""
        for row in self.rows:
            try:
                if "d_model" in row:
                    sizes = [row[name] for name in ("batch", "seq_len", "d_model")]
                    if not all(isinstance(size, int) for size in sizes):
                        continue
                    batch, s, d = sizes
                    row["flops"] = batch * (24 * s * d * d + 4 * s * s * d)
                elif "parameters" in row:
                    shape = {name: row[name] for name in ("B", "H", "Nq", "Nk", "d", "causal")}
                    row["case"] = _label(row, shape | row["parameters"])
                    row["scale"] = float(row["parameters"].get("scale", row["d"] ** -0.5))
                    self.list_names(row, ("impl", "impls"), ("case", "cases"), ("tier", "tiers"))
                elif "case" in row:
                    row["case"] = _label(row, row["sizes"])
                    columns = ("variant", "case", "phase", "tier")
                    self.list_names(row, *((name, f"{name}s") for name in columns))
                row["run_id"] = self.header["run_id"]
            except (TypeError, KeyError, ValueError, AttributeError, ArithmeticError):
                continue

    def list_names(self, row: Json, *columns: tuple[str, str]) -> None:
        """Have the header list what a row is of."""
        for name, listed in columns:
            if row[name] not in self.header[listed]:
                self.header[listed].append(row[name])


def _label(row: Json, sizes: Json) -> str:
    names = ("dtype", "threads", "device")
    return make_label(row["suite"], row["tier"], sizes, *(row[name] for name in names))


def _is_row(value: Json) -> bool:
    return isinstance(value, dict)


def places(value: Json) -> Iterator[tuple[Json, Json]]:
    """Every entry of a nested value, as what holds it and its key."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in list(entries):
        yield value, key
        if isinstance(entry, dict | list):
            # Of a long list the first say as much
            yield from list(places(entry))[:12]


def change_value(generator: random.Random, value: Json) -> str:
    """Change one entry at any depth of a nested value; say what was done."""
    if not value:
        return "empty"
    holder, key = generator.choice(list(places(value)))
    old = holder[key]
    kind = generator.choice(["odd", "odd", "odd", "scale", "delete", "add", "list", "repeat"])
    if kind == "scale" and isinstance(old, int | float) and not isinstance(old, bool):
        holder[key] = old * generator.choice([-1, 0, 2, 1000, 10**9, 10**18, 0.5])
    elif kind == "delete":
        del holder[key]
    elif kind == "add" and isinstance(holder, dict):
        holder[generator.choice(["surprise", "", "\ud800", "a\nb"])] = copy.deepcopy(
            generator.choice(ODD)
        )
    elif kind in ("list", "repeat") and isinstance(old, list) and old:
        holder[key] = old[:-1] if kind == "list" else old * 2
    else:
        holder[key] = copy.deepcopy(generator.choice(ODD))
    return f"{key!r}: {kind}, {repr(holder.get(key) if isinstance(holder, dict) else '')[:60]}"


def change_lines(generator: random.Random, rows: list[Json]) -> str:
    """Change which rows there are."""
    kind = generator.choice(["none", "twice", "gone", "swapped", "value"])
    if kind == "none" or not rows:
        rows.clear()
    elif kind == "twice":
        rows.append(copy.deepcopy(generator.choice(rows)))
    elif kind == "gone":
        rows.remove(generator.choice(rows))
    elif kind == "swapped":
        rows.reverse()
    else:
        rows[generator.randrange(len(rows))] = copy.deepcopy(generator.choice(ODD))
    return f"rows {kind}"


def damage_bytes(generator: random.Random, content: bytes) -> tuple[str, bytes]:
    """Damage the bytes of a file; return what was done and the result."""
    n = len(content)
    at, end = sorted((generator.randint(0, n), generator.randint(0, n)))
    kinds: dict[str, Callable[[], bytes]] = {
        "cut": lambda: content[:at],
        "hole": lambda: content[:at] + content[end:],
        "zeros": lambda: content[:at] + bytes(end - at) + content[end:],
        "byte": lambda: content[:at] + bytes([generator.randrange(256)]) + content[at:],
        "mark": lambda: b"\xef\xbb\xbf" + content,
        "utf-16": lambda: content.decode(errors="replace").encode("utf-16"),
        "utf-16-le": lambda: content.decode(errors="replace").encode("utf-16-le"),
        "latin-1": lambda: content.replace(b"a", b"\xe4", 1),
        "crlf": lambda: content.replace(b"\n", b"\r\n"),
        "cr": lambda: content.replace(b"\n", b"\r"),
        "empty": lambda: b"",
        "blank": lambda: content.replace(b"\n", b"\n\n", 1),
        "blank end": lambda: content + b"\n\n",
        "no end": lambda: content.rstrip(b"\n"),
        "joined": lambda: content.replace(b"}\n{", b"}{", 1),
        "deep": lambda: b"[" * 100_000 + content,
        "deep value": lambda: content.replace(b": ", b": " + b"[" * 60 + b"]" * 60 + b", ", 1),
        "nested": lambda: content.replace(b"null", b"[" * 900 + b"]" * 900, 1),
        "digits": lambda: content.replace(b"1", b"1" * 5000, 1),
        "exponent": lambda: content.replace(b"1", b"1e400", 1),
        "twice": lambda: content.replace(b"{", b'{"run_id": "x", "run_id": "y", ', 1),
        "literal": lambda: content.replace(b"null", b"NaN", 1),
        "surrogate": lambda: content.replace(b'": "', rb'": "\ud800', 1),
        "itself": lambda: content + content,
    }
    kind = generator.choice(sorted(kinds))
    return kind, kinds[kind]()


def damage_file(generator: random.Random, path: Path) -> str:
    """Damage the bytes of a file, or put something else in its place; say what."""
    others = ["nowhere", "loop", "pipe"]
    others += ["gone", "folder", "kinds"] if path.suffix.lower() != ".csv" else []
    other = generator.choice(["bytes"] * 12 + others)
    if other == "bytes":
        kind, content = damage_bytes(generator, path.read_bytes())
        path.write_bytes(content)
        return kind
    if other == "kinds":
        (path.parent / generator.choice(["cells.jsonl", "rows.jsonl"])).touch()
        return other
    path.unlink()
    if other == "folder":
        path.mkdir()
    elif other == "nowhere":
        path.symlink_to("nowhere")
    elif other == "loop":
        path.symlink_to(path)
    elif other == "pipe":
        os.mkfifo(path)
    return other


def mutate_csv(generator: random.Random, name: str, folder: Path) -> tuple[Path, str]:
    """Write a published file with a few changes; return it and what was done."""
    lines = (DATA / "published" / name).read_text(encoding="utf-8").splitlines()[:LINES]
    table = [line.split(",") for line in lines]
    told = []
    for _ in range(generator.randint(0, 2)):
        row = generator.randrange(len(table)) if table else 0
        kind = generator.choice(["cell", "cell", "cell", "row twice", "column", "gone", "order"])
        if not table or not table[row]:
            break
        if kind == "cell":
            column = generator.randrange(len(table[row]))
            table[row][column] = generator.choice(CELLS)
            told.append(f"row {row}, column {column}: {table[row][column][:20]!r}")
            continue
        told.append(f"{kind} {row}")
        if kind == "row twice":
            table.append(list(table[row]))
        elif kind == "gone":
            del table[row]
        elif kind == "order":
            table.reverse()
        else:
            column = generator.randrange(len(table[row]))
            is_added = generator.random() < 0.5
            for each in table:
                each[column : column + 1] = each[column : column + 1] * (2 if is_added else 0)
    separator = generator.choice([","] * 12 + [";", "\t", ", "])
    content = "".join(separator.join(row) + "\n" for row in table).encode("utf-8")
    path = folder / generator.choice(["figures.csv", "figures.CSV"])
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if generator.random() < 0.4:
        told.append(damage_file(generator, path))
    return path, f"{name}, {separator!r}: {'; '.join(told)}"


_READ: dict[str, tuple[Json, list[Json]]] = {}


def base(name: str, n_rows: int, rows_name: str) -> tuple[Json, list[Json]]:
    """The header and some rows of a recorded run, as they stand in its files."""
    if name not in _READ:
        folder = DATA / "runs" / name
        lines = (folder / rows_name).read_text(encoding="utf-8").splitlines()
        # The last differ in more than the first from each other
        chosen = [*lines[: n_rows // 2], *lines[-(n_rows // 2) :]]
        header = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        _READ[name] = header, [json.loads(line) for line in dict.fromkeys(chosen)]
    return copy.deepcopy(_READ[name])


def present(name: str, n_rows: int) -> tuple[Json, list[Json]]:
    """The same of the present schema."""
    key = f"{name} lifted"
    if key not in _READ:
        (run,) = read(DATA / "runs" / name)
        rows = [*run.rows[: n_rows // 2], *run.rows[-(n_rows // 2) :]]
        header = {name: run.header[name] for name in HEADER_COLUMNS if name in run.header}
        _READ[key] = header, [{column: row[column] for column in ROW_COLUMNS} for row in rows]
    return copy.deepcopy(_READ[key])


def mutate(seed: int, folder: Path) -> tuple[Path, str]:
    """Write the mutant of a seed below a folder; return its path and what was done."""
    generator = random.Random(seed)
    if generator.random() < 0.25:
        return mutate_csv(generator, generator.choice(FILES), folder / "published")
    name, n_rows, rows_name = generator.choice(RUNS)
    if generator.random() < 0.5:
        mutant = Mutant(generator, *present(name, n_rows), ROWS_NAME)
    else:
        mutant = Mutant(generator, *base(name, n_rows, rows_name), rows_name)
    for _ in range(generator.choice([0, 1, 1, 1, 2, 3])):
        mutant.change()
    if generator.random() < 0.7:
        mutant.mend()
    path = mutant.write(folder / "run")
    return path, f"{name}: {'; '.join(mutant.told)}"

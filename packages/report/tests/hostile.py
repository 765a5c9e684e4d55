"""Makes runs and published files whose every text has markup in it, and the same without."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from attribution_samples import SMALL_FACTORS, make_attribution_rows, run_of
from samples import (
    label_of,
    make_attention_row,
    make_header,
    make_row,
    make_untimed,
    write_run,
)

# Of HTML, of Markdown and its extensions, of links, and what ends a string or a line
PAYLOAD = (
    "<script>alert(1)</script> </title><img src=x onerror=alert(1)> &lt;i&gt; \"q\" 'a' <!-- --> "
    "[x](javascript:alert(1)) ![y](http://e.example/p.png) <javascript:alert(1)> [z][1] "
    "https://e.example www.e.example m@e.example **b** __u__ *i* `c` ``d`` | {: onclick=f() } $x$ "
    ":smile: ==m== ++k++ ^^j^^ ~~s~~ (tm) 1/2 --> +/- \\ {{ site }} {% raw %} ${7*7} {#id} "
    "\x1b[31m \x07 \x9b2J \u202etxt.exe\u202c \u200b \u2028 \n\n# heading\n\n- item\n"
    '--8<-- "hosts"\n::: os\n!!! note\n```\nfence\n```\n[1]: javascript:alert(1)\n'
)
NAME = "<script>alert(2)<!--[x](javascript:f) &lt;b&gt; `c` | \x1b[31m\u202e\nz"
BENIGN = " and more"
# How many rows of each source of a published file
N_PUBLISHED = 6
# Columns whose words are fixed, and times of day
FIXED = {"status", "check", "suite", "dtype", "device", "category", "case", "run_id", "sizes"}
FIXED |= {"created_utc", "finished_utc", "started_utc", "reason"}
# Names that findings, charts and tables ask for
KNOWN = {"variant", "parent", "group", "origin", "phase", "worker"}
NOTES = "A note."


def spoiled(value: Any, suffix: str, fixed: Collection[str] = frozenset(FIXED)) -> Any:
    """Put a suffix behind every text that a column may hold freely, at any depth."""
    if isinstance(value, str):
        return value + suffix
    if isinstance(value, list):
        return [spoiled(entry, suffix, fixed) for entry in value]
    if isinstance(value, dict):
        return {
            name: entry if name in fixed else spoiled(entry, suffix, fixed)
            for name, entry in value.items()
        }
    return value


def with_names(tables: dict[str, Any], suffix: str, *names: str) -> dict[str, Any]:
    """Add an entry to each of these tables whose own name has the suffix."""
    added = {f"extra{suffix}": f"value{suffix}"}
    return tables | {name: {**(tables[name] or {}), **added} for name in names}


def spoil_rows(rows: list[dict[str, Any]], suffix: str, fixed: set[str]) -> list[dict[str, Any]]:
    """Spoil rows; a word of a label has no white space, and a tier is one."""
    word = "".join(suffix.split())[:60]
    found = []
    for row in rows:
        changed = spoiled(row, suffix, FIXED | fixed | {"tier"})
        changed |= {"tier": row["tier"] + word, "sizes": {**row["sizes"], "other": f"a{word}"}}
        changed = with_names(changed, suffix, "factors", "kernels", "details")
        found.append(changed | {"case": label_of(changed)})
    return found


def header_of(rows: list[dict[str, Any]], suffix: str, **changes: Any) -> dict[str, Any]:
    """The header of spoiled rows."""
    header = make_header(rows, **changes)
    kept = ("tiers", "cases", "variants", "phases", "suite", "device", "baseline", "twins")
    words = {name: header[name] for name in (*kept, "run_id", "ceilings")}
    spoilt = with_names(header, suffix, "versions", "machine", "build_info")
    return {**spoiled(spoilt, suffix), **words}


def block_run(folder: Path, suffix: str, fixed: set[str]) -> Path:
    """A run of the block; `fixed` are further columns that keep their words."""
    variants = ("torch-naive", "torch-sdpa", "passes-none", "layernorm-parallel", "beyond-default")
    times = {"samples_ns": [1000] * 6, "sample_rounds": list(range(6)), "cpu_ns": None}
    rows = [
        make_row(variant=name, printed_name=f"+ {name}", **times, parent=None) for name in variants
    ]
    league = {"group": "League", "origin": "jax"}
    rows += [make_row(variant="jax", printed_name="JAX", **times, **league)]
    rows += [make_untimed(make_row(variant="onnx", printed_name="ONNX", **league))]
    word = "".join(suffix.split())[:60]
    for row in rows:
        row["sizes"] = {**row["sizes"], "config": f"Toy{word}"}
    rows = spoil_rows(rows, suffix, fixed)
    rates = {"multiply_add_flops_per_s": 1e13, "memory_bytes_per_s": 1e10}
    written = write_run(folder, rows, header_of(rows, suffix, ceilings={"2": rates}, twins=[]))
    (written / "NOTES.md").write_text(NOTES + suffix.replace("\n\n", "\n"), encoding="utf-8")
    return written


def suite_run(folder: Path, suffix: str, suite: str, tier: str, fixed: set[str]) -> Path:
    """A run of another suite."""
    known: dict[str, Any] = {"suite": suite, "tier": tier, "published_name": "p"}
    variants = ("torch_sdpa_flash", "sdpa", "ablation_flash", "attention_flash_simd")
    rows = [make_attention_row(name, [1000 + i] * 6, **known) for i, name in enumerate(variants)]
    rows.append(make_untimed(make_attention_row("triton_flash", **known), "error", "raised"))
    rows = [row | {"details": {"note": "n", "top_ops": [{"name": "aten::mm"}]}} for row in rows]
    rows = spoil_rows(rows, suffix, fixed)
    return write_run(folder, rows, header_of(rows, suffix, twins=[]))


def attribution_run(folder: Path, suffix: str) -> Path:
    """A run of attribution; what links its rows keeps its words."""
    rows = make_attribution_rows(factors=SMALL_FACTORS)
    factors = run_of(rows, SMALL_FACTORS).header["factors"]
    rows = spoil_rows(rows, suffix, {"variant", "points"})
    twins = [["base", "base_again"], ["top", "top_again"]]
    header = header_of(rows, suffix, baseline="base", twins=twins, factors=factors)
    return write_run(folder, rows, header)


def published_file(source: Path, out: Path, suffix: str, free: set[str]) -> Path:
    """A published file with a suffix behind the texts of these columns."""
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    count: Counter[str] = Counter()
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            group = row["config"] if "config" in row else row["source"]
            count[group] += 1
            if count[group] <= N_PUBLISHED:
                row |= {k: v + suffix for k, v in row.items() if v and k in free}
                word = "".join(suffix.split())[:60]
                row |= {k: v + word for k, v in row.items() if k == "config"}
                writer.writerow(row)
    return out


def write_all(folder: Path, published: Path, suffix: str, name: str) -> Path:
    """Write a run of every kind and both published files into a folder and return it.

    `suffix` stands behind the texts in them, `name` behind their own names.
    """
    runs = folder / "runs"
    runs.mkdir(parents=True)
    block_run(runs / f"a{name}", suffix, set())
    block_run(runs / f"b{name}", suffix, KNOWN)
    attribution_run(runs / f"c{name}", suffix)
    suites = ("attention-sweep", "lm-step", "attention-backward", "attention-parts")
    for number, suite in enumerate(suites):
        suite_run(runs / f"d{number}{name}", suffix, suite, "cpu", set())
        suite_run(runs / f"e{number}{name}", suffix, suite, "crossover", KNOWN)
    texts = {"group", "printed_name", "attention_kernel", "layernorm_kernel"}
    block = published / "block_ablation_m4max.csv"
    published_file(block, runs / f"f{name}.csv", suffix, texts | {"passes"})
    free = {"row_id", "source", "device_reported", "device_true", "impl", "phase"}
    free |= {"compile", "reason", "note"}
    published_file(published / "suites.csv", runs / f"g{name}.csv", suffix, free)
    write_run(runs / f"h{name}", [make_row(check=f"{suffix} bad")])
    return runs

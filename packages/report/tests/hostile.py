"""Makes runs and published files whose every text has markup in it, and the same without."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from rows import make_cell, make_failed_cell, make_header, write_run
from suite_samples import (
    make_failed_suite_row,
    make_suite_header,
    make_suite_row,
    write_suite,
)
from test_attention import make_attention_header, make_refused, make_row, write_attention

from ablation_report.suite_rows import label_of

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
FIXED = {"schema_version", "status", "check", "suite", "dtype", "origin", "device", "mask_align"}
FIXED |= {"category", "created_utc", "finished_utc", "started_utc"}


def spoiled(value: Any, suffix: str, fixed: frozenset[str] | set[str] = frozenset(FIXED)) -> Any:
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
    return tables | {name: {**tables[name], **added} for name in names}


def block_run(folder: Path, suffix: str, fixed: set[str]) -> Path:
    """A run of the block; `fixed` are further columns that keep their words."""
    variants = ("torch-naive", "torch-sdpa", "passes-none", "layernorm-parallel", "beyond-auto")
    league = {"group": "League", "executor": "other"}
    cells = [
        make_cell(variant=name, printed_name=f"+ {name}", samples_ns=[1000 + i] * 6)
        | {"sample_rounds": list(range(6))}
        for i, name in enumerate(variants)
    ]
    cells += [make_cell(variant="jax", printed_name="JAX", **league)]
    cells += [make_failed_cell(variant="onnx", printed_name="ONNX", **league)]
    # A page is called by it, and its name has an end
    cells = [cell | {"config": f"Toy{suffix[:60]}"} for cell in cells]
    cells = [spoiled(cell, suffix, FIXED | fixed | {"config"}) for cell in cells]
    header = with_names(make_header(), suffix, "versions", "machine", "build_info")
    ceilings = {"provider": "avx2", "threads": 2}
    header["ceilings"] = ceilings | {"multiply_add_flops_per_s": 1e12, "memory_bytes_per_s": 1e10}
    return write_run(folder, cells, spoiled(header, suffix))


def suite_run(folder: Path, suffix: str, suite: str, tier: str, fixed: set[str]) -> Path:
    """A run of a further suite."""
    details = {"kernels": {"k": 1}, "note": "n", "top_ops": [{"name": "aten::mm", "ns": 5}]}
    common: dict[str, Any] = {"suite": suite, "tier": tier, "details": details}
    common |= {"parameters": {"size": "tiny"}, "published_name": "p", "kernels": ["k"]}
    impls = ("torch_sdpa_flash", "sdpa", "ablation_flash", "attention_flash_simd")
    rows = [make_suite_row(impl, [1000 + i] * 6, **common) for i, impl in enumerate(impls)]
    rows.append(make_failed_suite_row("triton_flash", "error", "raised", **common))
    rows = [spoiled(row, suffix, FIXED | fixed | {"errors", "limits"}) for row in rows]
    rows = [with_names(row, suffix, "parameters", "details") for row in rows]
    rows = [{**row, "case": label_of(row)} for row in rows]
    header = make_suite_header(rows)
    kept = {name: header[name] for name in ("impls", "cases", "tiers", "ceilings")}
    header = spoiled(with_names(header, suffix, "versions", "machine", "build_info"), suffix)
    return write_suite(folder, rows, header | kept)


def attention_run(folder: Path, suffix: str) -> Path:
    """A run of attention alone."""
    rows = [make_row("flash"), make_row("torch-sdpa"), make_refused("kernels-materialized")]
    rows = [spoiled(row, suffix) for row in rows]
    header = with_names(make_attention_header(), suffix, "versions", "machine", "build_info")
    return write_attention(folder, rows, spoiled(header, suffix))


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
                row |= {k: v + suffix[:60] for k, v in row.items() if k == "config"}
                writer.writerow(row)
    return out


def write_all(folder: Path, published: Path, suffix: str, name: str) -> Path:
    """Write a run of every kind and both published files into a folder and return it.

    `suffix` stands behind the texts in them, `name` behind their own names.
    """
    runs = folder / "runs"
    runs.mkdir(parents=True)
    block_run(runs / f"a{name}", suffix, set())
    # Of rungs that the ladder knows
    block_run(runs / f"b{name}", suffix, {"variant", "parent", "group", "executor"})
    attention_run(runs / f"c{name}", suffix)
    suites = ("attention-sweep", "lm-step", "attention-backward", "attention-parts")
    for number, suite in enumerate(suites):
        suite_run(runs / f"d{number}{name}", suffix, suite, "cpu", set())
        suite_run(runs / f"e{number}{name}", suffix, suite, "cpu", {"impl", "phase", "tier"})
    texts = {"group", "printed_name", "attention_kernel", "layernorm_kernel"}
    block = published / "block_ablation_m4max.csv"
    published_file(block, runs / f"f{name}.csv", suffix, texts | {"passes"})
    free = {"row_id", "source", "device_reported", "device_true", "impl", "phase", "autocast"}
    free |= {"compile", "reason", "note"}
    published_file(published / "suites.csv", runs / f"g{name}.csv", suffix, free)
    write_run(runs / f"h{name}", [make_cell(config=f"{suffix} bad", d_model=0)])
    return runs

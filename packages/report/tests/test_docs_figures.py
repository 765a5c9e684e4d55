"""The figures that hand-written pages quote, recomputed from the committed rows."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablation_report.findings import suites_backward, suites_sweep
from ablation_report.load import load
from ablation_report.metrics import order_agreement
from ablation_report.sources import read_source
from ablation_report.tables import config_tables

ROOT = Path(__file__).parents[3]
RUNS = ROOT / "data" / "runs"

pytestmark = pytest.mark.skipif(
    not (ROOT / "README.md").is_file(), reason="no repository around this package"
)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def header(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RUNS / run / "run.json").read_text(encoding="utf-8"))
    return found


def cells(run: str) -> Iterator[dict[str, Any]]:
    """The rows of a committed run, straight from its file."""
    yield from map(json.loads, (RUNS / run / "cells.jsonl").read_text("utf-8").splitlines())


def time_ns(cell: dict[str, Any]) -> float:
    """The median over rounds of the medians of their samples, by the standard library."""
    return statistics.median(rounds(cell).values())


def rounds(cell: dict[str, Any]) -> dict[int, float]:
    by_round: dict[int, list[int]] = {}
    for sample, index in zip(cell["samples_ns"], cell["sample_rounds"], strict=True):
        by_round.setdefault(index, []).append(sample)
    return {index: statistics.median(samples) for index, samples in by_round.items()}


def by_config(run: str) -> dict[str, dict[str, dict[str, Any]]]:
    """The timed cells of a run by config and variant."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in cells(run):
        if cell["status"] == "ok":
            found.setdefault(cell["config"], {})[cell["variant"]] = cell
    return found


def readme_table() -> tuple[str, str, str]:
    """The table of the README, the run that its caption names, and the caption."""
    text = page("README.md")
    match = re.search(
        r"<!-- table:begin -->\n```\n(.*?)\n```\n<!-- table:end -->\n\n([^\n]+)", text, re.DOTALL
    )
    assert match is not None
    run = re.search(r"data/runs/([\w-]+)", match[2])
    assert run is not None
    return match[1], run[1], match[2]


def test_the_table_of_the_readme_is_that_of_the_run_it_names() -> None:
    table, run, _ = readme_table()
    name = table.partition(":")[0]
    (found,) = (
        t for t in config_tables(load(RUNS / run).collect()) if t.title.startswith(f"{name}:")
    )
    assert table == found.text()


def test_the_times_of_the_readme_are_those_of_the_rows() -> None:
    table, run, caption = readme_table()
    timed = by_config(run)[table.partition(":")[0]]
    lines = {cell["printed_name"]: cell for cell in timed.values()}
    naive = rounds(timed["torch-naive"])
    for printed, cell in lines.items():
        (line,) = (text for text in table.splitlines() if text.startswith(f"{printed}  "))
        own = rounds(cell)
        over = statistics.median(own[i] / naive[i] for i in own.keys() & naive.keys())
        assert f"  {time_ns(cell) / 1e6:.2f} ms  " in line
        assert f"  {over:.2f}x" in line
    assert f"{header(run)['machine']['cores']} cores" in caption.replace("two", "2")


def test_the_ceilings_of_the_machines_are_those_of_the_runs() -> None:
    """Performance notes quote one figure for a machine, each run has measured its own."""
    text = re.search(
        r"a Zen 4 server reach about (\d+) GFLOP/s.*?a Zen 5 server.*?about (\d+), and (\d+) with",
        page("docs/performance.md"),
    )
    assert text is not None
    measured: dict[tuple[str, bool], list[float]] = {}
    for run in (path.name for path in RUNS.iterdir() if (path / "cells.jsonl").exists()):
        made = header(run)
        if made["threads"] == 2 and made["ceilings"]:
            key = "zen5" if "zen5" in run else "zen4", made["providers"]["simd"] == "avx2"
            measured.setdefault(key, []).append(made["ceilings"]["multiply_add_flops_per_s"] / 1e9)
    for quoted, key in zip(
        text.groups(), (("zen4", False), ("zen5", False), ("zen5", True)), strict=True
    ):
        assert float(quoted) == pytest.approx(statistics.median(measured[key]), rel=0.05)


def test_the_floor_of_the_zen_4_against_pytorch() -> None:
    text = re.search(
        r"floor itself was ([\d.]+) to ([\d.]+) of PT SDPA", page("docs/performance.md")
    )
    assert text is not None
    run = "2026-11-20-zen4-2-cores"
    rate = header(run)["ceilings"]["multiply_add_flops_per_s"] * 1e-9
    shares = [
        timed["torch-sdpa"]["flops"] / rate / time_ns(timed["torch-sdpa"])
        for config, timed in by_config(run).items()
        if config not in ("Toy", "Small")
    ]
    assert [f"{min(shares):.2f}", f"{max(shares):.2f}"] == list(text.groups())


def test_flash_against_fused_in_the_run_of_all_configs() -> None:
    text = "flash attention is not resolved from the fused kernel at eight configs and faster at"
    match = re.search(rf"{text} ([\w-]+) \(([\d.]+)x\)", page("docs/performance.md"))
    assert match is not None
    source = read_source(RUNS / "2026-11-20-zen4-2-cores")
    found = {
        config: source.compare(config, "attention-flash-parallel", "attention-fused-parallel")
        for config in source.configs
    }
    said = {config: c.verdict for config, c in found.items() if c}
    assert said.pop(match[1]) == "faster"
    assert len(said) == 8 and set(said.values()) <= {"not resolved", "same"}
    timed = by_config(source.name)[match[1]]
    flash, fused = (rounds(timed[f"attention-{name}-parallel"]) for name in ("flash", "fused"))
    over = statistics.median(flash[i] / fused[i] for i in flash.keys() & fused.keys())
    assert match[2] == f"{over:.2f}"


def test_the_order_in_two_runs_of_the_small_configs() -> None:
    text = re.search(
        r"of (\d+) pairs.*?, (\d+) have the same order.*?, (\w+) are", page("docs/runs.md")
    )
    assert text is not None
    runs = [load(RUNS / f"2026-11-20-zen4-small-{name}").collect().to_dicts() for name in "ab"]
    found = order_agreement(*runs)
    words = {1: "one", 2: "two", 3: "three"}
    assert text.groups() == (str(found.said), str(found.same), words[len(found.contradicted)])
    assert {config for config, _, _ in found.contradicted} == {"Small"}


ALONE, FLASH = "2026-11-25-zen4-attention-backward-flash", "ablation_flash"
HALF, BOTH = "2026-11-25-zen4-attention-sweep-half-1-thread", "2026-11-25-zen4-attention-backward"


RAPIDS = "2026-11-29-emerald-rapids-attention-sweep"
BF16 = "ablation_flash_bf16"
# A text names the first run of a family whole, and of the others what follows this
FAMILIES = ("2026-11-25-zen4", RAPIDS)


def suite_times(run: str, threads: int | None = None) -> dict[tuple[str, bool, int, str], float]:
    """Median milliseconds by implementation, mask, length and phase, of square cases without
    autocast; `threads` chooses where a run has several."""
    found: dict[tuple[str, bool, int, str], float] = {}
    for row in map(json.loads, (RUNS / run / "rows.jsonl").read_text("utf-8").splitlines()):
        is_plain = row["Nq"] == row["Nk"] and row["parameters"].get("autocast", "none") == "none"
        if row["samples_ns"] and is_plain and threads in (None, row["threads"]):
            key = (row["impl"], row["causal"], row["Nq"], row["phase"])
            assert key not in found
            found[key] = statistics.median(row["samples_ns"]) / 1e6
    return found


@pytest.mark.parametrize(
    ("start", "run", "threads", "impl", "phase", "quoted"),
    [
        ("**bfloat16.**", HALF, 1, BF16, "fwd", "full 1024, causal 1024 4096"),
        ("**bfloat16 by AMX.**", f"{RAPIDS}-half", 1, BF16, "fwd", "full 1024, causal 1024 4096"),
        ("**bfloat16 by AMX.**", f"{RAPIDS}-half", 2, BF16, "fwd", "full 1024, causal 1024 4096"),
        ("**On an Emerald", RAPIDS, 2, FLASH, "fwd", "full 256 512 1024 2048 4096"),
        ("**On an Emerald", RAPIDS, 2, FLASH, "fwd", "causal 256 512 1024 2048 4096"),
        ("**On an Emerald", f"{RAPIDS}-1-thread", 1, FLASH, "fwd", "full 1024 2048 4096"),
        ("**On an Emerald", f"{RAPIDS}-1-thread", 1, FLASH, "fwd", "causal 1024 2048 4096"),
        ("**Backward.**", ALONE, 1, FLASH, "bwd", "causal 1024 4096 8192, full 1024 4096"),
        ("**Backward.**", ALONE, 1, FLASH, "fwd", "causal 1024 4096 8192, full 1024 4096"),
        ("**Backward.**", BOTH, 2, FLASH, "bwd", "causal 256 1024 4096"),
    ],
)
def test_speed_ups_over_sdpa_are_those_of_the_rows(
    start: str, run: str, threads: int, impl: str, phase: str, quoted: str
) -> None:
    (text,) = (part for part in page("docs/performance.md").split("\n\n") if part.startswith(start))
    assert run in text or any(run.removeprefix(known) in text for known in FAMILIES)
    times = suite_times(run, threads)
    for group in quoted.split(", "):
        mask, *lengths = group.split()
        for length in map(int, lengths):
            case = (mask == "causal", length, phase)
            assert f"{times['torch_sdpa_flash', *case] / times[impl, *case]:.2f}" in text


def test_times_of_the_whole_model_are_those_of_the_rows() -> None:
    start = "**A whole language model.**"
    (text,) = (part for part in page("docs/performance.md").split("\n\n") if part.startswith(start))
    times = suite_times("2026-11-25-zen4-lm-step")
    for impl in ("ablation_fwd", "sdpa_compiled", "sdpa"):
        assert f"{times[impl, True, 128, 'fwd_nograd']:.1f}" in text


def test_findings_ask_for_implementations_that_runs_have() -> None:
    """A name that nothing is recorded under makes a finding say "not measured" for ever."""
    recorded = {name for path in RUNS.glob("*/run.json") for name in impls(path)}
    sweep, backward = (suites_sweep, suites_backward)
    names = {sweep.SDPA, sweep.FLASH, sweep.FLASH_BF16, sweep.TRITON, sweep.EINSUM}
    assert names | {backward.SDPA, backward.ABLATION} <= recorded


def impls(path: Path) -> list[str]:
    found: list[str] = json.loads(path.read_text(encoding="utf-8")).get("impls") or []
    return found

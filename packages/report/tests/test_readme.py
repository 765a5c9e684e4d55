"""The generated blocks of the README, and that they are those of the committed rows."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ablation_report.compare.order import order_agreement
from ablation_report.load import ROWS_NAMES, Gathered, gather, read
from ablation_report.output import UsageError
from ablation_report.site.inputs import Inputs
from ablation_report.site.readme import CONFIG, README_BLOCKS, fill, refresh

ROOT = Path(__file__).parents[3]
RUNS = ROOT / "data" / "runs"
TEXT = "# Title\n\n<!-- generated: result -->\nold\n<!-- end -->\n\nMore.\n"
needs_repository = pytest.mark.skipif(
    not (ROOT / "README.md").is_file(), reason="no repository around this package"
)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_a_block_is_written_anew_and_the_text_around_it_stays(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(TEXT)
    inputs = Inputs(Gathered(()))
    assert refresh(readme, inputs) and not refresh(readme, inputs)
    text = readme.read_text()
    assert text.startswith("# Title\n\n<!-- generated: result -->\n*No recorded run")
    assert text.endswith("\n<!-- end -->\n\nMore.\n") and "old" not in text


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no generated block 'x'; there are result, sizes, table"):
        fill(TEXT.replace("result", "x"), Inputs(Gathered(())))


@needs_repository
def test_the_blocks_of_the_readme_are_current() -> None:
    text = page("README.md")
    assert all(f"<!-- generated: {name} -->" in text for name in README_BLOCKS)
    assert fill(text, Inputs(gather(*tracked_runs()))) == text


def tracked_runs() -> list[Path]:
    """The runs that git tracks: others may lie beside them; all where there is no git."""
    command = ["git", "ls-files", "--", "*/run.json"]
    try:
        listed = subprocess.run(command, cwd=RUNS, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return [path.parent for path in RUNS.glob("*/run.json")]
    return [(RUNS / line).parent for line in listed.stdout.splitlines()]


def rounds(cell: dict[str, Any]) -> dict[int, float]:
    """The least of each round."""
    by_round: dict[int, list[int]] = {}
    for sample, index in zip(cell["samples_ns"], cell["sample_rounds"], strict=True):
        by_round.setdefault(index, []).append(sample)
    return {index: float(min(samples)) for index, samples in by_round.items()}


def quartile(values: Iterable[float]) -> float:
    """The first quartile, by the standard library."""
    return statistics.quantiles(values, method="inclusive")[0]


@needs_repository
def test_the_times_of_the_readme_are_those_of_the_rows() -> None:
    found = re.search(
        r"<!-- generated: table -->\n```\n(.*?)\n```\n\nRows: \[([\w-]+)\]", page("README.md"), re.S
    )
    assert found is not None and found[1].startswith(f"{CONFIG}: ")
    (path,) = (RUNS / found[2] / name for name in ROWS_NAMES if (RUNS / found[2] / name).is_file())
    rows = list(map(json.loads, path.read_text("utf-8").splitlines()))
    # The first schema has a column for it
    configs = [row.get("config") or row["sizes"]["config"] for row in rows]
    of_config = [row for row, config in zip(rows, configs, strict=True) if config == CONFIG]
    timed = {row["variant"]: row for row in of_config if row["status"] == "ok"}
    assert any(row["group"] == "Beyond" for row in timed.values())
    naive = rounds(timed["torch-naive"])
    for cell in timed.values():
        name = cell["printed_name"]
        (line,) = (text for text in found[1].splitlines() if text.startswith(f"{name}  "))
        own = rounds(cell)
        common = own.keys() & naive.keys()
        over = quartile(own[i] for i in common) / quartile(naive[i] for i in common)
        assert f"  {quartile(own.values()) / 1e6:.2f} ms  " in line
        assert f"  {over:.2f}x" in line


@needs_repository
def test_the_order_in_two_runs_of_the_small_configs() -> None:
    text = re.search(
        r"Of (\d+) pairs.*?, (\d+) have the same order.*?\. (\w+) are",
        page("data/runs/2026-11-20-zen4-small-a/NOTES.md"),
    )
    assert text is not None
    runs = [read(RUNS / f"2026-11-20-zen4-small-{name}")[0] for name in "ab"]
    said, same, contradicted = order_agreement(*runs)
    words = {1: "One", 2: "Two", 3: "Three"}
    assert text.groups() == (str(said), str(same), words[len(contradicted)])
    assert {config for config, _, _ in contradicted} == {"Small"}

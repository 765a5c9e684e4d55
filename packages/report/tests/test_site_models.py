"""The table of models: what a sound file shows, and what a damaged one is refused with."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import make_run, make_timed

from ablation_report.load import Gathered
from ablation_report.output import UsageError
from ablation_report.rows import row_faults
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.models import NO_FILE, models_block, read_models
from ablation_report.tables import run_tables

LINE: dict[str, Any] = {
    "model": "bert-base",
    "family": "bert",
    "part": "layer",
    "attention": "sdpa",
    "layers": 1,
    "ops": 20,
    "refused": {},
    "exported_calls": 30,
    "calls": 9,
    "passes": {"fuse_attention": 1, "merge_qkv": 1, "direct_layout": 1},
    "error": 3e-7,
    "eager_error": 2e-7,
    "failure": None,
}
UNCOVERED = {
    **LINE,
    "part": "whole",
    "refused": {"aten.embedding.default": 2},
    **dict.fromkeys(("exported_calls", "calls", "error"), None),
    "passes": {},
}
DOCUMENT: dict[str, Any] = {
    "schema_version": 1,
    "versions": {"torch": "2.13.0", "timm": None},
    "length": 64,
    "lines": [LINE, {**LINE, "attention": "eager"}, UNCOVERED],
}


def block(folder: Path, document: Any) -> str:
    """The block of a file with this content."""
    path = folder / "models.json"
    path.write_text(json.dumps(document))
    return models_block(Inputs(Gathered(()), models=path))


def lines(text: str) -> list[list[str]]:
    """The cells of each line of the tables."""
    rows = re.findall(r"<tr><td.*?</tr>", text)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


def test_a_line_for_each_part_and_each_attention_that_differs(tmp_path: Path) -> None:
    alike = {**LINE, "attention": "eager", "error": 5e-7}
    differs = {**alike, "model": "vit-base", "calls": 10}
    text = block(tmp_path, {**DOCUMENT, "lines": [LINE, alike, {**differs, "calls": 9}, differs]})
    assert "Covered: 2 of 2 as a layer; 1 families." in text
    usual = ["20 of 20", "30", "9", "attention 1, qkv 1", "2.50x", "-"]
    assert lines(text) == [
        ["bert-base", "bert", "sdpa, eager", *usual],
        ["vit-base", "bert", "eager", *usual],
        ["vit-base", "bert", "eager", *usual[:2], "10", *usual[3:]],
    ]
    assert "torch 2.13.0" in text and "timm" not in text


def test_refused_ops_are_named(tmp_path: Path) -> None:
    text = block(tmp_path, DOCUMENT)
    assert "Covered: 1 of 1 as a layer, 0 of 1 as a whole; 1 families." in text
    (_, uncovered) = lines(text)
    usual = ["bert-base", "bert", "sdpa", "18 of 20", "-", "-", "-", "-", "-"]
    assert uncovered == [*usual, "embedding x2"]


@pytest.mark.parametrize(
    ("changed", "cell", "is_whole"),
    [
        ({}, "20 of 20", True),
        ({"eager": {"aten.sort.default": 2}}, "18 of 20; PyTorch runs sort x2", False),
        ({"parts": 3}, "20 of 20 in 3 parts", False),
        ({"graphs": 2, "parts": 2}, "20 of 20 in 2 parts", False),
        ({"parts": 0, "failure": "output: row 0"}, "output: row 0", False),
    ],
)
def test_the_column_of_torch_compile(
    tmp_path: Path, changed: dict[str, Any], cell: str, is_whole: bool
) -> None:
    compiled = {"graphs": 1, "parts": 1, "ops": 20, "eager": {}, "error": 3e-7, "failure": None}
    given = [{**LINE, "compiled": {**compiled, **changed}}, {**LINE, "model": "vit-base"}]
    text = block(tmp_path, {**DOCUMENT, "lines": given})
    assert [line[-1] for line in lines(text)] == [cell, "-"]
    assert f"{int(is_whole)} of 1 as one program of torch.compile; 1 families." in text


def test_without_the_file_the_page_says_so(tmp_path: Path) -> None:
    assert models_block(Inputs(Gathered(()))).strip() == NO_FILE
    assert models_block(Inputs(Gathered(()), models=tmp_path / "none.json")).strip() == NO_FILE


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.update(schema_version=2), "schema version 2"),
        (lambda d: d["lines"][0].pop("calls"), "lines"),
        (lambda d: d["lines"][0].update(ops="many"), "lines"),
        (lambda d: d["lines"][0].update(compiled={"graphs": 1}), "lines"),
        (lambda d: d.pop("length"), "length"),
    ],
)
def test_a_damaged_file_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], text: str
) -> None:
    damaged = copy.deepcopy(DOCUMENT)
    change(damaged)
    with pytest.raises(UsageError, match=text):
        block(tmp_path, damaged)
    (tmp_path / "models.json").write_text("{")
    with pytest.raises(UsageError, match="no JSON"):
        read_models(tmp_path / "models.json")


def test_a_run_of_modules_has_a_summary_and_the_time_by_module() -> None:
    sizes = {"model": "gpt2", "B": 1, "layers": 2, "Nq": 64, "Nk": 64}
    usual: dict[str, Any] = {"suite": "model", "tier": "layer", "sizes": sizes, "flops": None}
    op = {"category": "linear", "kernel": "matmul_packed_simd", "median_ns": 300}
    ops = [{"name": f"n{i}", "op": "matmul", **op} for i in range(3)]
    paths = {"n0": "layers.0.up", "n1": "layers.0.up", "n2": "layers.0.down"}
    ours = make_timed(
        "default",
        [500] * 8,
        **usual,
        group="Kernels and stages",
        n_calls=7,
        ops=ops,
        details={"exported_calls": 30, "module_paths": paths, "eager_error": 1e-6},
    )
    eager = make_timed("torch-eager", [1000] * 8, **usual, group="Baselines", origin="torch")
    other = make_timed("openvino", [800] * 8, **usual, group="League", origin="openvino")
    rows = [eager, ours, other]
    assert [row_faults(row) for row in rows] == [{}, {}, {}]
    tables = {table.title.partition(":")[0]: table for table in run_tables(make_run(rows))}
    (line,) = tables["SUMMARY"].rows
    assert line[0] == "gpt2, N 64, 2 layers"
    assert (line[3], line[7]) == ("0.50x ~", "30 > 7")
    assert line[8].endswith("(openvino)") and line[9] == "0.62x ~"
    by_module = tables["Time by module, our default"].rows
    assert [row[0] for row in by_module] == ["layers.0.up", "layers.0.down"]
    assert [row[3] for row in by_module] == ["66.7%", "33.3%"]

"""Maps of Strassen's products: read, refused where damaged, and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablation_report.load import Gathered
from ablation_report.output import UsageError
from ablation_report.products import ProductMap, read_map
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.strassen import NOTHING, strassen_block

TWICE = "matmul_strassen_twice_simd_parallel"
PACKED = "matmul_packed_simd_parallel"


def entry(n: int, times: list[int], chosen: str) -> dict[str, object]:
    """A product of 256 rows and columns of a."""
    errors = [1e-7, 3e-7, 1e-6]
    return {"m": 256, "n": n, "k": 256, "times_ns": times, "errors": errors, "chosen": chosen}


def write_map(folder: Path) -> Path:
    """A file in which two levels win, and one is chosen where it loses."""
    products = [entry(512, [100, 90, 80], TWICE), entry(1024, [100, 110, 120], TWICE)]
    path = folder / "zen.json"
    path.write_text(json.dumps({"simd": "avx2", "threads": 2, "products": products}))
    return path


def test_a_map_is_shown(tmp_path: Path) -> None:
    found = read_map(write_map(tmp_path))
    text = strassen_block(Inputs(Gathered(()), products=(found,)))
    assert "**zen**: avx2, 2 threads." in text
    assert "takes another arithmetic for 2 of 2 products; 1 of these" in text
    assert "3 with one level, 10 with two levels" in text
    assert "| N 512 | **0.80 two** |" in text
    assert "| N 1024 | **1.10** |" in text
    assert strassen_block(Inputs(Gathered(()))) == NOTHING


def test_a_damaged_map_is_refused(tmp_path: Path) -> None:
    path = write_map(tmp_path)
    whole = path.read_text()
    for damaged in (whole[:-9], "[]", whole.replace("times_ns", "x"), whole.replace("[100", "[0")):
        path.write_text(damaged)
        with pytest.raises(UsageError, match=r"zen\.json"):
            read_map(path)


def test_recorded_maps_are_read() -> None:
    folder = Path(__file__).parents[3] / "data" / "products"
    maps: list[ProductMap] = [read_map(path) for path in sorted(folder.glob("*.json"))]
    assert maps and all(found.products for found in maps)

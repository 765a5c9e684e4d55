"""The run folder: round trip, damage, other versions, and a disk that refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ablation_executor.bench import record
from ablation_executor.bench.configs import UsageError


def info() -> dict[str, Any]:
    return {**dict.fromkeys(record.RUN_KEYS), "schema_version": record.SCHEMA_VERSION}


def row(variant: str, **changes: Any) -> record.Row:
    known = {
        "schema_version": record.SCHEMA_VERSION,
        "config": "Toy",
        "variant": variant,
        "status": "ok",
        "samples_ns": [3, 4],
        "sample_rounds": [0, 1],
    }
    return {**record.blank_row(), **known, **changes}


def test_round_trip(tmp_path: Path) -> None:
    folder = record.RunFolder.create(tmp_path / "run", info())
    rows = [row("a"), row("b", status="oom", samples_ns=None, reason='needs "9" GiB\n')]
    folder.append(rows[:1])
    folder.append(rows[1:])
    again, damaged = record.RunFolder.open(tmp_path / "run")
    assert (again.rows, damaged, again.info) == (rows, [], info())
    assert again.done() == {("Toy", "a"), ("Toy", "b")}


def test_a_key_that_came_later_is_null_in_an_earlier_row(tmp_path: Path) -> None:
    folder = record.RunFolder.create(tmp_path / "run", info())
    earlier = {key: row("a")[key] for key in record.ROW_KEYS if key != "packed_weights_bytes"}
    folder.cells_path.write_text(json.dumps(earlier) + "\n")
    again, damaged = record.RunFolder.open(tmp_path / "run")
    assert damaged == [] and again.rows == [row("a")]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "oom"}, "times in a cell"),
        ({"samples_ns": []}, "without samples"),
        ({"status": "fine"}, "unknown status"),
        ({"extra": 1}, "unknown keys: extra"),
    ],
)
def test_a_row_that_breaks_the_schema_is_not_written(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    folder = record.RunFolder.create(tmp_path / "run", info())
    with pytest.raises(ValueError, match=problem):
        folder.append([row("a", **changes)])
    assert not folder.cells_path.exists()


def test_a_cut_line_is_named_and_moved_aside(tmp_path: Path) -> None:
    folder = record.RunFolder.create(tmp_path / "run", info())
    folder.append([row("a"), row("b")])
    whole = folder.cells_path.read_bytes()
    folder.cells_path.write_bytes(whole[:-20])
    again, damaged = record.RunFolder.open(tmp_path / "run")
    assert [line.number for line in damaged] == [2]
    assert "cut off" in damaged[0].reason
    assert again.done() == {("Toy", "a")}
    aside = (tmp_path / "run" / "cells.damaged.jsonl").read_text()
    assert aside == whole[:-20].decode().splitlines()[1] + "\n"
    again.append([row("b")])
    assert record.RunFolder.open(tmp_path / "run")[1] == []
    assert folder.cells_path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    folder = record.RunFolder.create(tmp_path / "run", info())
    folder.append([row("a"), row("b"), row("c")])
    lines = folder.cells_path.read_bytes().splitlines()
    lines[1] = lines[1].replace(b'"status"', b'"statue"')
    folder.cells_path.write_bytes(b"\n".join(lines) + b"\n")
    rows, damaged = record.read_cells(folder.cells_path)
    assert [line["variant"] for line in rows] == ["a", "c"]
    assert [(line.number, line.reason) for line in damaged] == [(2, "keys missing: status")]


def test_another_schema_version_is_refused_by_name(tmp_path: Path) -> None:
    folder = record.RunFolder.create(tmp_path / "run", info())
    folder.append([row("a")])
    text = folder.cells_path.read_text()
    folder.cells_path.write_text(text.replace('"schema_version":1', '"schema_version":7'))
    with pytest.raises(UsageError, match="line 1: schema version 7, this program reads 1"):
        record.RunFolder.open(folder.path)
    folder.info["schema_version"] = 2
    folder.write_info()
    with pytest.raises(UsageError, match=r"run\.json has schema version 2"):
        record.RunFolder.open(folder.path)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        record.RunFolder.open(tmp_path)
    (tmp_path / "run.json").write_text('{"schema_')
    with pytest.raises(UsageError, match="damaged"):
        record.RunFolder.open(tmp_path)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    record.RunFolder.create(tmp_path, info())
    with pytest.raises(UsageError, match="already holds a run"):
        record.RunFolder.create(tmp_path, info())


def test_a_path_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to"):
        record.RunFolder.create(tmp_path / "file" / "run", info())


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        record.RunFolder.create(tmp_path / "run", info())
    assert not (tmp_path / "run" / ".probe").exists()


def test_info_is_json(tmp_path: Path) -> None:
    folder = record.RunFolder.create(tmp_path, info())
    folder.info["elapsed_s"] = 1.5
    folder.write_info()
    assert json.loads((tmp_path / "run.json").read_text())["elapsed_s"] == 1.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json"]

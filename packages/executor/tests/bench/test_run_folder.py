"""Run folders: round trip, one owner, damage, foreign files, and disks that refuse."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablation_executor.bench.configs import UsageError
from ablation_executor.bench.record import RunFolder
from ablation_executor.bench.run_folder import Folder
from ablation_executor.bench.run_lock import LOCK_NAME, RunLock
from ablation_executor.bench.run_reading import HEADER_NAME, read_rows
from ablation_executor.bench.run_writing import RowsNotWritten, append_rows, to_json
from ablation_executor.bench.suites.rows import SuiteFolder

from .sound_files import (
    block_info,
    block_row,
    failed_block_row,
    failed_suite_row,
    suite_info,
    suite_row,
)

KINDS: dict[str, tuple[type[Folder], Any, Any]] = {
    "block": (RunFolder, block_info, [block_row("passes-none"), failed_block_row("passes-fold")]),
    "suite": (SuiteFolder, suite_info, [suite_row(), failed_suite_row(impl="two")]),
}
both = pytest.mark.parametrize("kind", KINDS)


def filled(path: Path, kind: str = "block") -> Folder:
    """A folder with two rows that nobody owns."""
    cls, make_info, rows = KINDS[kind]
    folder = cls.create(path, make_info())
    folder.append(rows)
    folder.close()
    return folder


def reopened(folder: Folder) -> tuple[Folder, list[str]]:
    """The folder as read again, which nobody owns, and what is told of its damaged lines."""
    again, damaged = type(folder).open(folder.path)
    again.close()
    return again, [f"line {line.number}: {line.reason}" for line in damaged]


@both
def test_a_run_comes_back(tmp_path: Path, kind: str) -> None:
    folder = filled(tmp_path / "run", kind)
    again, damaged = reopened(folder)
    assert (again.rows, damaged, again.info) == (KINDS[kind][2], [], KINDS[kind][1]())
    assert len(again.done()) == 2
    names = sorted(path.name for path in folder.path.iterdir())
    assert names == sorted([HEADER_NAME, folder.schema.rows_name])


def test_a_column_that_came_later_is_null_in_an_earlier_row(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    rows = [dict(row) for row in folder.rows]
    for row in rows:
        del row["packed_weights_bytes"]
    folder.rows_path.write_bytes(b"".join(map(to_json, rows)))
    again, damaged = reopened(folder)
    assert (again.rows, damaged) == (folder.rows, [])


@both
def test_a_folder_has_one_owner(tmp_path: Path, kind: str) -> None:
    folder = filled(tmp_path, kind)
    owner, _ = type(folder).open(tmp_path)
    with pytest.raises(UsageError, match=rf"is in use by process {os.getpid()} on .* since 20.*Z"):
        type(folder).open(tmp_path)
    with pytest.raises(UsageError, match="is in use by process"):
        type(folder).create(tmp_path, KINDS[kind][1]())
    owner.close()
    owner.close()
    assert not (tmp_path / LOCK_NAME).exists()
    reopened(folder)


def test_a_lock_ends_with_its_process_and_children_do_not_hold_it(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    program = (
        "import os, pathlib, signal, subprocess, sys\n"
        "from ablation_executor.bench.run_lock import RunLock\n"
        "lock = RunLock(pathlib.Path(sys.argv[1]))\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        assert (tmp_path / LOCK_NAME).exists()
        reopened(folder)
        assert not (tmp_path / LOCK_NAME).exists()
    finally:
        os.kill(int(ended.stdout), 9)


def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(UsageError, match=r"has no locks.*name a folder of another"):
        RunFolder.create(tmp_path, block_info())
    assert not (tmp_path / HEADER_NAME).exists()


def test_a_lock_of_a_file_that_was_deleted_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = RunLock(tmp_path)
    flock, left = fcntl.flock, [first]

    def late(descriptor: int, operation: int) -> None:
        if left:
            left.pop().release()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    second = RunLock(tmp_path)
    with pytest.raises(UsageError, match="in use"):
        RunLock(tmp_path)
    second.release()


@both
def test_what_is_there_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    cls, make_info, _ = KINDS[kind]
    run = filled(tmp_path / "run", kind).path
    with pytest.raises(UsageError, match=r"already holds a run; continue it with --resume .*run"):
        cls.create(run, make_info())
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"is not empty \(notes\.txt\); name a new folder"):
        cls.create(other, make_info())
    assert [path.name for path in other.iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError, match="cannot write to"):
            cls.create(path, make_info())
    assert (tmp_path / "file").read_text() == "mine"


@both
def test_a_cut_line_is_named_and_moved_aside(tmp_path: Path, kind: str) -> None:
    folder = filled(tmp_path, kind)
    whole = folder.rows_path.read_bytes()
    first, second, _ = whole.split(b"\n")
    folder.rows_path.write_bytes(whole[:-20])
    again, (told,) = reopened(folder)
    assert told.startswith("line 2: no JSON from character")
    assert again.rows == folder.rows[:1]
    assert (tmp_path / folder.schema.damaged_name).read_bytes() == second[:-19] + b"\n"
    assert folder.rows_path.read_bytes() == first + b"\n"
    assert reopened(folder)[1] == []


@both
def test_a_last_line_without_its_line_break_gets_one(tmp_path: Path, kind: str) -> None:
    folder = filled(tmp_path, kind)
    whole = folder.rows_path.read_bytes()
    folder.rows_path.write_bytes(whole[:-1])
    again, damaged = reopened(folder)
    assert (again.rows, damaged) == (folder.rows, [])
    assert folder.rows_path.read_bytes() == whole


@both
def test_lines_that_are_no_rows_of_the_run(tmp_path: Path, kind: str) -> None:
    folder = filled(tmp_path, kind)
    first, second = folder.rows_path.read_bytes().splitlines()
    foreign = to_json({**folder.rows[1], "run_id": "another"}).rstrip()
    lines = [b"", first, first, foreign, b"[" * 100_000, b"\xff", first[:-1] + b',"x":1}', second]
    folder.rows_path.write_bytes(b"\n".join(lines) + b"\n")
    again, damaged = reopened(folder)
    assert damaged == [
        "line 1: no JSON from character 1 on (Expecting value)",
        "line 3: measured already in line 2",
        "line 4: column run_id: 'another', run.json says 'test'",
        "line 5: nested deeper than 32 levels",
        "line 6: not UTF-8 at byte 1",
        "line 7: column 'x': unknown",
    ]
    assert again.rows == folder.rows
    assert folder.rows_path.read_bytes() == first + b"\n" + second + b"\n"
    aside = (tmp_path / folder.schema.damaged_name).read_bytes()
    assert aside.splitlines() == [lines[index] for index in (0, 2, 3, 4, 5, 6)]


@both
@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"\xef\xbb\xbf", "UTF-8 with a byte order mark, expected UTF-8"),
        (b"\xff\xfe", "UTF-16, expected UTF-8"),
    ],
)
def test_rows_in_another_encoding_are_not_damaged(
    tmp_path: Path, kind: str, start: bytes, told: str
) -> None:
    folder = filled(tmp_path, kind)
    data = start + folder.rows_path.read_bytes()
    folder.rows_path.write_bytes(data)
    with pytest.raises(UsageError, match=told):
        type(folder).open(tmp_path)
    assert folder.rows_path.read_bytes() == data


@both
def test_another_schema_version_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    folder = filled(tmp_path, kind)
    text = folder.rows_path.read_text()
    folder.rows_path.write_text(text.replace('"schema_version":1', '"schema_version":7'))
    with pytest.raises(UsageError, match="line 1: schema version 7, this program reads 1"):
        type(folder).open(tmp_path)
    folder.info["schema_version"] = 2
    folder.write_info()
    with pytest.raises(UsageError, match=r"run\.json has schema version 2"):
        type(folder).open(tmp_path)


@both
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is damaged: no JSON"),
        ('{"schema_', "is damaged: no JSON from character"),
        ("[1]", r"is damaged: \[1\], expected an object"),
        ("[" * 100_000, "is damaged: nested deeper than 32 levels"),
        ('{"seed": 1' + "0" * 5000 + "}", "is damaged: an integer of thousands of digits"),
        ('{"seed": 1, "seed": 2}', "is damaged: column 'seed': twice in an object"),
        ('{"schema_version": 1}', "run_id: missing|of the block"),
        ("{}", "schema version None"),
    ],
)
def test_headers_that_are_damaged_as_a_whole(
    tmp_path: Path, kind: str, text: str, told: str
) -> None:
    (tmp_path / HEADER_NAME).write_text(text)
    with pytest.raises(UsageError, match=told):
        KINDS[kind][0].open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [HEADER_NAME]


@both
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"machine": None}, "column machine: null, expected a table with cpu_model"),
        ({"machine": {"cores": "two"}}, "column machine.cpu_model: missing"),
        ({"sessions": "x"}, "column sessions: 'x', expected an integer of 0 or more"),
        ({"budget_s": float("nan")}, "column budget_s: nan, expected a number from 0 to 1e12"),
        ({"threads": {}}, "column threads: {}, expected"),
        ({"command": [1]}, r"column command: \[1\], expected a list of text"),
        ({"another": 1}, "column 'another': unknown"),
    ],
)
def test_headers_with_a_damaged_column(
    tmp_path: Path, kind: str, changes: dict[str, Any], told: str
) -> None:
    cls, make_info, _ = KINDS[kind]
    (tmp_path / HEADER_NAME).write_bytes(to_json(make_info(**changes)))
    with pytest.raises(UsageError, match=rf"run\.json is damaged: {told}"):
        cls.open(tmp_path)


def test_runs_of_the_other_kind(tmp_path: Path) -> None:
    filled(tmp_path / "block", "block")
    filled(tmp_path / "suite", "suite")
    with pytest.raises(UsageError, match="holds a run of a suite: add --suite 'attention-sweep'"):
        RunFolder.open(tmp_path / "suite")
    with pytest.raises(UsageError, match="holds a run of the block: leave out --suite"):
        SuiteFolder.open(tmp_path / "block")


@both
def test_a_folder_without_a_run(tmp_path: Path, kind: str) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="holds no run"):
            KINDS[kind][0].open(path)
    assert list(tmp_path.iterdir()) == []


@both
def test_a_faulty_row_costs_no_other(tmp_path: Path, kind: str) -> None:
    cls, make_info, (first, second) = KINDS[kind]
    folder = cls.create(tmp_path, make_info())
    faulty = {**first, "started_utc": object(), "samples_ns": [float("nan")]}
    with pytest.raises(ValueError, match=r"kept in .*damaged\.jsonl: .*column samples_ns: \[nan\]"):
        folder.append([faulty, second])
    folder.close()
    again, damaged = reopened(folder)
    assert (again.rows, damaged) == ([second], [])
    (line,) = (tmp_path / folder.schema.damaged_name).read_text().splitlines()
    assert json.loads(line)["started_utc"].startswith("<object")


def test_text_that_is_no_unicode_is_written_as_some(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, block_info(command=["ablation-bench", "\udcff"]))
    folder.append([failed_block_row(reason="no file \udce4 µ")])
    folder.close()
    again, damaged = reopened(folder)
    assert damaged == []
    assert again.rows[0]["reason"] == "no file ? µ"
    assert again.info["command"] == ["ablation-bench", "?"]


def refuse(number: int) -> Any:
    """What raises an error of the system instead of doing something."""

    def refusing(*given: Any, **named: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return refusing


def test_a_disk_that_is_full_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(UsageError, match="No space left on device"):
        RunFolder.create(tmp_path / "run", block_info())
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO])
def test_rows_that_cannot_be_appended_are_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = filled(tmp_path / "run")
    before = folder.rows_path.read_bytes()
    fsync, calls = os.fsync, []

    def first_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", first_fails)
    row = block_row("passes-absorb")
    with pytest.raises(RowsNotWritten, match=os.strerror(number)) as raised:
        append_rows(folder.rows_path, [row])
    assert folder.rows_path.read_bytes() == before
    (elsewhere,) = tmp_path.glob("ablation-cells-*.jsonl")
    assert str(elsewhere) in str(raised.value)
    assert read_rows(elsewhere, RunFolder.schema) == ([row], [])


def test_rows_of_a_folder_that_was_removed_and_without_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    row = block_row()
    with pytest.raises(RowsNotWritten, match="No such file or directory") as raised:
        append_rows(tmp_path / "removed" / "cells.jsonl", [row])
    assert json.loads(str(raised.value).splitlines()[-1]) == row


def test_a_header_that_cannot_be_written_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled(tmp_path)
    before = (tmp_path / HEADER_NAME).read_bytes()
    folder.info["elapsed_s"] = 9.5
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        folder.write_info()
    assert (tmp_path / HEADER_NAME).read_bytes() == before
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["cells.jsonl", HEADER_NAME]

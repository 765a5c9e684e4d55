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

from ablation_executor.bench.interrupt import UsageError
from ablation_executor.bench.run_folder import RunFolder
from ablation_executor.bench.run_lock import LOCK_NAME, RunLock
from ablation_executor.bench.run_writing import RowsNotWritten, append_rows, to_json
from ablation_report.rows import DAMAGED_NAME, HEADER_NAME, ROWS_NAME

from .sound_files import failed_row, sound_info, sound_row

ROWS = [sound_row("passes-none"), failed_row("passes-fold")]


def filled(path: Path) -> RunFolder:
    """A folder with two rows that nobody owns."""
    folder = RunFolder.create(path, sound_info())
    folder.append(ROWS)
    folder.close()
    return folder


def reopened(folder: RunFolder) -> tuple[RunFolder, list[str]]:
    """The folder as read again, which nobody owns, and what is told of its damaged lines."""
    again, damaged = RunFolder.open(folder.path)
    again.close()
    return again, [f"line {line.number}: {line.reason}" for line in damaged]


def test_a_run_comes_back(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run")
    again, damaged = reopened(folder)
    assert (again.rows, damaged, again.info) == (ROWS, [], sound_info())
    assert len(again.done()) == 2
    names = sorted(path.name for path in folder.path.iterdir())
    assert names == sorted([HEADER_NAME, ROWS_NAME])


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    owner, _ = RunFolder.open(tmp_path)
    with pytest.raises(UsageError, match=rf"is in use by process {os.getpid()} on .* since 20.*Z"):
        RunFolder.open(tmp_path)
    with pytest.raises(UsageError, match="is in use by process"):
        RunFolder.create(tmp_path, sound_info())
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
    with pytest.raises(UsageError, match=r"has no locks.*takes a folder of another"):
        RunFolder.create(tmp_path, sound_info())
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


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    run = filled(tmp_path / "run").path
    with pytest.raises(UsageError, match=r"already holds a run; continue it with --resume .*run"):
        RunFolder.create(run, sound_info())
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(
        UsageError, match=r"is not empty \(notes\.txt\); --out takes a new or an empty folder"
    ):
        RunFolder.create(other, sound_info())
    assert [path.name for path in other.iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError, match="cannot write to"):
            RunFolder.create(path, sound_info())
    assert (tmp_path / "file").read_text() == "mine"


def test_a_cut_line_is_named_and_moved_aside(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    whole = folder.rows_path.read_bytes()
    first, second, _ = whole.split(b"\n")
    folder.rows_path.write_bytes(whole[:-20])
    again, (told,) = reopened(folder)
    assert told.startswith("line 2: damaged, no JSON from character")
    assert again.rows == folder.rows[:1]
    assert (tmp_path / DAMAGED_NAME).read_bytes() == second[:-19] + b"\n"
    assert folder.rows_path.read_bytes() == first + b"\n"
    assert reopened(folder)[1] == []


def test_a_last_line_without_its_line_break_gets_one(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    whole = folder.rows_path.read_bytes()
    folder.rows_path.write_bytes(whole[:-1])
    again, damaged = reopened(folder)
    assert (again.rows, damaged) == (folder.rows, [])
    assert folder.rows_path.read_bytes() == whole


def test_lines_that_are_no_rows_of_the_run(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    first, second = folder.rows_path.read_bytes().splitlines()
    foreign = to_json({**folder.rows[1], "run_id": "another"}).rstrip()
    lines = [b"", first, first, foreign, b"[" * 100_000, b"\xff", first[:-1] + b',"x":1}', second]
    folder.rows_path.write_bytes(b"\n".join(lines) + b"\n")
    again, damaged = reopened(folder)
    assert damaged == [
        "line 1: damaged, no JSON from character 1 on (Expecting value)",
        "line 3: column variant: passes-none, fwd of this case is already in line 2",
        "line 4: column run_id: 'another', run.json says 'test'",
        "line 5: nested deeper than 32 levels",
        "line 6: byte 1 is 0xff, which is not UTF-8",
        "line 7: column x: unknown column",
    ]
    assert again.rows == folder.rows
    assert folder.rows_path.read_bytes() == first + b"\n" + second + b"\n"
    aside = (tmp_path / DAMAGED_NAME).read_bytes()
    assert aside.splitlines() == [lines[index] for index in (0, 2, 3, 4, 5, 6)]


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"\xef\xbb\xbf", "UTF-8 with a byte order mark, expected UTF-8"),
        (b"\xff\xfe", "UTF-16, expected UTF-8"),
    ],
)
def test_rows_in_another_encoding_are_not_damaged(tmp_path: Path, start: bytes, told: str) -> None:
    folder = filled(tmp_path)
    data = start + folder.rows_path.read_bytes()
    folder.rows_path.write_bytes(data)
    with pytest.raises(UsageError, match=told):
        RunFolder.open(tmp_path)
    assert folder.rows_path.read_bytes() == data


def test_another_schema_version_is_refused_by_name(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    text = folder.rows_path.read_text()
    folder.rows_path.write_text(text.replace('"schema_version":2', '"schema_version":7'))
    with pytest.raises(UsageError, match=r"rows\.jsonl:1: .*schema 7, expected schema 2 \(a newer"):
        RunFolder.open(tmp_path)
    folder.info["schema_version"] = 3
    folder.write_info()
    with pytest.raises(UsageError, match=r"run\.json: .*schema 3, expected schema 2"):
        RunFolder.open(tmp_path)


def test_a_run_of_an_older_version_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / HEADER_NAME).write_bytes(to_json({"schema_version": 1, "run_id": "test"}))
    (tmp_path / "cells.jsonl").write_text("{}\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="was recorded by an older version: ablation-report reads"):
        RunFolder.open(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "damaged, no JSON"),
        ('{"schema_', "damaged, no JSON from line 1"),
        ("[1]", r"\[1\], expected an object"),
        ("[" * 100_000, "nested deeper than 32 levels"),
        ('{"seed": 1' + "0" * 5000 + "}", "an integer of thousands of digits"),
        ('{"seed": 1, "seed": 2}', "column seed: appears twice in one object"),
        ('{"schema_version": 2}', "column run_id: missing"),
        ("{}", "column schema_version: None, expected 2"),
    ],
)
def test_headers_that_are_damaged_as_a_whole(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / HEADER_NAME).write_text(text)
    with pytest.raises(UsageError, match=told):
        RunFolder.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [HEADER_NAME]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"machine": None}, "column machine: null, expected a table with cpu_model"),
        ({"machine": {"cpu_model": "x", "cores": "two"}}, "column machine.os: missing"),
        ({"sessions": "x"}, "column sessions: 'x', expected an integer of 0 or more"),
        ({"budget_s": float("nan")}, "column budget_s: nan, expected a number from 0 to 1e12"),
        ({"threads": {}}, "column threads: {}, expected"),
        ({"command": [1]}, r"column command: \[1\], expected a list of text"),
        ({"another": 1}, "column another: unknown column"),
    ],
)
def test_headers_with_a_damaged_column(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    (tmp_path / HEADER_NAME).write_bytes(to_json(sound_info(**changes)))
    with pytest.raises(UsageError, match=rf"run\.json: {told}"):
        RunFolder.open(tmp_path)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="holds no run"):
            RunFolder.open(path)
    assert list(tmp_path.iterdir()) == []


def test_a_faulty_row_costs_no_other(tmp_path: Path) -> None:
    first, second = ROWS
    folder = RunFolder.create(tmp_path, sound_info())
    faulty = {**first, "started_utc": object(), "samples_ns": [float("nan")]}
    with pytest.raises(ValueError, match=r"kept in .*damaged\.jsonl: .*column samples_ns: \[nan\]"):
        folder.append([faulty, second])
    folder.close()
    again, damaged = reopened(folder)
    assert (again.rows, damaged) == ([second], [])
    (line,) = (tmp_path / DAMAGED_NAME).read_text().splitlines()
    assert json.loads(line)["started_utc"].startswith("<object")


def test_text_that_is_no_unicode_is_written_as_some(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, sound_info(command=["ablation-bench", "\udcff"]))
    folder.append([failed_row(reason_text="no file \udce4 µ")])
    folder.close()
    again, damaged = reopened(folder)
    assert damaged == []
    assert again.rows[0]["reason_text"] == "no file ? µ"
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
        RunFolder.create(tmp_path / "run", sound_info())
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
    row = sound_row("passes-absorb")
    with pytest.raises(RowsNotWritten, match=os.strerror(number)) as raised:
        append_rows(folder.rows_path, [row])
    assert folder.rows_path.read_bytes() == before
    (elsewhere,) = tmp_path.glob("ablation-rows-*.jsonl")
    assert str(elsewhere) in str(raised.value)
    assert elsewhere.read_bytes() == to_json(row)


def test_rows_of_a_folder_that_was_removed_and_without_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    row = sound_row()
    with pytest.raises(RowsNotWritten, match="No such file or directory") as raised:
        append_rows(tmp_path / "removed" / "rows.jsonl", [row])
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
    assert names == ["rows.jsonl", HEADER_NAME]

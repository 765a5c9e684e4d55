"""Streams that last, and text that is safe to print."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ablation_executor.bench.command import print_run
from ablation_executor.bench.progress import LiveProgress, PlainProgress
from ablation_executor.bench.run_folder import RunFolder
from ablation_executor.bench.terminal import Lasting, prepare_streams, printable, quoted, shown

from .sound_files import failed_row, sound_info, sound_row


def stream(encoding: str) -> io.TextIOWrapper:
    """A text stream into memory."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", b"4 us +-2% \\u65e5 \\udcff\n"),
        ("latin-1", "4 µs ±2% \\u65e5 \\udcff\n".encode("latin-1")),
        ("utf-8", "4 µs ±2% 日 \\udcff\n".encode()),
    ],
)
def test_what_an_encoding_lacks_has_stand_ins(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: bytes
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream(encoding))
    inner: Any = sys.stdout
    prepare_streams()
    prepare_streams()
    Console().print("4 µs ±2% 日 \udcff", soft_wrap=True)
    sys.stdout.flush()
    assert inner.buffer.getvalue() == written


def test_a_reader_that_goes_away_fails_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    lasting = Lasting(os.fdopen(writing, "w", encoding="utf-8"))
    for _ in range(3):
        assert lasting.write("text\n") == 5
        lasting.flush()
    assert lasting.is_gone
    assert lasting.encoding == "utf-8"
    lasting.close()


def test_streams_that_are_closed_take_no_descriptor_of_a_file(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from ablation_executor.bench.terminal import prepare_streams\n"
        "prepare_streams()\n"
        f"file = open({str(tmp_path / 'rows')!r}, 'w')\n"
        "assert file.fileno() > 2\n"
        "os.write(1, b'a library')\n"
        "print('text', flush=True)\n"
        "print('text', file=sys.stderr, flush=True)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(["sh", "-c", '"$0" "$@" <&- >&- 2>&-', *command], check=False)
    assert done.returncode == 0
    assert (tmp_path / "rows").read_text() == ""


def test_names_of_a_run_cannot_rewrite_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[2J\n[red]\x07"
    rows = [
        sound_row("torch-naive", printed_name=hostile, group=hostile),
        failed_row("passes-none", reason_text=hostile),
    ]
    folder = RunFolder.create(tmp_path, sound_info())
    folder.append(rows)
    print_run(folder, Console(width=80))
    folder.close()
    PlainProgress(Console(width=80)).finished(rows[1])
    out = capsys.readouterr().out
    assert "\\x1b[2J" in out and "[red]" in out
    assert not any(char in out for char in "\x1b\x07")


def test_lines_above_the_live_one_break_no_number() -> None:
    reason = "82.0 GFLOP/s, the multiply-adds of 2 threads reach 70.75: an impossible rate"
    stream = io.StringIO()
    progress = LiveProgress(Console(file=stream, width=80, force_terminal=True, color_system=None))
    for start in range(20):
        progress.finished(failed_row("passes-none", reason_text="x" * start + f" {reason}"))
        progress.note("x" * start + f" {reason}")
    progress.close()
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", "", stream.getvalue()).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("70.75" in line for line in lines) == sum("82.0" in line for line in lines) == 40


def test_text_that_could_rewrite_the_terminal() -> None:
    assert printable("a\x1b[2J\nb\x9b\u202e ±") == "a\\x1b[2J\\nb\\x9b\\u202e ±"


@pytest.mark.parametrize(
    "name",
    ["plain", "with blank", "[red]", "a\nb", "\x1b[31m", "it's \\ $HOME `id`\t", "-run", "日"],
)
def test_a_shell_finds_a_path_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    text = quoted(tmp_path / name)
    assert text.isprintable() and shown(tmp_path / name).isprintable()
    command = ["bash", "-c", f"cd -- {text} && pwd -P"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found.rstrip("\n") == str((tmp_path / name).resolve()).rstrip("\n")

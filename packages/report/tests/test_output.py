"""What the command line writes to terminals, pipes and files of every kind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from samples import make_header, make_timed, write_run

from ablation_report.__main__ import main

NAME = "naïve run"
COMMANDS = (
    *(("show", NAME), ("show", NAME, "--format", "md"), ("compare", NAME, NAME)),
    *(("findings", NAME), ("export", NAME), ("export", NAME, "--format", "md"), ("check", NAME)),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a run whose name and machine are not ASCII."""
    machine = make_header()["machine"] | {"cpu_model": "Test CPU µ日"}
    rows = [
        make_timed(name, [1000 + i] * 8, printed_name=f"{name} – µ")
        for i, name in enumerate(("torch-naive", "torch-sdpa"))
    ]
    write_run(tmp_path / NAME, rows, make_header(rows, machine=machine))
    return tmp_path


def call(place: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run the module in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ablation_report", *arguments],
        cwd=place,
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
    )


def printed(
    monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: str
) -> tuple[int, bytes, bytes]:
    """Run the command line on streams of an encoding; return its status and what it printed."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
    with monkeypatch.context() as patched:
        for name, stream in streams.items():
            patched.setattr(sys, name, stream)
        status = main(arguments)
    for stream in streams.values():
        stream.flush()
    out, err = (stream.buffer.getvalue() for stream in streams.values())
    return status, out, err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_no_character_fails_to_be_printed(
    place: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    # Named by the user, the encoding is that of data too
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    for arguments in COMMANDS:
        status, out, err = printed(monkeypatch, encoding, *arguments)
        assert (status, err) == (0, b""), arguments
        out.decode(encoding)
    shown = printed(monkeypatch, "ascii", "show", NAME)[1].decode("ascii")
    assert "1.0 us" in shown and "torch-naive - u" in shown and "Test CPU u\\u65e5" in shown
    status, _, err = printed(monkeypatch, "ascii", "show", "naïve")
    assert status == 1 and b"na\\xefve: no such file or folder" in err


def test_a_c_locale_prints_tables(place: Path) -> None:
    done = call(place, "show", NAME, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, b"") and b"1.0 us" in done.stdout


def test_data_in_a_pipe_are_utf_8_in_every_locale(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    for command in ("findings", "export"):
        status, out, _ = printed(monkeypatch, "latin-1", command, NAME, "--format", "md")
        assert status == 0 and "naïve run" in out.decode("utf-8")


def test_a_file_is_utf_8_in_every_locale(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for layout in ("csv", "md"):
        arguments = ("export", NAME, "--format", layout, "--out", f"s.{layout}")
        assert printed(monkeypatch, "ascii", *arguments)[0] == 0
        assert "naïve run" in (place / f"s.{layout}").read_text(encoding="utf-8")


def test_a_reader_that_goes_away_is_no_traceback(place: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "ablation_report", "show", NAME],
            cwd=place,
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told(place: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ablation_report", "show", NAME],
            cwd=place,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"the output: No space left on device\n")


def test_without_standard_output_the_status_tells(place: Path) -> None:
    script = '"$0" -m ablation_report check nowhere >&-'
    command = ["sh", "-c", script, sys.executable]
    done = subprocess.run(command, cwd=place, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"nowhere: no such file or folder\n")


@pytest.mark.parametrize("variables", [{"COLUMNS": "x"}, {"NO_COLOR": "1"}])
def test_the_terminal_does_not_matter(
    place: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    expected = printed(monkeypatch, "utf-8", "show", NAME)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert printed(monkeypatch, "utf-8", "show", NAME) == expected


def test_modules_of_the_users_folder_are_not_imported(place: Path) -> None:
    for name in ("random", "json", "csv", "polars", "altair", "argparse", "html", "statistics"):
        (place / f"{name}.py").write_text("raise SystemExit('a file of the user was run')\n")
    done = call(place, "check", NAME)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_is_no_traceback(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ablation_report.__main__._check", interrupted)
    assert main(["check", str(place)]) == 130
    assert capsys.readouterr() == ("", "")

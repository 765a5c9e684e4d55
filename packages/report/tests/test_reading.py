"""What may be wrong with the bytes of a file, and that it is told by file, line and column."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import make_attention_row, make_header, make_row, make_untimed, write_run

from ablation_report.__main__ import main
from ablation_report.load import check, gather, read
from ablation_report.reading import MOST_BYTES, MOST_FAULTS, SchemaError

BLOCK = (
    "config,d_model,n_heads,seq_len,batch,group,printed_name,variant,attention_kernel,"
    "layernorm_kernel,passes,total_ns,attention_ns,layernorm_ns,other_ns,ratio_vs_torch_naive"
)
ROW = "Tiny,8,2,4,1,Baselines,PT naive,torch-naive,,,,1000,400,100,500,1.00"
TWO = "Tiny,8,2,4,1,Baselines,PT SDPA,torch-sdpa,,,,500,400,50,50,0.50"


def told(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What every command and reader says of a path that it refuses; it has to be the same."""
    problems = check(path)[1]
    said = "".join(f"{problem}\n" for problem in problems)
    for command in ("check", "show", "export", "attention"):
        assert main([command, str(path)]) == 1, command
        captured = capsys.readouterr()
        assert captured.err == said and captured.out == "", command
    assert main(["compare", str(path), str(path)]) == main(["agree", str(path), str(path)]) == 1
    assert main(["findings", str(path)]) == 1
    assert capsys.readouterr().err.endswith(said)
    assert list(gather(path).problems) == problems
    with pytest.raises(SchemaError) as refused:
        read(path)
    assert refused.value.problems == problems
    return said


def row_with(text: str, **changes: Any) -> str:
    """A sound line in which the text VALUE of the reason is replaced, quotes included."""
    row = make_untimed(make_row()) | {"reason_text": "VALUE"}
    return json.dumps(row | changes).replace('"VALUE"', text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "nested deeper than 32 levels"),
        (row_with("[" * 900 + "]" * 900), "nested deeper than 32 levels"),
        (row_with("[" * 40 + "]" * 40), "nested deeper than 32 levels"),
        (row_with("1" * 5000), "an integer of thousands of digits, expected at most 64 bits"),
        (row_with('"x", "seed": 1'), "column seed: appears twice in one object"),
        (
            row_with(r'"\ud800"'),
            "column reason_text: half of a surrogate pair, which is no character",
        ),
        (row_with('"x", "\\udc00": 1'), "column \\udc00: half of a surrogate pair"),
        (
            row_with('"x"', seed=2**63),
            "9223372036854775808, expected an integer of 0 or more of 64",
        ),
        (row_with('"x"', seed=-1), "column seed: -1, expected an integer of 0 or more"),
        (row_with('"x"', seed=False), "column seed: False, expected an integer of 0 or more"),
        (row_with('"x"', build_ns=10**40), "column build_ns: 1000000000"),
        (
            row_with('"x"', memory=make_row()["memory"] | {"weights": 2**62}),
            "column memory.weights: 4611686018427387904, expected an integer from 0 to 2^60",
        ),
        (row_with('"x"', elapsed_s=10**300), "column elapsed_s: 1000000000"),
        (row_with('"x"', elapsed_s=-1), "column elapsed_s: -1, expected a number from 0 to 1e12"),
        (
            row_with('"x"', limits={"o": float("nan")}),
            "column limits: {'o': nan}, expected a table",
        ),
        (row_with('"x"').replace('"elapsed_s": 1.5', '"elapsed_s": 1e400'), "elapsed_s: inf"),
        (row_with('"x"', sample_rounds=[0]), "column sample_rounds: [0], but status is oom"),
        (row_with('"x"', threads=0), "column threads: 0, expected an integer above 0"),
        (row_with('"x"', providers={"simd": 1}), "column providers: {'simd': 1}, expected"),
        (row_with('"x"', status=["oom"]), "column status: ['oom'], expected one of ok, oom"),
        (row_with('"x"') * 2, "damaged, no JSON from character"),
        ("\ufeff" + row_with('"x"'), "damaged, no JSON from character 1"),
    ],
)
def test_a_spoiled_line_is_told_by_all(
    tmp_path: Path, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [make_row()])
    with (run / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    said = told(run, capsys)
    assert said.startswith(f"{run / 'rows.jsonl'}:2: ") and message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda data: b"\xef\xbb\xbf" + data,
            ": UTF-8 with a byte order mark, expected UTF-8 with",
        ),
        (lambda data: data.decode().encode("utf-16"), ": UTF-16, expected UTF-8 without a byte"),
        (lambda data: b"\xfe\xff" + data, ": UTF-16, expected UTF-8"),
        (lambda data: data.replace(b"Toy", b"T\xf6y"), "byte {at} is 0xf6, which is not UTF-8"),
        (lambda data: data + b"\x00" * 512, "damaged, no JSON from character 1"),
        (lambda data: data[:-9], "damaged, no JSON from"),
        (lambda data: data.replace(b"\n", b"\n\n"), "damaged, no JSON from"),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "run.json"])
def test_other_encodings_and_cut_files_are_told_by_all(
    tmp_path: Path,
    spoil: Callable[[bytes], bytes],
    message: str,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = write_run(tmp_path / "run", [make_row()])
    sound = (run / name).read_bytes()
    if spoil(sound) == sound:
        # The header has no end of line
        spoil = bytes.upper
    (run / name).write_bytes(spoil(sound))
    said = told(run, capsys)
    place = {"run.json": "line 1", "rows.jsonl": "character"}[name]
    expected = message.format(at=sound.find(b"Toy") + 2).replace("character 1", place)
    assert str(run / name) in said
    assert expected in said or (spoil is bytes.upper and "damaged" in said)


def folder(path: Path) -> None:
    path.mkdir()


def nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def itself(path: Path) -> None:
    path.symlink_to(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (folder, "a folder, expected a regular file"),
        (os.mkfifo, "a named pipe, expected a regular file"),
        (listening, "a socket, expected a regular file"),
        (nowhere, "a broken symbolic link"),
        (itself, "a symbolic link to itself"),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "run.json"])
def test_what_is_no_regular_file_is_told_and_nothing_waits(
    tmp_path: Path,
    put: Callable[[Path], None],
    message: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = write_run(tmp_path / "run", [make_row()])
    (run / name).unlink()
    monkeypatch.chdir(tmp_path)
    put(run / name)
    assert f"{run / name}: {message}\n" == told(run, capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [make_row()])
    (run / "rows.jsonl").chmod(0)
    assert "rows.jsonl: cannot be read: Permission denied" in told(run, capsys)


def test_an_error_of_the_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [make_row()])

    def refuse(path: Path, *_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert main(["check", str(run)]) == 1
    assert "run.json: cannot be read: Permission denied" in capsys.readouterr().err


def test_a_line_without_end_is_not_read_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [make_row()])
    # A hole in the file: as long as it says, and no room on the disk
    with (run / "rows.jsonl").open("r+b") as file:
        file.truncate(40 * MOST_BYTES)
    assert f"rows.jsonl:2: longer than {MOST_BYTES} bytes\n" in told(run, capsys)


def test_faults_are_listed_up_to_a_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [make_row(seed="x")] * 5000, make_header())
    lines = told(run, capsys).splitlines()
    assert len(lines) == MOST_FAULTS + 1
    assert f"{MOST_FAULTS} faults up to here: the next lines were not read" in lines[-1]
    figures = tmp_path / "figures.csv"
    figures.write_text("\n".join([BLOCK, *[ROW.replace("1000", "x")] * 5000]) + "\n")
    lines = told(figures, capsys).splitlines()
    assert len(lines) == MOST_FAULTS + 1 and "faults up to here" in lines[-1]


def test_the_faults_of_header_and_rows_are_told_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = make_header(seed="x", elapsed_s=-1)
    run = write_run(
        tmp_path / "run", [make_row(), make_row(dtype="y", variant="b", case="c")], header
    )
    assert [
        line.partition(": ")[2].partition(":")[0] for line in told(run, capsys).splitlines()
    ] == [
        "column elapsed_s",
        "column seed",
        "column dtype",
    ]


MACHINE, VERSIONS = make_header()["machine"], make_header()["versions"]
RATES = {"provider": "x", "multiply_add_flops_per_s": 1e9, "memory_bytes_per_s": 1e9}


@pytest.mark.parametrize(
    ("changes", "column", "message"),
    [
        ({"machine": MACHINE | {"cores": "two"}}, "machine.cores", "'two', expected an integer"),
        ({"machine": MACHINE | {"cpu_model": None}}, "machine.cpu_model", "null, expected text"),
        ({"machine": MACHINE | {"memory_bytes": "oom"}}, "machine.memory_bytes", "'oom', expected"),
        ({"machine": MACHINE | {"isa_flags": [1]}}, "machine.isa_flags", "[1], expected a list of"),
        ({"machine": MACHINE | {"caches": {"L1d": {}}}}, "machine.caches.L1d", "{}, expected text"),
        ({"machine": {**MACHINE, "caches": []}}, "machine.caches", "[], expected a table"),
        ({"versions": VERSIONS | {"torch": 2}}, "versions.torch", "2, expected text"),
        ({"versions": VERSIONS | {"jax": []}}, "versions.jax", "[], expected text"),
        ({"build_info": {"isa_available": 1}}, "build_info.isa_available", "1, expected a list"),
        (
            {"ceilings": {"1": RATES | {"memory_bytes_per_s": "x"}}},
            "ceilings.1.memory_bytes_per_s",
            "'x', expected a number from 1 to 1e30",
        ),
        (
            {"ceilings": {"1": RATES | {"memory_bytes_per_s": 0}}},
            "ceilings.1.memory_bytes_per_s",
            "0, expected",
        ),
        ({"ceilings": {"x": {}}}, "ceilings", "{'x': {}}, expected a table of ceilings by number"),
        ({"ceilings": {"1": 5}}, "ceilings.1", "5, expected a table"),
        ({"limits": {"memory_limit_bytes": "x"}}, "limits.memory_limit_bytes", "'x', expected"),
        ({"threads": [0]}, "threads", "[0], expected a list of integers above 0"),
        ({"quick": 1}, "quick", "1, expected true or false"),
        ({"elapsed_s": 10**400}, "elapsed_s", "1000000000"),
        ({"budget_s": float("inf")}, "budget_s", "inf, expected a number from 0 to 1e12"),
        ({"command": ["a", None]}, "command", "['a', None], expected a list of text"),
        ({"surprise": 1}, "surprise", "unknown column"),
        ({"suite": ["lm-step"]}, "suite", "['lm-step'], expected text"),
    ],
)
def test_every_part_of_a_header_is_checked(
    tmp_path: Path,
    changes: dict[str, Any],
    column: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = write_run(tmp_path / "run", [make_row()], make_header(**changes))
    lines = told(run, capsys).splitlines()
    assert any(f"{run / 'run.json'}: column {column}: {message}" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"details": {"parts_ns": {"fwd": "x"}}}, "details.parts_ns.fwd"),
        ({"details": {"parts_ns": [1]}}, "details.parts_ns"),
        ({"details": {"op_table": [{"name": "x"}]}}, "details.op_table"),
        ({"details": {"tokens": "many"}}, "details.tokens"),
        ({"details": {"mem_grads_bytes": -1}}, "details.mem_grads_bytes"),
        ({"details": {"op_table_with_ns": "x"}}, "details.op_table_with_ns"),
        ({"sizes": {"scale": "x"}}, "sizes.scale"),
        ({"sizes": {"layers": "x"}}, "sizes.layers"),
        ({"sizes": {"other": []}}, "sizes.other"),
        ({"errors": {"o": "x"}}, "errors"),
        ({"kernels": "x"}, "kernels"),
    ],
)
def test_every_part_of_a_row_is_checked(
    tmp_path: Path, changes: dict[str, Any], column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = make_attention_row()
    run = write_run(tmp_path / "run", [sound | changes], make_header([sound]))
    assert f"{run / 'rows.jsonl'}:1: column {column}: " in told(run, capsys)


def test_rows_of_two_kinds_in_one_folder_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [make_row()])
    (run / "cells.jsonl").touch()
    assert told(run, capsys) == f"{run}: holds rows.jsonl and cells.jsonl: two runs in one folder\n"


def test_a_file_of_a_run_is_not_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_run(tmp_path / "run", [make_row()]) / "rows.jsonl"
    assert told(path, capsys) == f"{path}: a file of a run: name its folder, {path.parent}\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf{}\n{}\n",
        b"{}\r\n{}\r\n",
        b"{}\n{}\n\n\r\n",
        b"{}\n{}",
    ],
)
def test_what_a_spreadsheet_makes_of_a_sound_file_is_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "figures.CSV"
    path.write_bytes(data.replace(b"{}", BLOCK.encode(), 1).replace(b"{}", ROW.encode(), 1))
    assert check(path) == ([f"{path}: 1 rows"], [])
    assert read(path)[0].rows[0]["samples_ns"] == [1000]


def test_a_quoted_line_break_does_not_shift_the_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.csv"
    path.write_text("\n".join([BLOCK, ROW.replace("PT naive", '"PT\nnaive"'), TWO, TWO]) + "\n")
    assert told(path, capsys) == (
        f"{path}:5: column variant: Tiny torch-sdpa is already in line 4\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{BLOCK}\n{ROW}".encode("utf-16"), ": UTF-16, expected UTF-8 without a byte order mark"),
        (
            f"{BLOCK}\n{ROW.replace('naive', 'naïve', 1)}".encode("latin-1"),
            ":2: byte 29 is 0xef, which is not UTF-8",
        ),
        (f"{BLOCK}\n{ROW}".replace(",", ";").encode(), ":1: separated by semicolons, expected"),
        (f"{BLOCK}\n{ROW}".replace(",", "\t").encode(), ":1: separated by tabs, expected commas"),
        (b"", ":1: empty, expected a line of column names"),
        (b"\n\n\n", ":1: empty, expected a line of column names"),
        (f"{BLOCK}\n{ROW[:-4]}\x00.00".encode(), ":2: damaged, a NUL character"),
        (f'{BLOCK}\n"{ROW}'.encode(), ":2: damaged: unexpected end of data"),
        (f'{BLOCK}\n"T"x{ROW}'.encode(), ":2: damaged: "),
        (f"{BLOCK}\n{'x' * 200_000}{ROW}".encode(), ":2: damaged: field larger than field limit"),
        (f"{BLOCK}\n\n{ROW}".encode(), ":2: damaged, 0 fields where the header has 16"),
        (f"{BLOCK}\n{ROW},".encode(), ":2: damaged, 17 fields where the header has 16"),
        (f"{BLOCK},\n{ROW},".encode(), ":1: column : unknown column"),
        *(
            (f"{BLOCK}\n{ROW.replace(',1000,', f',{value},')}".encode(), ":2: column total_ns: ")
            for value in ('"1,000"', "1e3", "1_000", " 1000", "+1000", "١٠٠٠", "nan", "9" * 30)
        ),
        *(
            (f"{BLOCK}\n{ROW[:-4]}{value}".encode(), ":2: column ratio_vs_torch_naive: ")
            for value in ('"1,00"', "nan", "inf", "1e400", "-1", " 1.00", "1_0", "", "1e-300")
        ),
        (
            f"{BLOCK}\n{ROW.replace(',8,', f',{10**12},')}".encode(),
            ":2: column d_model: 1000000000000, too large for a block",
        ),
    ],
)
def test_a_published_file_is_refused_by_what_is_wrong(
    tmp_path: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.csv"
    path.write_bytes(content)
    assert f"{path}{message}" in told(path, capsys)


@pytest.mark.parametrize("command", ["check", "show", "attention", "findings", "export", "site"])
@pytest.mark.parametrize("what", ["missing", "empty", "other", "deep"])
def test_a_path_with_nothing_to_read_is_told(
    tmp_path: Path, command: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / what
    if what != "missing":
        path.mkdir()
    if what == "other":
        (path / "notes.txt").write_text("x")
    if what == "deep":
        write_run(path / "a" / "b", [make_row()])
    out = ["--out", str(tmp_path / "out")] if command == "site" else []
    assert main([command, str(path), *out]) == 1
    said = capsys.readouterr().err
    expected = "no such file or folder" if what == "missing" else "looked for *.csv and for folders"
    assert said.startswith(f"{path}: ") and expected in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["check", "show", "findings", "export"])
def test_a_run_that_was_killed_before_its_first_row_says_so(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [])
    (run / "rows.jsonl").unlink()
    assert main([command, str(run)]) == 0
    captured = capsys.readouterr()
    assert f"{run}: a run without rows: it was stopped before its first" in (
        captured.out + captured.err
    )


def test_published_figures_of_suites_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[3] / "data/published/suites.csv"
    assert main(["show", str(path)]) == 0
    assert "attention forward sweep, RTX 3090" in capsys.readouterr().out

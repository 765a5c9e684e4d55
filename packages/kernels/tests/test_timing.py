"""The side-by-side timing and its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ablation_kernels as kernels
from ablation_kernels.__main__ import main
from ablation_kernels.calls import make_call, parse_shapes, usual_calls
from ablation_kernels.machine import OtherLoad, busy_warning
from ablation_kernels.record import (
    KernelRow,
    Record,
    all_calls,
    file_text,
    measure,
    time_left_s,
)
from ablation_kernels.tables import call_lines, kernel_lines, record_lines
from ablation_kernels.timing import held_bytes, time_call


def run(*arguments: str, columns: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ablation_kernels", *arguments]
    width = {} if columns is None else {"COLUMNS": str(columns)}
    environment = {**os.environ, **width}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def small_shape(op: str) -> tuple[int, ...]:
    has_heads = op.startswith("attention") or op == "rotary"
    return (1, 2, 5, 8) if has_heads else (5, 8)


@pytest.mark.parametrize("op", kernels.ops())
def test_every_kernel_of_an_op_is_timed_once_a_round(op: str) -> None:
    times = kernels.time_kernels(op, small_shape(op), rounds=3)
    assert [time.kernel for time in times] == [k.name for k in kernels.op_table() if k.op == op]
    assert all(len(time.times_ns) == 3 for time in times)
    assert all(time.min_ns <= time.median_ns for time in times)


def test_calls_that_fit_into_seconds_are_spread() -> None:
    for seconds, least, most in ((1e-9, 5, 5), (10, 100, 100)):
        times = time_call(make_call("relu", (3, 5)), seconds=seconds)
        assert all(least <= len(time.times_ns) <= most for time in times)


@pytest.mark.parametrize(
    ("op", "given", "found"),
    [
        ("layer_norm", [(3, 7)], [(3, 7), (7,), (7,)]),
        ("rotary", [(1, 2, 3, 8)], [(1, 2, 3, 8), (3, 4), (3, 4)]),
        ("matmul", [(3, 7)], [(3, 7), (7, 7), None, None]),
        ("matmul", [(3, 7), (7, 2)], [(3, 7), (7, 2), None, None]),
        ("attention", [(1, 2, 3, 4)], [*[(1, 2, 3, 4)] * 3, None]),
        ("attention", [(1, 2, 1, 4), (1, 2, 9, 4)], [(1, 2, 1, 4), *[(1, 2, 9, 4)] * 2, None]),
        ("attention_backward", [(1, 2, 3, 4)], [*[(1, 2, 3, 4)] * 4, (1, 2, 3), (1, 2, 3, 4)]),
        ("take", [(5, 7), (3,)], [(5, 7), (3,)]),
        ("concat", [(5, 7), (2, 7)], [(5, 7), (2, 7), *[None] * 6]),
    ],
)
def test_shapes_follow_from_the_first_inputs(
    op: str, given: list[tuple[int, ...]], found: list[tuple[int, ...] | None]
) -> None:
    assert list(make_call(op, *given).shapes) == found


# Operations and elements counted by hand
@pytest.mark.parametrize(
    ("op", "given", "flops", "elements"),
    [
        ("matmul", "3x7,7x2", 2 * 3 * 7 * 2, 3 * 7 + 7 * 2 + 3 * 2),
        ("attention", "1x2x3x4", 2 * 2 * (2 * 9 * 4), 4 * 24),
        ("attention", "1x2x1x4,1x2x9x4", 2 * 2 * (2 * 9 * 4), 2 * 8 + 2 * 72),
        ("attention_backward", "1x2x3x4", 5 * 2 * (2 * 9 * 4), 8 * 24 + 6),
        ("softmax", "3x7", None, 2 * 21),
        ("slice", "3x7", None, 2 * 3 * 2),
        ("take", "5x7,3", None, 2 * 3 * 7 + 3),
        ("concat", "3x7,2x7", None, 2 * 5 * 7),
        ("sum", "3x7", None, 21 + 3),
    ],
)
def test_work_of_a_call(op: str, given: str, flops: int | None, elements: int) -> None:
    call = make_call(op, *parse_shapes(given))
    assert (call.flops, call.n_bytes, call.text) == (flops, 4 * elements, given)


def test_the_roof_is_the_slower_of_both_ceilings() -> None:
    call = make_call("matmul", (64, 64))
    slow_memory = kernels.Ceilings("avx2", 1, 1e12, 1e6, 0.0)
    slow_products = kernels.Ceilings("avx2", 1, 1e6, 1e12, 0.0)
    assert call.roof(slow_memory) == ("memory", 3 * 64 * 64 * 4 / 1e6 * 1e9)
    assert call.roof(slow_products) == ("multiply-adds", 2 * 64**3 / 1e6 * 1e9)


@pytest.mark.parametrize("op", kernels.ops())
def test_arrays_are_what_an_op_is_made_for(op: str) -> None:
    """No logarithm of a negative number, no id of a row that is not there."""
    call = make_call(op, small_shape(op))
    given = [array for array in call.arrays() if array is not None]
    assert [array.shape for array in given] == [shape for shape in call.shapes if shape is not None]
    if op not in ("take", "where", "attention_backward", "attention_lse"):
        out = getattr(kernels, op)(*given, **call.attributes)
        assert np.isfinite(np.concatenate([np.ravel(part) for part in np.atleast_1d(out)])).all()
    if op == "take":
        assert set(given[1].ravel()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    if op == "where":
        assert set(given[0].ravel()) == {0.0, 1.0}


def test_usual_calls_are_of_every_op_and_fit_into_memory() -> None:
    for op in kernels.ops():
        calls = usual_calls(op)
        assert len(calls) >= 2 and len({call.text for call in calls}) == len(calls)
        assert all(call.n_bytes <= 300 << 20 for call in calls)


def test_time_left_falls_to_nothing() -> None:
    calls = all_calls()
    left = [time_left_s(calls, index, 0.0) for index in range(len(calls) + 1)]
    assert left == sorted(left, reverse=True) and left[0] > 30 and left[-1] == 0
    # What took longer than the guess goes on to do so
    assert time_left_s(calls, 5, 100) > time_left_s(calls, 5, 10) > left[5]


def test_command_prints_each_kernel_and_writes_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    done = run("matmul", "4x9", "--threads", "1", "--rounds", "2", "--json", str(file))
    assert done.returncode == 0, done.stderr
    names = [kernel.name for kernel in kernels.op_table() if kernel.op == "matmul"]
    lines = done.stdout.splitlines()
    assert lines[0] == "matmul 4x9 float32: 6.48e-07 GFLOP, 0.000612 MB read and written"
    assert [line.split()[0] for line in lines if line.startswith("matmul_")] == names
    head = next(line for line in lines if line.startswith("kernel"))
    assert all(word in head for word in ("median us", "min us", "GFLOP/s", "of ceiling"))
    found = json.loads(file.read_text())
    assert [row["kernel"] for row in found["rows"]] == names
    first = found["rows"][0]
    facts = [first[name] for name in ("op", "shape", "threads", "n_calls")]
    assert facts == ["matmul", "4x9", 1, 2]
    for row in found["rows"]:
        ceilings = found["ceilings"][str(row["threads"])]
        least_ns = max(
            row["flops"] / ceilings["multiply_add_flops_per_s"],
            row["bytes"] / ceilings["memory_bytes_per_s"],
        )
        assert row["share_of_ceiling"] == pytest.approx(1e9 * least_ns / row["median_ns"])
        assert 0 < row["min_ns"] <= row["median_ns"]
    assert found["machine"]["cores"] >= 1 and found["versions"]["numpy"] == np.__version__


def test_a_record_has_every_kernel(tmp_path: Path) -> None:
    record = measure([make_call(op, small_shape(op)) for op in kernels.ops()], rounds=1)
    assert [row.kernel for row in record.rows] == [kernel.name for kernel in kernels.op_table()]
    parallel = {kernel.name for kernel in kernels.op_table() if kernel.parallel}
    threads = kernels.get_num_threads()
    for row in record.rows:
        assert row.threads == (threads if row.kernel in parallel else 1)
    assert json.loads(file_text(record, ["--all"]))["rows"][-1]["op"] == list(kernels.ops())[-1]
    lines = [*record_lines(record, 80), *call_lines(record.rows[:9], record, 80)]
    assert max(map(len, lines)) <= 80
    # Another arithmetic is never the fastest kernel of an op
    assert not any("strassen" in line for line in record_lines(record, 80))
    wide = "\n".join(record_lines(record, 200))
    assert "of ceiling" in wide and "rate" in wide


def row_of(kernel: str, median_ns: float) -> KernelRow:
    share = 612 / median_ns
    return KernelRow(
        "matmul", kernel, "4x9", "float32", 1, 3, median_ns, 1, 648, 612, "memory", share
    )


def test_a_narrow_terminal_has_whole_columns() -> None:
    rows = [row_of("matmul_scalar", 1.5e9), row_of("matmul_strassen_twice_simd_parallel", 10.0)]
    record = Record({1: kernels.Ceilings("avx2", 1, 1e9, 1e9, 0.0)}, rows)
    for width in range(50, 120):
        lines = call_lines(rows, record, width)[3:6]
        assert "1500000" in lines[1] and "0.01" in lines[2]
        assert ("of ceiling" in lines[0]) == ("> memory" in lines[2])
        assert max(map(len, lines)) <= width
        assert ("time / first" in lines[0]) == (width >= 98), width


@pytest.mark.parametrize("arguments", [(), ("--help",), ("strassen", "8", "--rounds", "1")])
def test_nothing_is_wider_than_the_terminal(arguments: tuple[str, ...]) -> None:
    narrow, wide = run(*arguments, columns=80), run(*arguments, columns=200)
    assert narrow.returncode == wide.returncode == 0, narrow.stderr
    assert max(map(len, narrow.stdout.splitlines())) <= 80
    assert max(map(len, wide.stdout.splitlines())) > 80 or "--help" in arguments


def test_ideas_of_kernels_are_whole_at_any_width() -> None:
    for width in (60, 80, 1000):
        text = " ".join(" ".join(kernel_lines(kernels.op_table(), width)).split())
        assert all(" ".join(kernel.idea.split()) in text for kernel in kernels.op_table())


def test_a_share_above_the_ceiling_is_explained() -> None:
    record = Record({1: kernels.Ceilings("avx2", 1, 1e9, 1e9, 0.0)})
    for kernel, bound, told in [
        ("matmul_blas", "multiply-adds", True),
        ("matmul_blas", "memory", False),
        ("matmul_strassen_simd", "multiply-adds", False),
    ]:
        row = replace(row_of(kernel, 10.0), bound=bound)
        text = "\n".join(call_lines([row], record, 80))
        assert ("the ceiling was measured while" in text) == told


@pytest.mark.parametrize(("spare", "is_refused"), [(0, False), (-1, True)])
def test_a_call_that_memory_does_not_hold_is_refused(
    spare: int,
    is_refused: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    needed = held_bytes(make_call("matmul", (300, 200), (200, 100)))
    products = [kernel for kernel in kernels.op_table() if kernel.op == "matmul"]
    assert needed >= 4 * (300 * 200 + 300 * 100 + (1 + len(products)) * 200 * 100)
    monkeypatch.setattr("ablation_kernels.__main__.available_bytes", lambda: needed + spare)
    words = ["matmul", "300x200,200x100", "--rounds", "1"]
    if not is_refused:
        assert main(words) == 0
        return
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert (
        "accepted: shapes that fit into the 0.0 GiB that are available" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("share", "told"), [(None, False), (0.0, False), (0.09, False), (0.1, True), (1.0, True)]
)
def test_other_programs_are_warned_of(share: float | None, told: bool) -> None:
    assert (busy_warning(share, "use") is not None) == told


def test_own_work_is_no_other_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 s of two processors, 1 s was idle, 1 s waited for a disk, and 0.5 s was our own."""
    ticks = os.sysconf("SC_CLK_TCK")
    lines = iter(
        ("cpu 0 0 0 0 0 0 0 0 0 0\ncpu0 1", f"cpu {ticks} 0 {ticks} {ticks} {ticks} 0 0 0 0 0")
    )
    clock = iter((0.25, 0.75))
    monkeypatch.setattr("ablation_kernels.machine.read_text", lambda path: next(lines))
    monkeypatch.setattr("ablation_kernels.machine.time.process_time", lambda: next(clock))
    assert OtherLoad().share() == (2 - 0.5) / 4


def test_a_system_that_does_not_count_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablation_kernels.machine.read_text", lambda path: None)
    assert OtherLoad().share() is None


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        command = [sys.executable, "-m", "ablation_kernels", "relu", "4x9", "--rounds", "1"]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 141 and b"Traceback" not in done.stderr


def test_command_without_op_prints_table_and_ceilings() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert all(kernel.name in done.stdout for kernel in kernels.op_table())
    assert "GFLOP/s multiply-add" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("softmaxx", "4x9"), "argument 'op' is 'softmaxx'; accepted: matmul"),
        (("attention", "4x9"), "accepted: 4 axes"),
        (("softmax",), "required: shape"),
        (("softmax", "4y9"), "'4y9'; accepted: sizes as in 6144x512"),
        (("softmax", "4x9,4x9"), "has 2 shapes; accepted: at most 1, of x"),
        (("softmax", "--all"), "--all times every op; leave out 'softmax'"),
        (("--json", "rows.json"), "--json is for an op, or for --all"),
        (("softmax", "4x9", "--json", "nowhere/rows.json"), "a file in a folder that exists"),
        (("softmax", "4x9", "--threads", "0"), "accepted: 1 to 1024"),
        (("softmax", "4x9", "--rounds", "0"), "accepted: 1 or more"),
    ],
)
def test_bad_arguments_exit_with_2_and_say_why(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr

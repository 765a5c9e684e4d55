"""Runs by name: latest, a name in data/runs, and the run to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samples import make_header, make_noisy_samples, make_timed, write_run

from ablation_report.__main__ import main
from ablation_report.latest import nearest_run, run_path
from ablation_report.output import UsageError


def write(folder: Path, name: str, hour: int, **changes: Any) -> Path:
    """Write a run of the Toy config that began at an hour; one with `seeds` has noisy times."""
    run_id = f"run-{name}"
    names = ("torch-naive", "torch-sdpa")
    noisy = [make_noisy_samples(2000, 12, seed) for seed in changes.pop("seeds", ())]
    samples = dict(zip(names, noisy or [[1000] * 6], strict=False))
    rows = [make_timed(variant, times, run_id=run_id) for variant, times in samples.items()]
    known = {"created_utc": f"2026-01-02T{hour:02}:00:00Z", "run_id": run_id}
    return write_run(folder / "data/runs" / name, rows, make_header(rows, **{**known, **changes}))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three runs, of which b is the newest, and a folder without a run."""
    for name, hour in (("a", 1), ("b", 3), ("c", 2)):
        write(tmp_path, name, hour)
    (tmp_path / "data/runs/none").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_latest_is_the_run_that_began_last(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_path(Path("latest")) == Path("data/runs/b")
    below = place / "data/runs/a"
    monkeypatch.chdir(below)
    assert run_path(Path("latest")).resolve() == place / "data/runs/b"


def test_a_name_is_a_run_of_the_folder_and_a_path_comes_first(place: Path) -> None:
    assert run_path(Path("c")) == Path("data/runs/c")
    write_run(place / "c", [make_timed("torch-naive", [1000] * 6)])
    assert run_path(Path("c")) == Path("c")
    assert run_path(Path("data/runs/a")) == Path("data/runs/a")


def test_a_wrong_name_tells_those_that_are_like_it(place: Path) -> None:
    write(place, "2026-11-30-zen4-attribution", 0)
    like = "no such file or folder; runs with a similar name: 2026-11-30-zen4-attribution"
    with pytest.raises(FileNotFoundError, match=like):
        run_path(Path("2026-11-30-zen4-atribution"))
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file or folder$"):
        run_path(Path("nowhere"))


def test_without_runs_there_is_no_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="latest: no run in data/runs; accepted: a run folder"):
        run_path(Path("latest"))


def test_commands_take_names(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "latest"]) == 0
    assert "run-b" in capsys.readouterr().out
    assert main(["compare", "a", "latest"]) == 0
    assert "First a, second b" in capsys.readouterr().out
    assert main(["show", "nowhere"]) == 1
    assert capsys.readouterr().err == "nowhere: no such file or folder\n"


@pytest.mark.parametrize(
    ("changes", "is_like"),
    [
        ({}, True),
        ({"suite": "model"}, False),
        ({"device": "cuda"}, False),
        ({"threads": [1]}, False),
        ({"finished_utc": None}, False),
        ({"created_utc": "2026-01-03T00:00:00Z"}, False),
        ({"cases": ["another"]}, False),
        ({"machine": make_header()["machine"] | {"cores": 64}}, False),
    ],
)
def test_the_nearest_run_is_of_the_same_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], is_like: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    own = write(tmp_path, "own", 5)
    write(tmp_path, "other", 4, **changes)
    assert nearest_run(own) == (Path("data/runs/other") if is_like else None)


def test_of_several_the_nearest_has_the_most_cases_then_is_the_newest(place: Path) -> None:
    own = write(place, "own", 5)
    assert nearest_run(own) == Path("data/runs/b")
    cases = make_header([make_timed("torch-naive", [1])])["cases"]
    write(place, "own", 5, cases=[*cases, "another"])
    write(place, "d", 0, cases=[*cases, "another"])
    assert nearest_run(own) == Path("data/runs/d")


def test_a_run_that_is_too_noisy_is_the_nearest_only_without_a_calm_one(place: Path) -> None:
    own = write(place, "own", 5)
    write(place, "b", 4, seeds=(1, 2))
    assert nearest_run(own) == Path("data/runs/c")
    for name, hour in (("a", 1), ("c", 2)):
        write(place, name, hour, seeds=(1, 2))
    assert nearest_run(own) == Path("data/runs/b")


def test_a_run_in_another_folder_has_its_neighbors(place: Path) -> None:
    elsewhere = place / "elsewhere"
    own = write(elsewhere, "own", 5)
    assert nearest_run(own) == Path("data/runs/b")
    write(elsewhere, "beside", 4)
    assert nearest_run(own) == Path("elsewhere/data/runs/beside")

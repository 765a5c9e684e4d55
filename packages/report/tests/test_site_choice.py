"""Which run a page begins with, and the tables over several runs, against the committed rows."""

from __future__ import annotations

import json
import random
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from page_tables import page_tables
from samples import make_header, make_row, make_timed, write_run

from ablation_report.load import Gathered, gather
from ablation_report.run import BLOCK
from ablation_report.site.choose import is_noisy, main_run, places, settings, shown
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.home import home_block
from ablation_report.site.pages.league import league_block, leagues
from ablation_report.site.pages.performance import (
    costs_block,
    floors_block,
    instruction_sets_block,
    rungs_beyond_block,
)
from ablation_report.site.readme import sizes
from ablation_report.site.text import banners
from ablation_report.site.text import rows_of as runs_below

DATA = Path(__file__).parents[3] / "data"
has_data = pytest.mark.skipif(not (DATA / "runs").is_dir(), reason="no recorded runs beside this")
OURS = ("attention-fused-parallel", "layernorm-parallel", "flash-layernorm", "beyond-default")
LADDER = ("torch-naive", "torch-sdpa", "passes-none", *OURS[:2])
MEDIUM: dict[str, Any] = {
    "sizes": {"B": 1, "H": 8, "Nq": 256, "Nk": 256, "d": 64, "causal": False, "config": "Medium"},
    "flops": 24 * 256 * 512**2 + 4 * 256**2 * 512,
}
WHOLE = {"isa_available": ["avx2", "baseline"], "isa_used": "avx2"}


def write(folder: Path, rows: list[dict[str, Any]], day: int = 1, **changes: Any) -> Path:
    """Write a run of the whole machine under an id of its own."""
    rows = [row | {"run_id": folder.name} for row in rows]
    made = {"created_utc": f"2026-01-0{day}T00:00:00Z", "build_info": WHOLE}
    return write_run(folder, rows, make_header(rows, run_id=folder.name, **(made | changes)))


def ladder_rows(*variants: str, spread: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """Rows over each other's parent, a tenth apart, whose rounds differ by up to a spread."""
    draw = random.Random(1)
    return [
        make_timed(
            name,
            [1000 + 100 * i + draw.randint(0, spread) for _ in range(8)],
            parent=variants[i - 1] if i else None,
            **changes,
        )
        for i, name in enumerate(variants)
    ]


def league_rows(theirs: int, **size: Any) -> list[dict[str, Any]]:
    """Rows of our variants at 1000 ns and of a runtime of the league."""
    rows = [make_timed(name, [1000] * 8, **size) for name in OURS]
    league = {"group": "League", "origin": "openvino", "ops": None, "profile": None}
    return [*rows, make_timed("openvino", [theirs] * 8, **league, **size)]


def test_the_run_that_resolves_most_is_shown(tmp_path: Path) -> None:
    write(tmp_path / "old", ladder_rows(*LADDER), day=1)
    write(tmp_path / "new", ladder_rows(*LADDER), day=2)
    write(tmp_path / "newest-but-two-rungs", ladder_rows(*OURS[:2]), day=3)
    write(tmp_path / "newest-but-noisy", ladder_rows(*LADDER, spread=2000), day=4)
    forced = WHOLE | {"isa_used": "baseline"}
    write(tmp_path / "newest-but-forced", ladder_rows(*LADDER), day=5, build_info=forced)
    for day, share in ((6, 0.5), (7, "much")):
        folder = write(tmp_path / f"newest-{share}", ladder_rows(*LADDER), day=day)
        header = json.loads((folder / "run.json").read_text())
        header["machine"]["conditions"] = [{"busy_share": share}, {"busy_share": 0.01}, None]
        (folder / "run.json").write_text(json.dumps(header))
    runs = Inputs(gather(tmp_path)).recorded(BLOCK)
    disturbed = {run.name: run.is_disturbed for run in runs}
    assert disturbed["newest-0.5"] and sum(disturbed.values()) == 1
    # A share that is no number is none
    place, main = shown(runs, "Toy"), main_run(runs)
    assert place and main and place.run.name == main.name == "newest-much"
    quiet = [run for run in runs if run.name != "newest-much"]
    place, main = shown(quiet, "Toy"), main_run(quiet)
    assert place and main and place.run.name == main.name == "new"
    assert shown(runs, "GPT-2") is None
    (only,) = (run for run in runs if run.is_disturbed)
    assert "up to 50%" in banners([only]) and "(disturbed)" in runs_below([only])
    assert [run.name for run in runs if is_noisy(run)] == ["newest-but-noisy"]


def test_of_runs_that_resolve_as_much_the_lowest_floor_is_first(tmp_path: Path) -> None:
    write(tmp_path / "quiet", ladder_rows(*LADDER), day=1)
    rows = ladder_rows(*LADDER)
    # Twins that differ by some percent
    rows[-1] |= {"samples_ns": [1420] * 8}
    write(tmp_path / "newer", rows, day=2)
    place = shown(gather(tmp_path).runs, "Toy")
    assert place and place.run.name == "quiet"


def test_a_noisy_run_leads_nothing_and_has_a_banner(tmp_path: Path) -> None:
    write(tmp_path / "noisy", ladder_rows(*LADDER, spread=2000))
    inputs = Inputs(gather(tmp_path))
    assert main_run(inputs.recorded()) is None
    place = shown(inputs.recorded(), "Toy")
    assert place and place.run.name == "noisy"
    noisy = [row | {"samples_ns": [900, 1500] * 4} for row in league_rows(2000)]
    write(tmp_path / "league", noisy)
    assert '!!! warning "league: too noisy"' in league_block(Inputs(gather(tmp_path)))


def rows_of(block: str) -> dict[str, list[str]]:
    """The rows of the first table of a block, by their first cell without its link."""
    table = block.partition("| --- ")[2].partition("\n\n")[0].splitlines()[1:]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {re.sub(r"\[(.*)\]\(.*\)", r"\1", cells[0]): cells for cells in split}


def test_the_league_has_five_columns(tmp_path: Path) -> None:
    write(tmp_path / "toy", league_rows(2500))
    write(tmp_path / "medium", league_rows(1100, **MEDIUM))
    matrix, table = page_tables(league_block(Inputs(gather(tmp_path))))[:2]
    assert matrix.lines == [["Toy", "0.40x"], ["Medium", "0.91x"]]
    assert matrix.titles == ["Size", "Test CPU, 2 cores, 2 threads"]
    assert [marks[1] for marks in matrix.marks] == ["better", "better"]
    name = OURS[0]
    # 1000 / 2500 and 1000 / 1100
    assert [line[:5] for line in table.lines] == [
        ["Toy", f"1.0 µs ({name})", "2.5 µs (openvino)", "0.40x", "0.40-0.40"],
        ["Medium", f"1.0 µs ({name})", "1.1 µs (openvino)", "0.91x", "0.91-0.91"],
    ]
    assert [float(raw[3] or 0) for raw in table.raw] == pytest.approx([1 / 2.5, 1 / 1.1])


def test_the_matrix_has_a_column_for_each_machine_and_number_of_threads(tmp_path: Path) -> None:
    other = make_header()["machine"] | {"cpu_model": "Other CPU"}
    write(tmp_path / "one", league_rows(2000))
    write(tmp_path / "thread", league_rows(500, threads=1))
    noisy = [row | {"samples_ns": [900, 1500] * 4} for row in league_rows(9000, **MEDIUM)]
    noisy[-1] |= {"samples_ns": [9000, 15000] * 4}
    write(tmp_path / "other", noisy, machine=other)
    block = league_block(Inputs(gather(tmp_path)))
    matrix = page_tables(block)[0]
    by_title = {title: matrix.column(title) for title in matrix.titles[1:]}
    assert by_title == {
        "Test CPU, 2 cores, 2 threads": {"Toy": "0.50x", "Medium": "-"},
        "Other CPU, 2 cores, 2 threads": {"Toy": "-", "Medium": "0.10x ~"},
        "Test CPU, 2 cores, 1 thread": {"Toy": "2.00x", "Medium": "-"},
    }
    marks = {line[0]: marks for line, marks in zip(matrix.lines, matrix.marks, strict=True)}
    assert set(marks["Toy"]) == {"", "better", "worse"}
    # A run that is too noisy resolves nothing
    assert set(marks["Medium"]) == {"", "unresolved"}
    anchors = re.findall(r'<a href="#([^"]+)">', block)
    assert anchors and all(f"{{ #{anchor} }}" in block for anchor in anchors)
    # Both numbers of threads
    assert block.count('<section data-machine="Test CPU, 2 cores" markdown="1">') == 1


def test_many_machines_have_several_matrices(tmp_path: Path) -> None:
    for i in range(7):
        machine = make_header()["machine"] | {"cpu_model": f"CPU {i}"}
        write(tmp_path / f"run-{i}", league_rows(2000), machine=machine)
    tables = page_tables(league_block(Inputs(gather(tmp_path))))
    assert [len(table.titles) for table in tables[:3]] == [6, 3, 9]


def test_other_arithmetic_stands_apart_in_the_league(tmp_path: Path) -> None:
    """The fastest of all is not "ours": its error has another bound."""
    factors = {"executor": "compiled", "arithmetic": "other"}
    strassen = make_timed("other-strassen", [800] * 8, factors=factors)
    write(tmp_path / "toy", [*league_rows(2500), strassen])
    write(tmp_path / "medium", league_rows(1100, **MEDIUM))
    block = league_block(Inputs(gather(tmp_path)))
    tables = page_tables(block)
    assert tables[0].column(tables[0].titles[1])["Toy"] == "0.40x"
    assert tables[1].lines[0][1] == f"1.0 µs ({OURS[0]})"
    # Folded, and of the size alone that has it
    assert "<summary>Ours with another arithmetic</summary>" in block
    assert [line[:4] for line in tables[2].lines] == [
        ["Toy", "0.8 µs (other-strassen)", "2.5 µs (openvino)", "0.32x"]
    ]
    assert "ours, other arithmetic" in block


def test_machines_threads_and_instruction_sets_have_a_league_each(tmp_path: Path) -> None:
    machine = make_header()["machine"] | {"caches": {"L1d": 49152}}
    write(tmp_path / "one", league_rows(2000))
    write(tmp_path / "other", league_rows(1100, **MEDIUM), machine=machine)
    write(tmp_path / "thread", league_rows(1100, threads=1))
    found = leagues(Inputs(gather(tmp_path)))
    assert sorted((s.is_whole, s.threads, list(cases)) for s, cases in found) == [
        (False, 1, ["Toy"]),
        (True, 2, ["Medium"]),
        (True, 2, ["Toy"]),
    ]
    assert not found[-1][0].is_whole


def test_a_forced_instruction_set_is_a_setting_of_its_own(tmp_path: Path) -> None:
    build = {"isa_available": ["avx512", "avx2"], "isa_used": "avx512"}
    providers = make_header()["providers"]
    best = {"build_info": build, "providers": providers | {"simd": "avx512"}}
    write(tmp_path / "best", league_rows(2000), **best)
    write(tmp_path / "forced", league_rows(1100), build_info=build | {"isa_used": "avx2"})
    found = settings(places(gather(tmp_path).runs))
    assert [(setting.simd, setting.is_whole) for setting in found] == [
        ("avx512", True),
        ("avx2", False),
    ]


def test_the_first_screen_has_the_machine_that_resolves_most(tmp_path: Path) -> None:
    machine = make_header()["machine"] | {"cpu_model": "Other CPU"}
    write(tmp_path / "one", league_rows(2000))
    write(tmp_path / "two", [*league_rows(3000), *league_rows(3000, **MEDIUM)], machine=machine)
    block = sizes(Inputs(gather(tmp_path)))
    assert block.startswith("One call of a block, float32, Other CPU, 2 cores, 2 threads, avx2:")
    assert list(rows_of(block)) == ["Toy", "Medium"]


def test_without_a_run_every_block_says_so() -> None:
    for block in (
        *(league_block, home_block, costs_block, floors_block),
        *(rungs_beyond_block, instruction_sets_block),
    ):
        assert re.fullmatch(r"\*No .*\.\*\n", block(Inputs(Gathered(())))), block


def by_round(cell: dict[str, Any]) -> dict[int, float]:
    """The least of each round."""
    rounds: dict[int, list[int]] = {}
    for sample, index in zip(cell["samples_ns"], cell["sample_rounds"], strict=True):
        rounds.setdefault(index, []).append(sample)
    return {index: float(min(samples)) for index, samples in rounds.items()}


def quartile(values: Iterable[float]) -> float:
    """The first quartile, by the standard library."""
    return statistics.quantiles(values, method="inclusive")[0]


def committed_cells(run: str, config: str) -> dict[str, dict[str, Any]]:
    """The timed rows of a committed run by variant, straight from its file."""
    lines = (DATA / "runs" / run / "cells.jsonl").read_text(encoding="utf-8").splitlines()
    cells = [cell for cell in map(json.loads, lines) if cell["config"] == config]
    return {cell["variant"]: cell for cell in cells if cell["status"] == "ok"}


@has_data
def test_the_committed_league_is_recomputed() -> None:
    runs = [path for path in (DATA / "runs").iterdir() if (path / "cells.jsonl").is_file()]
    n_checked = 0
    for _, cases in leagues(Inputs(gather(*runs))):
        for config, place in cases.items():
            cells = committed_cells(place.run.name, config)
            times = {name: quartile(by_round(c).values()) for name, c in cells.items()}
            others = [n for n, c in cells.items() if c["group"] in ("League", "Baselines")]
            ours = [n for n, c in cells.items() if c["executor"] == "compiled"]
            best, rival = min(ours, key=times.__getitem__), min(others, key=times.__getitem__)
            pair = by_round(cells[best]), by_round(cells[rival])
            common = pair[0].keys() & pair[1]
            ratio = quartile(pair[0][i] for i in common) / quartile(pair[1][i] for i in common)
            run, case = place.run, place.case
            said = run.compare(run.row(case, best), rival)
            assert said
            expected = min(max(ratio, said.ratio.low), said.ratio.high)
            assert said.ratio.value == pytest.approx(expected), (run.name, config)
            n_checked += 1
    assert n_checked >= 16


@has_data
def test_no_page_of_the_committed_runs_begins_with_a_noisy_one() -> None:
    inputs = Inputs(gather(DATA / "runs"))
    main = main_run(inputs.recorded())
    assert main and not is_noisy(main)
    for config in inputs.configs:
        place = shown(inputs.recorded(), config)
        calm = [p for p in places(inputs.recorded(), config) if not is_noisy(p.run)]
        assert place and (not is_noisy(place.run) or not calm), config
    assert not any(is_noisy(place.run) for place in leagues(inputs)[0][1].values())


def test_a_row_of_one_variant_is_no_league(tmp_path: Path) -> None:
    write(tmp_path / "one", [make_row()])
    assert leagues(Inputs(gather(tmp_path))) == []

"""The first page: its number, its charts and its choice of machines, and one ceiling a machine."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attribution_samples import make_attribution_run
from samples import make_header, make_run, make_timed
from test_charts_attribution import FEW
from test_findings_attribution import QUIET
from test_site_choice import LADDER, MEDIUM, ladder_rows, league_rows, write

from ablation_report.attribution.worths import attribution_of
from ablation_report.charts.attribution import saved
from ablation_report.charts.block import runtimes
from ablation_report.load import Gathered, gather
from ablation_report.run import Run
from ablation_report.site.ceilings import with_one_ceiling
from ablation_report.site.choose import best, by_evidence, by_machine, ladder, places
from ablation_report.site.figures import MISSING, case_figures
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.home import NO_WORTH, headline, home_block, machines_shown

DATA = Path(__file__).parents[3] / "data"
OTHER = make_header()["machine"] | {"cpu_model": "Other CPU"}
SECTION = re.compile(r'<section data-machine="([^"]+)"')


def with_eager(rows: list[dict[str, Any]], ns: int, **size: Any) -> list[dict[str, Any]]:
    """Rows beside PyTorch eager."""
    return [*rows, make_timed("torch-sdpa", [ns] * 8, origin="torch", **size)]


def test_the_number_is_the_mean_over_the_sizes_of_ours_over_the_fastest_other(
    tmp_path: Path,
) -> None:
    rows = [
        *with_eager(league_rows(2500), 5000),
        *with_eager(league_rows(1250, **MEDIUM), 2000, **MEDIUM),
    ]
    write(tmp_path / "one", rows)
    ((name, _, shown),) = machines_shown(Inputs(gather(tmp_path)))
    said = headline(shown)
    # 1000 / 2500 and 1000 / 1250, 1000 / 5000 and 1000 / 2000
    assert name == "Test CPU, 2 cores" and (said.least, said.most) == (
        ("Toy", 0.4),
        ("Medium", 0.8),
    )
    assert said.mean.value == pytest.approx(math.sqrt(0.4 * 0.8))
    assert said.eager.value == pytest.approx(math.sqrt(0.2 * 0.5))
    block = home_block(Inputs(gather(tmp_path)))
    assert '<strong class="better">0.57x</strong>' in block
    assert "geometric mean over 2 sizes, from 0.40x (Toy) to 0.80x (Medium)" in block


def test_ours_that_is_slower_is_marked_worse(tmp_path: Path) -> None:
    write(tmp_path / "one", league_rows(500))
    assert '<strong class="worse">2.00x</strong>' in home_block(Inputs(gather(tmp_path)))


def test_a_noisy_run_leads_no_machine_and_no_page(tmp_path: Path) -> None:
    write(tmp_path / "quiet", league_rows(1100), machine=OTHER)
    noisy = [row | {"samples_ns": [900, 1500] * 4} for row in league_rows(5000, **MEDIUM)]
    write(tmp_path / "noisy", noisy, machine=OTHER, day=2)
    write(tmp_path / "alone", [row | {"samples_ns": [900, 1500] * 4} for row in league_rows(4000)])
    inputs = Inputs(gather(tmp_path))
    found = [(name, list(shown)) for name, _, shown in machines_shown(inputs)]
    assert found == [("Other CPU, 2 cores", ["Toy"]), ("Test CPU, 2 cores", ["Toy"])]
    block = home_block(inputs)
    assert SECTION.findall(block) == ["Other CPU, 2 cores", "Test CPU, 2 cores"]
    first, second = block.split("</section>")[:2]
    assert "too noisy" not in first and '!!! warning "alone: too noisy"' in second


def test_machines_of_one_name_are_numbered(tmp_path: Path) -> None:
    caches = make_header()["machine"] | {"caches": {"L1d": 49152}}
    write(tmp_path / "one", league_rows(2000))
    write(tmp_path / "two", league_rows(1100), machine=caches)
    found = [name for name, _, _ in machines_shown(Inputs(gather(tmp_path)))]
    assert found == ["Test CPU, 2 cores", "Test CPU, 2 cores (2)"]


def attributed(name: str = "worths", **header: Any) -> Run:
    run = make_attribution_run(factors=FEW, name=name, noise=QUIET)
    return replace(run, header={**run.header, **header})


def test_what_each_optimization_saves_is_of_the_machine_or_says_of_which(tmp_path: Path) -> None:
    write(tmp_path / "one", league_rows(2500), build_info=make_header()["build_info"])
    league, run = gather(tmp_path).runs, attributed()
    found = attribution_of(run, run.cases[0])
    assert found is not None
    here = home_block(Inputs(Gathered((*league, run))))
    texts = saved.printed(found)
    assert f"Toy](attribution/test-cpu-2-cores-2-threads-avx2.md), {texts.base} to" in here
    assert f" to {texts.top} {texts.unit}" in here
    elsewhere = home_block(Inputs(Gathered((*league, attributed(machine=OTHER)))))
    assert ", recorded on Other CPU, 2 cores only" in elsewhere
    assert NO_WORTH in home_block(Inputs(Gathered(league)))


def test_the_shares_that_are_drawn_add_up_to_the_whole_saving() -> None:
    run = attributed()
    found = attribution_of(run, run.cases[0])
    assert found is not None
    frame = saved.rows(run, run.cases[0])
    assert frame["share"].sum() == pytest.approx(1 - found.top_ns / found.base_ns)
    assert frame["saves_ms"].sum() == pytest.approx((found.base_ns - found.top_ns) / 1e6)
    assert saved.chart(run, run.cases[0]).to_dict()["layer"]
    assert saved.rows(run, "no such case").is_empty()


def test_the_runtimes_are_drawn_over_pytorch_eager() -> None:
    run = make_run([*with_eager(league_rows(2500), 5000), *league_rows(2000, **MEDIUM)])
    cases = [(case, run, case) for case in run.cases]
    frame = runtimes.rows(cases)
    assert frame.height == 2 * len(runtimes.SERIES)
    told = {(row["case"], row["series"]): row["ratio"] for row in frame.iter_rows(named=True)}
    toy, medium = run.cases
    assert told[toy, runtimes.EAGER] == 1.0 and told[toy, "OpenVINO"] == pytest.approx(0.5)
    assert told[toy, runtimes.OURS] == pytest.approx(0.2) and told[toy, "JAX"] is None
    assert {told[medium, series] for series in runtimes.SERIES} == {None}
    drawn = runtimes.chart(cases).to_dict()
    assert drawn["layer"][0]["encoding"]["y"]["title"] == "time / PyTorch eager"


def test_the_best_place_of_a_machine_uses_all_of_it(tmp_path: Path) -> None:
    write(tmp_path / "whole", ladder_rows(*LADDER[:4]))
    write(tmp_path / "thread", ladder_rows(*LADDER, threads=1), day=2)
    write(tmp_path / "other", ladder_rows(*LADDER), machine=OTHER)
    found = by_machine(places(gather(tmp_path).runs, "Toy"), ladder)
    assert {name: place.run.name for name, place in found.items()} == {
        "Other CPU, 2 cores": "other",
        "Test CPU, 2 cores": "whole",
    }
    assert next(iter(found)) == "Other CPU, 2 cores"


def test_a_run_that_was_asked_less_does_not_win_by_its_share(tmp_path: Path) -> None:
    write(tmp_path / "two-rungs", ladder_rows(*LADDER[-2:]), day=2)
    rows = ladder_rows(*LADDER)
    # One step of four is not resolved
    rows[1] |= {"samples_ns": rows[0]["samples_ns"]}
    write(tmp_path / "five-rungs", rows)
    found = places(gather(tmp_path).runs)
    assert [place.run.name for place in by_evidence(found, ladder)] == ["five-rungs", "two-rungs"]
    chosen = best(found, ladder)
    assert chosen and chosen.run.name == "five-rungs"
    assert best(found, lambda place: []) is None


def ceilings(rate: float, memory: float | None = None) -> dict[str, Any]:
    return {"2": {"multiply_add_flops_per_s": rate, "memory_bytes_per_s": memory}}


def test_a_machine_has_one_ceiling_the_highest_that_was_measured() -> None:
    rows = league_rows(2500)
    runs = (
        make_run(rows, "low", ceilings=ceilings(1e11, 3e10)),
        make_run(rows, "high", ceilings=ceilings(2e11, 2e10)),
        make_run(rows, "refuted", refuted_ceilings=ceilings(1e9)),
        make_run(rows, "other", machine=OTHER, ceilings=ceilings(5e11)),
        make_run(rows, "none", machine=OTHER | {"cores": 4}),
        make_run(rows, "mine", ceilings=ceilings(9e11)),
    )
    found = {run.name: run for run in with_one_ceiling(Gathered(runs), ["mine"]).runs}
    for name in ("low", "high", "refuted"):
        assert found[name].ceilings == ceilings(2e11, 3e10), name
    assert "refuted_ceilings" not in found["refuted"].header
    assert found["other"].ceilings == ceilings(5e11) and found["none"].ceilings == {}
    assert found["mine"].ceilings == ceilings(9e11)
    shares = [run.of_ceiling(run.rows[0]) for run in (found["low"], found["high"])]
    assert shares[0] == shares[1] is not None


@pytest.mark.skipif(not (DATA / "runs").is_dir(), reason="no recorded runs beside this")
def test_the_first_page_of_the_committed_runs_begins_with_a_quiet_machine() -> None:
    inputs = Inputs(with_one_ceiling(gather(DATA / "runs")))
    found = machines_shown(inputs)
    assert len(found) > 1
    block = home_block(inputs)
    assert SECTION.findall(block) == [name for name, _, _ in found]
    assert "too noisy" not in block.partition("</section>")[0]
    machines: dict[tuple[str, str, str], set[float]] = {}
    for run in inputs.recorded():
        for threads, rates in run.ceilings.items():
            key = str(run.header["machine"]["caches"]), run.header["providers"]["simd"], threads
            machines.setdefault(key, set()).add(rates["multiply_add_flops_per_s"])
    assert machines and all(len(rates) == 1 for rates in machines.values())


def test_no_heading_stands_over_a_chart_that_is_not_drawn() -> None:
    run = make_run(ladder_rows("passes-none"))
    (place,) = places([run])
    text = case_figures(place)
    assert f"<summary>{MISSING}</summary>" in text
    titles = re.findall(r"^### (.*?) \{", text, re.MULTILINE)
    assert titles and text.count("vega-chart") >= len(titles)

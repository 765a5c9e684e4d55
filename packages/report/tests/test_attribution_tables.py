"""The tables, the export and the comparison of counters of suite attribution."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from attribution_samples import (
    SMALL_FACTORS,
    make_attribution_rows,
    make_attribution_run,
    points_of,
    run_of,
)
from samples import write_run
from test_charts_attribution import sampled_run

from ablation_report.__main__ import main
from ablation_report.attribution import attributions
from ablation_report.attribution.change import counter_changes
from ablation_report.attribution.counters import counter_worths
from ablation_report.rows import COUNTERS
from ablation_report.run import Run
from ablation_report.tables import legend, run_tables, show

FACTORS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "folding": ("Folding", ("off", "folded")),
    "adds": ("Fused adds", ("apart", "fused", "epilogues")),
    "simd": ("SIMD", ("scalar", "simd")),
}


def usual_counters(point: Mapping[str, int]) -> dict[str, int]:
    """Folding saves a launch less where adds are fused; SIMD changes nothing that is counted."""
    folding, adds = point.get("folding", 0), point.get("adds", 0)
    return {
        "launches": 100 - 5 * folding - 3 * adds + folding * min(adds, 1),
        "flops": 10_000,
        "bytes_read": 4000 - 100 * adds,
        "bytes_written": 2000,
        "packed_bytes": 0,
        "arena_bytes": 512,
        "scratch_bytes": 64,
        "allocations": 1,
    }


def counted(counters: Any = usual_counters, **options: Any) -> Run:
    """A run with counters."""
    return make_attribution_run(factors=FACTORS, counters=counters, **options)


def test_columns_that_sampled_orders_cannot_fill_are_left_out() -> None:
    """Their points are no part of the orders; the error of sampling is a column instead."""
    early_and_late = {"first-in", "last-in"}
    sampled, *_ = run_tables(sampled_run())
    whole, *_ = run_tables(make_attribution_run(factors=FACTORS))
    assert early_and_late < set(whole.header) and "sampling" not in whole.header
    assert early_and_late.isdisjoint(sampled.header) and "sampling" in sampled.header
    assert "first-in" not in sampled.text(70)


def test_show_prints_worths_and_no_programs() -> None:
    run = make_attribution_run(noise=0.01, others={"torch-naive": 1.2, "beyond-default": 0.4})
    text = show(run, "text")
    assert "worth of each factor, the mean over all orders" in text
    assert re.search(r"^Threads +1\.\d{3}x +\d\.\d{3} ms +1\.\d{3}-1\.\d{3} ", text, re.MULTILINE)
    assert "p-0100" not in text
    assert re.search(r"torch-naive: \d+\.\d\d ms, 1\.\d\dx the time of base", text)
    assert "Noise floor" in text and "mean over all orders" in text
    assert legend(run)[0].startswith("worth: time without the factor over")
    assert "### " in show(run, "md")


def test_printed_worths_and_times_close() -> None:
    run = make_attribution_run(noise=0.03, rounds=10)
    table = run_tables(run)[0]
    *factors, total = table.rows
    product = math.prod((Decimal(row[1].rstrip("x")) for row in factors), start=Decimal(1))
    printed = Decimal(total[1].rstrip("x"))
    assert product.quantize(printed) == printed
    parts = [Decimal(row[2].split()[0]) for row in factors]
    base, top = re.findall(r"([\d.]+) ms", table.notes[0])[:2]
    assert sum(parts) == Decimal(total[2].split()[0]) == Decimal(base) - Decimal(top)
    early, pairs, higher = (float(t) for t in re.findall(r"([\d.]+)x", table.notes[1]))
    assert early * pairs * higher == pytest.approx(float(printed), rel=0.02)


def test_what_has_no_effect_and_what_failed_are_named() -> None:
    run = make_attribution_run(
        program=lambda p: (p["folding"], p["attention"], p["simd"]),
        missing={(1, 0, 0, 0): "incorrect"},
    )
    text = show(run, "text")
    assert "No effect here: Threads" in text
    assert "mean over the orders that avoid programs without a time" in text
    assert re.search(r"Programs without a time\n\n.*\n-+\np-1000 .*incorrect \(check\)", text)


def test_few_rounds_are_told() -> None:
    text = show(make_attribution_run(rounds=5), "text")
    assert "5 common rounds: verdicts need 6 or more" in text
    rows = make_attribution_rows()
    rows[1]["session"] = 2
    assert "No common rounds: verdicts need 6 or more" in show(run_of(rows), "text")


def test_an_unanswered_case_is_told() -> None:
    run = make_attribution_run(missing={(0, 0, 0, 0): "oom"})
    text = show(run, "text")
    assert re.search(r"Cases without worths\n\n.*\n-+\n.*base: oom, predicted", text)


def test_counters_sum_exactly() -> None:
    run = counted()
    found = counter_worths(run, run.cases[0])
    launches = found["launches"]
    assert (launches.base, launches.top) == (100, 90)
    assert sum(launches.worths.values()) == launches.top - launches.base
    # Folding: -5 before any fused adds, -4 after; one of its three places is before both
    assert launches.worths["folding"] == -5 * Fraction(1, 3) - 4 * Fraction(2, 3)
    assert launches.worths["simd"] == 0
    assert set(found) == set(COUNTERS)


def test_counters_need_no_times() -> None:
    missing = dict.fromkeys(points_of(FACTORS), "skipped")
    run = counted(missing=missing)
    tables = run_tables(run)
    assert [table.title for table in tables] == [
        "Toy, 2 threads: what each factor adds to the counters of a call"
    ]
    (table,) = tables
    assert table.header == ("Factor", "launches", "bytes read")
    base, *factors, top = table.rows
    assert base[1:] == ["100", "4,000"] and top[1:] == ["90", "3,800"]
    assert [row[0] for row in factors] == ["Folding", "Fused adds"]
    assert sum(Decimal(row[1]) for row in factors) == -10
    assert "flops 10,000" in table.notes[0]


def test_a_counter_that_is_unknown_somewhere_is_avoided_or_left_out() -> None:
    def counters(point: Mapping[str, int]) -> dict[str, int] | None:
        return None if point == {"folding": 1, "adds": 0, "simd": 0} else usual_counters(point)

    run = counted(counters)
    launches = counter_worths(run, run.cases[0])["launches"]
    assert sum(launches.worths.values()) == -10
    run = counted(lambda point: usual_counters(point) if point["simd"] else None)
    assert counter_worths(run, run.cases[0]) == {}


def test_equal_counters_are_equal() -> None:
    changes = counter_changes(counted(), counted())
    assert changes.is_equal and changes.n_points == 12 and changes.n_cases == 1


def without(name: str) -> Any:
    """A counter function and program in which a factor changes nothing any more."""
    return {
        "counters": lambda point: usual_counters({**point, name: 0}),
        "program": lambda point: tuple(v for n, v in point.items() if n != name),
    }


def test_a_pass_that_fires_no_longer_is_named() -> None:
    changes = counter_changes(counted(), counted(**without("folding")))
    assert changes.sentences == ("Toy: Folding (folded): fires no longer",)
    changed = {(change.program, change.counter) for change in changes.programs}
    assert ("p-100", "launches") in changed and ("base", "launches") not in changed
    first = next(change for change in changes.programs if change.program == "p-100")
    assert (first.point, first.before, first.after) == ("100", 95, 100)
    back = counter_changes(counted(**without("folding")), counted())
    assert back.sentences == ("Toy: Folding (folded): fires now, and did not before",)


def test_a_factor_that_counts_nothing_is_named_by_its_programs() -> None:
    changes = counter_changes(counted(), counted(**without("simd")))
    assert changes.sentences == ("Toy: SIMD (simd): fires no longer",)
    assert changes.programs == () and not changes.is_equal


def test_a_factor_that_is_switched_off_now_is_named() -> None:
    off = [point for point in points_of(FACTORS) if point[0] == 0]
    changes = counter_changes(counted(), counted(points=off))
    assert changes.sentences == ("Toy: Folding (folded): fires no longer",)
    assert changes.n_points == 12
    back = counter_changes(counted(points=off), counted())
    assert back.sentences == ("Toy: Folding (folded): fires now, and did not before",)
    assert counter_changes(counted(points=off), counted(points=off)).is_equal


def test_a_step_that_does_less_is_named_with_what_it_adds() -> None:
    def counters(point: Mapping[str, int]) -> dict[str, int]:
        found = usual_counters(point)
        return found | {"launches": found["launches"] + (point["adds"] == 2)}

    changes = counter_changes(counted(), counted(counters))
    told = "Toy: Fused adds (epilogues): adds launches -2, before -3 at 020"
    assert changes.sentences == (told,)


def test_what_follows_from_a_changed_step_is_not_blamed_on_others() -> None:
    def counters(point: Mapping[str, int]) -> dict[str, int]:
        # Folding does less alone, and no longer less where adds are fused
        launches = 100 - 3 * point["folding"] - 3 * point["adds"]
        return usual_counters(point) | {"launches": launches}

    changes = counter_changes(counted(), counted(counters))
    assert changes.sentences == ("Toy: Folding (folded): adds launches -3, before -5 at 100",)


def test_a_pass_that_fires_less_often_is_named() -> None:
    def program(point: Mapping[str, int]) -> Any:
        return tuple(point.values()) if point["adds"] < 2 else (point["adds"], point["simd"])

    changes = counter_changes(counted(), counted(program=program))
    assert changes.sentences == ("Toy: Folding (folded): fires at 4 of 6 points, before at 6",)


def test_a_change_of_every_program_is_one_of_the_base() -> None:
    def counters(point: Mapping[str, int]) -> dict[str, int]:
        found = usual_counters(point)
        return found | {"allocations": found["allocations"] + 1}

    changes = counter_changes(counted(), counted(counters))
    assert changes.sentences == ("Toy: base: allocations 2, before 1",)
    assert len(changes.programs) == 12


def test_what_one_run_lacks_is_told() -> None:
    rows = make_attribution_rows(factors=FACTORS, counters=usual_counters)
    fewer = [row for row in rows if row["variant"] != "p-020"]
    changes = counter_changes(run_of(rows, FACTORS), run_of(fewer, FACTORS))
    assert changes.sentences == ("Toy: points that are feasible no longer: 1, 020",)
    other = {**FACTORS, "simd": ("SIMD", ("scalar", "vectors"))}
    changes = counter_changes(run_of(rows, FACTORS), run_of(rows, other))
    assert changes.sentences == ("Toy: the runs have other factors or levels",)
    sizes = rows[0]["sizes"] | {"config": "Small"}
    elsewhere = make_attribution_rows(factors=FACTORS, sizes=sizes)
    changes = counter_changes(run_of(rows, FACTORS), run_of(elsewhere, FACTORS))
    assert "no program of this case is a point" in changes.sentences[0]


def test_the_command_exits_1_and_names_the_factor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        written(tmp_path / name, run)
        for name, run in (("a", counted()), ("b", counted(**without("folding"))))
    ]
    assert main(["counters", str(paths[0]), str(paths[0])]) == 0
    assert "12 points of 1 cases: every counter of a is that of a" in capsys.readouterr().out
    out = tmp_path / "changes.csv"
    assert main(["counters", str(paths[0]), str(paths[1]), "--out", str(out)]) == 1
    text = capsys.readouterr().out
    assert text.startswith("Toy: Folding (folded): fires no longer\n")
    assert re.search(r"p-100 +100 +launches +95 +100\n", text)
    lines = list(csv.DictReader(io.StringIO(out.read_text())))
    assert lines[0]["before"] == "95" and lines[0]["counter"] == "launches"
    # A second time replaces what it wrote, and no other file
    assert main(["counters", str(paths[0]), str(paths[1]), "--out", str(out)]) == 1
    out.write_text("mine")
    assert main(["counters", str(paths[0]), str(paths[1]), "--out", str(out)]) == 2
    assert out.read_text() == "mine"


def test_counters_of_a_run_without_points_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_attribution_rows(factors=FACTORS)
    for row in rows:
        row["details"] = None
    path = written(tmp_path / "a", run_of(rows, FACTORS))
    assert main(["counters", str(path), str(path)]) == 2
    assert "accepted: runs of suite attribution" in capsys.readouterr().err


def test_export_has_a_row_for_each_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = counted(noise=0.01)
    path = written(tmp_path / "a", run)
    assert main(["export", str(path), "--attribution"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    kinds = [line["kind"] for line in lines]
    (found,) = attributions(run)
    assert kinds.count("factor") == 3 and kinds.count("step") == 4
    assert kinds.count("pair") == len(found.pairs) == 3
    total = next(line for line in lines if line["kind"] == "total")
    phi = [float(line["phi"]) for line in lines if line["kind"] == "factor"]
    assert math.fsum(phi) == pytest.approx(float(total["phi"]), abs=1e-9)
    added = [
        float(line["added"])
        for line in lines
        if line["kind"] == "counter" and line["counter"] == "launches" and line["factor"]
    ]
    assert math.fsum(added) == pytest.approx(-10)
    out = tmp_path / "all.parquet"
    assert (
        main(["export", str(path), "--attribution", "--format", "parquet", "--out", str(out)]) == 0
    )
    assert main(["export", str(path), "--format", "parquet", "--out", str(out)]) == 2


def test_a_small_lattice_is_printed_as_it_is_measured() -> None:
    assert len(points_of(SMALL_FACTORS)) == 24
    assert len(run_tables(make_attribution_run())) == 1


def written(folder: Path, run: Run) -> Path:
    """Write a run as a folder."""
    rows = [
        {name: value for name, value in row.items() if name not in ("path", "line")}
        for row in run.rows
    ]
    return write_run(folder, rows, dict(run.header))

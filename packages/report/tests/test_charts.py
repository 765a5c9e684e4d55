"""Every chart of every committed run, and of runs that have next to nothing to show."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from attribution_samples import make_attribution_run
from samples import make_attention_row, make_run, make_untimed
from test_chart_rows import TIMES, make_ladder, make_rung

from ablation_report import charts
from ablation_report.charts import CHARTS, ChartSpec, against_published, charts_of, draw, needs
from ablation_report.charts.theme import GRAY, log_axis, log_values
from ablation_report.load import Gathered, gather
from ablation_report.run import BLOCK, Run

DATA = Path(__file__).parents[3] / "data"
BY_KEY = {spec.key: spec for spec in CHARTS}
LADDER = ("heatmap", "breakdown", "waterfall", "ratio")
OF_BLOCK = ("heatmap", "scaling", "ceiling", "league", "breakdown", "waterfall", "ratio")
AXIS_WITH_UNIT = re.compile(
    r"\((µs|ms|s|ratio|%|GFLOP|bytes|MiB)\b|\(ratio\)|\(%\)|GFLOP/s"
    r"|^sequence length \(log\)$|^programs, fastest first$|^time, .+ / .+"
)


class Case(NamedTuple):
    """A chart of a run, and one of its cases if it is of one."""

    spec: ChartSpec
    run: Run
    case: str | None


class Drawn(NamedTuple):
    """A chart that can be drawn, its picture and its frame."""

    case: Case
    picture: dict[str, Any]
    frame: pl.DataFrame


@pytest.fixture(scope="module")
def data() -> Gathered:
    """All committed runs and published files."""
    return gather(DATA / "published", DATA / "runs")


def published_block(data: Gathered) -> Run:
    """The published ladder."""
    return next(run for run in data.of_suite(BLOCK) if run.is_published)


def ends_of(run: Run) -> list[str]:
    """The smallest and the largest case, where a unit, a status or a kind may differ."""
    return list(dict.fromkeys((run.cases[0], run.cases[-1])))


def all_cases(data: Gathered) -> Iterator[Case]:
    compared = against_published(published_block(data))
    for run in (*data.runs, make_attribution_run()):
        for spec in [*charts_of(run), *([compared] if run.suite == BLOCK else [])]:
            for case in ends_of(run) if spec.per_case else [None]:
                yield Case(spec, run, case)


@pytest.fixture(scope="module")
def drawn_charts(data: Gathered) -> list[Drawn]:
    """Every chart of the committed runs that can be drawn."""
    return [
        Drawn(case, draw(*case), charts.rows(*case))
        for case in all_cases(data)
        if needs(*case) is None
    ]


def of_run(run: Run, keys: tuple[str, ...] = OF_BLOCK) -> list[Case]:
    """Charts by key of a run of one case."""
    specs = [BY_KEY[key] for key in keys]
    return [Case(spec, run, run.cases[0] if spec.per_case else None) for spec in specs]


def encodings(drawn: Any) -> Iterator[dict[str, Any]]:
    """Yield the encodings of all layers of a chart."""
    if isinstance(drawn, dict):
        if "encoding" in drawn:
            yield drawn["encoding"]
        for name in ("layer", "spec", "vconcat"):
            yield from encodings(drawn.get(name))
    elif isinstance(drawn, list):
        for part in drawn:
            yield from encodings(part)


def is_sentence(drawn: dict[str, Any], sentence: str) -> bool:
    """True for a picture of this sentence and nothing else."""
    return list(drawn["datasets"].values()) == [[{"sentence": sentence}]]


def test_every_chart_has_its_frame_its_tooltips_and_its_units(drawn_charts: list[Drawn]) -> None:
    drawn = {drawn.case.spec.key.partition(" ")[0] for drawn in drawn_charts}
    assert drawn == {*BY_KEY, "published"}
    for (spec, _, _), picture, frame in drawn_charts:
        # The picture has rows of the frame and nothing else, null included; a wall of panels is cut
        (shown,) = picture["datasets"].values()
        assert shown == [row for row in frame.to_dicts() if row in shown]
        if "panel" not in frame.columns:
            assert len(shown) == frame.height
        found = list(encodings(picture))
        assert any(len(encoding.get("tooltip", [])) >= 3 for encoding in found)
        for encoding in found:
            for channel in ("x", "y"):
                entry = encoding.get(channel, {})
                if entry.get("type") == "quantitative" and "title" in entry:
                    assert AXIS_WITH_UNIT.search(entry["title"]), (spec.key, entry)


def test_what_cannot_be_drawn_is_a_picture_of_why_not(data: Gathered) -> None:
    refused = [case for case in all_cases(data) if needs(*case) is not None]
    assert {case.spec.key for case in refused} >= {"ceiling", "league", "published", "memory"}
    for case in refused:
        assert is_sentence(draw(*case), str(needs(*case)))


def test_a_recorded_run_and_the_published_file_have_the_charts_they_should(data: Gathered) -> None:
    published, whole = published_block(data), data.run("2026-11-20-zen4-2-cores")
    assert [spec.key for spec in charts_of(published)] == list(OF_BLOCK)
    assert needs(BY_KEY["ceiling"], published) is not None
    assert needs(BY_KEY["league"], published) is not None
    for spec in charts_of(whole):
        why_not = needs(spec, whole, whole.cases[0] if spec.per_case else None)
        assert (why_not is not None) is (spec.key == "league"), spec.key


def test_published_figures_are_hollow(data: Gathered) -> None:
    published = published_block(data)
    for case in of_run(published, ("scaling", "breakdown", "waterfall", "ratio")):
        marks = [layer["mark"] for layer in draw(*case)["layer"] if isinstance(layer["mark"], dict)]
        drawn = [mark for mark in marks if mark["type"] in ("bar", "point")]
        assert drawn, case.spec.key
        assert all(m.get("filled") is False or m.get("fillOpacity") == 0 for m in drawn)


def test_a_number_that_may_be_null_is_never_formatted_by_vega(drawn_charts: list[Drawn]) -> None:
    """Vega writes null as 0 where a format is given: a tooltip's number is known in every row."""
    # Of parts of a bar, of a band that is filtered, and of what two ways can measure
    apart = {("breakdown", "share"), ("ratio", "floor"), ("plane", "formula_bytes")}
    apart |= {("memory", "measured_mib"), ("memory", "predicted_mib"), ("steps", "part_ms")}
    for (spec, _, _), picture, frame in drawn_charts:
        timed = frame.filter(_drawn(frame))
        for encoding in encodings(picture):
            for tip in encoding.get("tooltip", []):
                is_apart = (spec.key, tip["field"]) in apart
                if "format" in tip and tip["field"] in frame.columns and not is_apart:
                    assert timed[tip["field"]].null_count() == 0, (spec.key, tip)


def _drawn(frame: pl.DataFrame) -> pl.Expr:
    """The rows that have what the marks of their chart stand for."""
    if "ratio" in frame.columns and "label" not in frame.columns:
        return pl.col("ratio").is_not_null()
    if "ratio" in frame.columns:
        return pl.col("label").is_not_null()
    starts = ("time_", "step_ms", "worth", "together", "end_")
    times = (name for name in frame.columns if name.startswith(starts))
    return pl.col(next(times, "measured_mib")).is_not_null()


def test_a_run_without_any_time_says_so_in_every_chart() -> None:
    rungs = [make_untimed(make_rung(name, [1] * 6)) for name in TIMES]
    for case in of_run(make_run(rungs)):
        why_not = needs(*case)
        assert why_not is not None
        assert "6 oom" in why_not or "ceiling" in why_not
        assert is_sentence(draw(*case), why_not)
        frame = charts.rows(*case)
        known = {"gflop", "layers", "n_sizes"}
        for name, dtype in frame.schema.items():
            if dtype.is_numeric() and name not in known:
                assert frame[name].null_count() == frame.height, (case.spec.key, name)
        charts.to_table(frame).markdown()


def test_a_case_that_was_not_measured_is_named() -> None:
    run = make_run([make_rung("torch-naive", [4000] * 6)])
    for spec in CHARTS:
        if spec.per_case:
            assert needs(spec, run, "block/configs 7B") == "block/configs 7B was not measured."


def test_one_variant_is_drawn_where_nothing_is_compared() -> None:
    run = make_run([make_rung("passes-none", [4000] * 6, group="Ours")])
    said = {case.spec.key: needs(*case) for case in of_run(run)}
    assert said["breakdown"] is None and said["scaling"] is None
    assert said["waterfall"] == "A step takes two rungs of the ladder; Toy has a time of 1."
    assert said["ratio"] == "torch-sdpa and torch-naive have no time at Toy."
    assert said["heatmap"] == "run has no time of PyTorch to compare with."
    assert said["ceiling"] == "run did not measure the ceiling of its machine."
    assert said["league"] == "run measured no runtime of the league."
    for case in of_run(run):
        draw(*case)
    (size,) = charts.rows(BY_KEY["scaling"], run)["slope"].to_list()
    assert size is None
    assert "One size only" in str(draw(BY_KEY["scaling"], run)["title"])


def test_one_round_has_no_interval_and_no_verdict() -> None:
    run = make_run([make_rung(name, samples[:1]) for name, samples in TIMES.items()])
    for case in of_run(run, (*LADDER, "scaling")):
        frame = charts.rows(*case)
        for name in (n for n in frame.columns if "low" in n or "high" in n):
            assert frame[name].null_count() == frame.height, (case.spec.key, name)
        draw(*case)
    frame = charts.rows(BY_KEY["ratio"], run, run.cases[0])
    assert frame["ratio"].to_list()[:2] == pytest.approx([4 / 3, 2 / 3])
    assert set(frame["verdict"]) == {"not resolved"}


def test_the_noise_is_told_and_what_cannot_be_said_without_it() -> None:
    blind = make_ladder(twins=[])
    for case in of_run(blind, ("waterfall", "ratio", "heatmap")):
        assert "No A/A pair" in str(draw(*case)["title"])
        frame = charts.rows(*case)
        assert frame["floor"].null_count() == frame.height
    quiet, toy = make_ladder(), make_ladder().cases[0]
    assert "Noise floor 0." in str(draw(BY_KEY["ratio"], quiet, toy)["title"])
    noisy = make_ladder(make_rung("again", [2000] * 6), twins=[["passes-none", "torch-naive"]])
    assert "too noisy to compare" in str(draw(BY_KEY["ratio"], noisy, toy)["title"])
    assert "Too noisy to compare: Toy" in str(draw(BY_KEY["heatmap"], noisy)["title"])


def test_a_variant_without_a_time_keeps_its_row_and_its_status() -> None:
    fold = make_untimed(make_rung("passes-fold", [1] * 6))
    names = list(TIMES)
    run = make_ladder(fold, variants=[*names[:3], "passes-fold", *names[3:]])
    for case in of_run(run, (*LADDER, "scaling")):
        frame = charts.rows(*case)
        (row,) = frame.filter(pl.col("variant") == "passes-fold").to_dicts()
        assert (row["status"], row["reason"]) == ("oom (predicted)", "predicted in words")
        numbers = {name for name, value in row.items() if isinstance(value, float | int)}
        assert numbers <= {"gflop", "layers", "n_sizes"}, case.spec.key
    (text,) = charts.rows(BY_KEY["heatmap"], run).filter(variant="passes-fold")["text"]
    assert text == "oom"


def test_names_stand_in_the_order_of_the_table() -> None:
    shuffled = [make_rung(name, TIMES[name]) for name in reversed(TIMES)]
    run = make_run(shuffled, variants=list(TIMES))
    for case in of_run(run, ("breakdown", "heatmap", "ratio")):
        domains = [e["y"]["scale"]["domain"] for e in encodings(draw(*case)) if "y" in e]
        is_ratio = case.spec.key == "ratio"
        expected = [name for name in TIMES if not is_ratio or name != "torch-sdpa"]
        assert domains and all(domain == expected for domain in domains)


def test_a_chart_of_a_case_wants_a_case() -> None:
    with pytest.raises(ValueError, match="the chart ratio is of one case"):
        draw(BY_KEY["ratio"], make_ladder())


def test_two_of_a_kind_are_not_set_beside_each_other(data: Gathered) -> None:
    published, recorded = published_block(data), data.run("2026-11-20-zen4-2-cores")
    for run, other in ((published, published), (recorded, recorded)):
        assert "two of a kind" in (needs(against_published(other), run, run.cases[0]) or "")
    assert needs(against_published(published), recorded, recorded.cases[0]) is None


def test_attention_without_a_time_says_so() -> None:
    rows = [
        make_attention_row(name, [1000] * 6, tier="crossover") for name in ("torch-sdpa", "flash")
    ]
    rate = BY_KEY["attention"]
    run = make_run(list(map(make_untimed, rows)))
    assert needs(rate, run) == "No time was measured at run: 2 oom."
    some = make_run([rows[0], make_untimed(rows[1])])
    assert needs(rate, some) is None
    assert charts.rows(rate, some)["gflop_per_s"].null_count() == 1
    assert "not drawn: 1 rows" in str(draw(rate, some)["title"])


def test_a_frame_becomes_a_table() -> None:
    columns = {"name": ["a|b", None], "ratio": [0.123456, 12345.6], "rounds": [10, None]}
    same = {"variant": ["a", "b"], "printed_name": ["a", "b"], "group": [None, None]}
    frame = pl.DataFrame(columns | same)
    table = charts.to_table(frame, "Title")
    assert table.rows == [["a|b", "0.1235", "10", "a"], ["-", "12,350", "-", "b"]]
    # Without the column that has no value, and the names that are the variants' own
    assert table.markdown().splitlines()[2] == "| name | ratio | rounds | variant |"
    renamed = frame.with_columns(printed_name=pl.lit("+ a"))
    assert charts.to_table(renamed).header == [*columns, "variant", "printed_name"]


def test_an_svg_is_as_wide_as_asked_and_has_the_names() -> None:
    pytest.importorskip("vl_convert")
    named = make_rung("flash-layernorm", TIMES["beyond-packed"], printed_name="Flash + LN opt")
    run = make_ladder(named)
    svg = charts.to_svg(draw(BY_KEY["ratio"], run, run.cases[0]), width=500)
    assert svg.startswith("<svg") and "Flash + LN opt" in svg
    assert 'width="500"' in svg
    # Text in mid-gray is legible on both pages; nothing but marks is black
    assert GRAY in svg


def test_without_vl_convert_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(name)

    drawn = draw(BY_KEY["heatmap"], make_ladder())
    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ImportError, match=r"ablation-report\[site\]"):
        charts.to_svg(drawn)


def test_log_axes_have_round_values_within_their_range() -> None:
    assert log_values(0.3, 6) == [0.5, 1.0, 2.0, 5.0]
    assert log_values(0.3, 1.2) == [0.3, 0.4, 0.5, 0.7, 1.0]
    assert log_values(0.01, 1000) == [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    scale, _ = log_axis([None, 2.0, 8.0], room=1.0)
    low, high = scale.to_dict()["domain"]
    assert (low, high) == pytest.approx((2 / 1.1, 8.8 * 8.8 / (2 / 1.1)))

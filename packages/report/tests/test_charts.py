"""Every chart of every committed source, and of runs that have next to nothing to show."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from rows import make_failed_cell, make_timed_cell, write_run
from test_attention import make_refused, three_ways, write_attention

from ablation_report import charts
from ablation_report.attention_rows import AttentionRun, load_attention
from ablation_report.charts import ATTENTION, CHARTS, ChartSpec, against_published, draw, needs
from ablation_report.charts.theme import GRAY, log_axis, log_values
from ablation_report.sources import Gathered, Source, gather, read_source

DATA = Path(__file__).parents[3] / "data"
BY_KEY = {spec.key: spec for spec in CHARTS}
AXIS_WITH_UNIT = re.compile(
    r"\((µs|ms|s|ratio|%|GFLOP)\b|\(ratio\)|\(%\)|GFLOP/s|^sequence length \(log\)$"
)


class Case(NamedTuple):
    """A chart of a source, and its config if it is of one."""

    spec: ChartSpec
    source: Source | AttentionRun
    config: str | None


class Drawn(NamedTuple):
    """A case that can be drawn, its picture and its frame."""

    case: Case
    picture: dict[str, Any]
    frame: pl.DataFrame


@pytest.fixture(scope="module")
def data() -> Gathered:
    """All committed sources."""
    return gather(DATA / "published", DATA / "runs")


def ends_of(source: Source) -> list[str]:
    """The smallest and the largest config, where a unit, a status or a kind may differ."""
    return list(dict.fromkeys((source.configs[0], source.configs[-1])))


def all_cases(data: Gathered) -> Iterator[Case]:
    published = next(source for source in data.sources if source.is_published)
    for source in data.sources:
        for spec in (*CHARTS, against_published(published)):
            for config in ends_of(source) if spec.per_config else [None]:
                yield Case(spec, source, config)
    for run in data.attention:
        yield Case(ATTENTION, run, None)


@pytest.fixture(scope="module")
def drawn_charts(data: Gathered) -> list[Drawn]:
    """Every chart of the committed sources that can be drawn."""
    return [
        Drawn(case, draw(*case), charts.rows(*case))
        for case in all_cases(data)
        if needs(*case) is None
    ]


def encodings(drawn: Any) -> Iterator[dict[str, Any]]:
    """Yield the encodings of all layers of a chart."""
    if isinstance(drawn, dict):
        if "encoding" in drawn:
            yield drawn["encoding"]
        for name in ("layer", "spec"):
            yield from encodings(drawn.get(name))
    elif isinstance(drawn, list):
        for part in drawn:
            yield from encodings(part)


def is_sentence(drawn: dict[str, Any], sentence: str) -> bool:
    """True for a picture of this sentence and nothing else."""
    return list(drawn["datasets"].values()) == [[{"sentence": sentence}]]


def test_every_chart_has_its_frame_its_tooltips_and_its_units(drawn_charts: list[Drawn]) -> None:
    assert {drawn.case.spec.key for drawn in drawn_charts} == {*BY_KEY, "published", "attention"}
    for (spec, _, _), picture, frame in drawn_charts:
        # The picture has the frame and nothing else, null included
        assert list(picture["datasets"].values()) == [frame.to_dicts()]
        found = list(encodings(picture))
        assert any(len(encoding.get("tooltip", [])) >= 3 for encoding in found)
        for encoding in found:
            for channel in ("x", "y"):
                entry = encoding.get(channel, {})
                if entry.get("type") == "quantitative":
                    assert AXIS_WITH_UNIT.search(entry["title"]), (spec.key, entry)


def test_what_cannot_be_drawn_is_a_picture_of_why_not(data: Gathered) -> None:
    refused = [case for case in all_cases(data) if needs(*case) is not None]
    assert {case.spec.key for case in refused} >= {"ceiling", "league", "published"}
    for case in refused:
        assert is_sentence(draw(*case), str(needs(*case)))


def test_a_recorded_run_and_the_published_file_have_the_charts_they_should(data: Gathered) -> None:
    published = next(source for source in data.sources if source.is_published)
    assert needs(BY_KEY["ceiling"], published) is not None
    assert needs(BY_KEY["league"], published) is not None
    whole = data.source("2026-11-20-zen4-2-cores")
    for spec in CHARTS:
        config = "Toy" if spec.per_config else None
        expected = spec.key == "league"
        assert (needs(spec, whole, config) is not None) is expected, spec.key


def test_a_number_that_may_be_null_is_never_formatted_by_vega(drawn_charts: list[Drawn]) -> None:
    """Vega writes null as 0 where a format is given: a tooltip's number is known in every row."""
    for (spec, _, _), picture, frame in drawn_charts:
        timed = frame.filter(_drawn(frame))
        for encoding in encodings(picture):
            for tip in encoding.get("tooltip", []):
                # The share of a breakdown stands at its parts only, which are drawn apart
                is_share = (spec.key, tip["field"]) == ("breakdown", "share")
                if "format" in tip and tip["field"] in frame.columns and not is_share:
                    assert timed[tip["field"]].null_count() == 0, (spec.key, tip)


def _drawn(frame: pl.DataFrame) -> pl.Expr:
    """The rows that have what the marks of their chart stand for."""
    if "ratio" in frame.columns and "label" not in frame.columns:
        return pl.col("ratio").is_not_null()
    if "label" in frame.columns:
        return pl.col("label").is_not_null()
    time = next(name for name in frame.columns if name.startswith("time_"))
    return pl.col(time).is_not_null()


def make_source(folder: Path, cells: list[dict[str, Any]]) -> Source:
    return read_source(write_run(folder, cells))


LADDER_TIMES = {
    "torch-naive": 4000,
    "torch-sdpa": 3000,
    "passes-none": 2000,
    "attention-fused-parallel": 1000,
}


def test_a_run_without_any_time_says_so_in_every_chart(tmp_path: Path) -> None:
    cells = [
        make_failed_cell(variant=name, printed_name=name, group="Ours") for name in LADDER_TIMES
    ]
    source = make_source(tmp_path / "run", cells)
    for spec in CHARTS:
        config = "Toy" if spec.per_config else None
        why_not = needs(spec, source, config)
        assert why_not is not None
        assert "4 oom" in why_not or "ceiling" in why_not
        assert is_sentence(draw(spec, source, config), why_not)
        frame = charts.rows(spec, source, config)
        known = {"gflop", "n_sizes"}
        for name, dtype in frame.schema.items():
            if dtype.is_numeric() and name not in known:
                assert frame[name].null_count() == frame.height, (spec.key, name)
        charts.to_table(frame).markdown()


def test_a_config_that_was_not_measured_is_named(tmp_path: Path) -> None:
    source = make_source(tmp_path / "run", [make_timed_cell("torch-naive", [4000] * 6)])
    for spec in CHARTS:
        if spec.per_config:
            assert needs(spec, source, "7B") == "7B was not measured."


def test_one_variant_is_drawn_where_nothing_is_compared(tmp_path: Path) -> None:
    source = make_source(tmp_path / "run", [make_timed_cell("passes-none", [4000] * 6)])
    said = {spec.key: needs(spec, source, "Toy" if spec.per_config else None) for spec in CHARTS}
    assert said["breakdown"] is None and said["scaling"] is None
    assert said["waterfall"] == "A step takes two rungs of the ladder; Toy has a time of 1."
    assert said["ratio"] == "PyTorch has no time at Toy."
    assert said["heatmap"] == "run has no time of PyTorch to compare with."
    assert said["ceiling"] == "run did not measure the ceiling of its machine."
    assert said["league"] == "run measured no runtime of the league."
    for spec in CHARTS:
        draw(spec, source, "Toy" if spec.per_config else None)
    (size,) = charts.rows(BY_KEY["scaling"], source)["slope"].to_list()
    assert size is None
    assert "One size only" in str(draw(BY_KEY["scaling"], source)["title"])


def test_one_sample_has_no_interval_and_no_verdict(tmp_path: Path) -> None:
    cells = [make_timed_cell(name, [time]) for name, time in LADDER_TIMES.items()]
    source = make_source(tmp_path / "run", cells)
    for key in ("breakdown", "waterfall", "ratio", "heatmap", "scaling"):
        config = "Toy" if BY_KEY[key].per_config else None
        frame = charts.rows(BY_KEY[key], source, config)
        for name in (n for n in frame.columns if "low" in n or "high" in n):
            assert frame[name].null_count() == frame.height, (key, name)
        draw(BY_KEY[key], source, config)
    frame = charts.rows(BY_KEY["ratio"], source, "Toy")
    assert frame["ratio"].to_list() == pytest.approx([4 / 3, 2 / 3, 1 / 3])
    assert set(frame["verdict"]) == {"not resolved"}


def test_without_an_aa_pair_the_charts_say_what_they_cannot(tmp_path: Path) -> None:
    cells = [make_timed_cell(name, [time] * 6) for name, time in LADDER_TIMES.items()]
    source = make_source(tmp_path / "run", cells)
    for key in ("waterfall", "ratio", "heatmap"):
        config = "Toy" if BY_KEY[key].per_config else None
        assert "No A/A pair" in str(draw(BY_KEY[key], source, config)["title"])
        frame = charts.rows(BY_KEY[key], source, config)
        assert frame["floor"].null_count() == frame.height
    paired = [*cells, make_timed_cell("layernorm-parallel", [1000] * 6)]
    with_floor = make_source(tmp_path / "paired", paired)
    assert "Noise floor 0.0%" in str(draw(BY_KEY["ratio"], with_floor, "Toy")["title"])


def test_a_variant_without_a_time_keeps_its_row_and_its_status(tmp_path: Path) -> None:
    cells = [make_timed_cell(name, [time] * 6) for name, time in LADDER_TIMES.items()]
    cells.insert(2, make_failed_cell(variant="passes-fold", printed_name="fold", reason="no room"))
    source = make_source(tmp_path / "run", cells)
    for key in ("breakdown", "waterfall", "ratio", "heatmap", "scaling"):
        config = "Toy" if BY_KEY[key].per_config else None
        frame = charts.rows(BY_KEY[key], source, config)
        (row,) = frame.filter(pl.col("variant") == "passes-fold").to_dicts()
        assert (row["status"], row["reason"]) == ("oom", "no room")
        numbers = {name for name, value in row.items() if isinstance(value, float | int)}
        assert numbers <= {"gflop", "n_sizes"}, key
    (text,) = charts.rows(BY_KEY["heatmap"], source).filter(pl.col("status") == "oom")["text"]
    assert text == "oom"


def test_names_stand_in_the_order_of_the_ladder(tmp_path: Path) -> None:
    shuffled = ("attention-fused-parallel", "torch-sdpa", "passes-none", "torch-naive")
    cells = [make_timed_cell(name, [LADDER_TIMES[name]] * 6) for name in shuffled]
    source = make_source(tmp_path / "run", cells)
    for key in ("breakdown", "heatmap", "ratio"):
        drawn = draw(BY_KEY[key], source, "Toy" if BY_KEY[key].per_config else None)
        domains = [e["y"]["scale"]["domain"] for e in encodings(drawn) if "y" in e]
        expected = [name for name in LADDER_TIMES if key != "ratio" or name != "torch-sdpa"]
        assert domains and all(domain == expected for domain in domains)


def test_a_chart_of_a_config_wants_a_config(data: Gathered) -> None:
    with pytest.raises(ValueError, match="the chart ratio is of one config"):
        draw(BY_KEY["ratio"], data.sources[0])


def test_two_of_a_kind_are_not_set_beside_each_other(data: Gathered) -> None:
    published = next(source for source in data.sources if source.is_published)
    recorded = data.source("2026-11-20-zen4-2-cores")
    for source, other in ((published, published), (recorded, recorded)):
        assert "two of a kind" in (needs(against_published(other), source, "Toy") or "")
    assert needs(against_published(published), recorded, "Toy") is None


def test_attention_without_a_time_says_so(tmp_path: Path) -> None:
    run = load_attention(write_attention(tmp_path / "run", [make_refused("flash")]))
    assert needs(ATTENTION, run) == "No time of attention alone was measured in run."
    some = load_attention(
        write_attention(tmp_path / "some", [*three_ways(500)[:2], make_refused("flash")])
    )
    assert needs(ATTENTION, some) is None
    frame = charts.rows(ATTENTION, some)
    assert frame["gflop_per_s"].null_count() == 1
    assert "not drawn: 1 cases" in str(draw(ATTENTION, some)["title"])


def test_a_frame_becomes_a_table(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"name": ["a|b", None], "ratio": [0.123456, 12345.6], "rounds": [10, None]},
        schema={"name": pl.String, "ratio": pl.Float64, "rounds": pl.Int64},
    )
    table = charts.to_table(frame, "Title")
    assert table.rows == [["a|b", "0.1235", "10"], ["-", "12,350", "-"]]
    assert table.markdown().splitlines()[2] == "| name | ratio | rounds |"


def test_an_svg_is_as_wide_as_asked_and_has_the_names(data: Gathered) -> None:
    pytest.importorskip("vl_convert")
    drawn = draw(BY_KEY["ratio"], data.sources[0], "Toy")
    svg = charts.to_svg(drawn, width=500)
    assert svg.startswith("<svg") and "Flash + LN opt" in svg
    assert 'width="500"' in svg
    # Text in mid-gray is legible on both pages; nothing but marks is black
    assert GRAY in svg


def test_without_vl_convert_the_extra_is_named(
    data: Gathered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise ImportError(name)

    drawn = draw(BY_KEY["ratio"], data.sources[0], "Toy")
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

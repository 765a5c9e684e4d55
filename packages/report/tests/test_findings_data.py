"""The findings on the committed data: figures recomputed from the CSV, and no word without rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Context
from pathlib import Path

import pytest
from finding_rows import published_run

from ablation_report.findings import FINDINGS, VERDICTS, Finding, evaluate_all
from ablation_report.findings.block.steps import cases_of
from ablation_report.findings.judge import compare, published_floor, twins
from ablation_report.findings.words import place_of
from ablation_report.load import Gathered, gather, read
from ablation_report.run import Run

DATA = Path(__file__).parents[3] / "data"
BLOCK_CSV = DATA / "published/block_ablation_m4max.csv"
BY_KEY = {finding.key: finding for finding in FINDINGS}
# A group of configs under one word, as sentences write it
GROUP = re.compile(
    r"(faster|slower|the same|not resolved) at ((?:[\w-]+ \([^()]*\)(?:, )?)+)", re.ASCII
)
CONFIG = re.compile(r"([\w-]+) \([^()]*\)")


@pytest.fixture(scope="module")
def committed() -> Gathered:
    return gather(DATA / "published", DATA / "runs")


@pytest.fixture(scope="module")
def published() -> Run:
    (run,) = read(BLOCK_CSV)
    return run


def read_lines() -> list[dict[str, str]]:
    """The rows of the published block, as they are printed."""
    with BLOCK_CSV.open(newline="") as lines:
        return list(csv.DictReader(lines))


def total_ns() -> dict[tuple[str, str], int]:
    """The total of each config and variant, straight from the CSV."""
    return {(row["config"], row["variant"]): int(row["total_ns"]) for row in read_lines()}


def two(value: float) -> str:
    """Write two significant digits by decimal arithmetic."""
    return format(Context(prec=2).create_decimal_from_float(value), "f")


def change(time_ns: int, base_ns: int) -> str:
    percent = 100 * (time_ns - base_ns) / base_ns
    return f"{'+' if percent > 0 else '-'}{two(abs(percent))}%"


def ask(published: Run, key: str) -> str:
    return BY_KEY[key].evaluate(published).sentence


def ladder(config: str) -> list[str]:
    """The published compiled variants of a config, in the order of the file."""
    out = ("Baselines", "Python exec")
    rows = read_lines()
    return [r["variant"] for r in rows if r["config"] == config and r["group"] not in out]


def test_dispatch_is_inside_the_range_at_toy_only(published: Run) -> None:
    ns = total_ns()
    sentence = ask(published, "dispatch_overhead")
    for config in ("Toy", "Small"):
        naive = ns[config, "torch-naive"]
        plain = two(ns[config, "passes-none"] / naive)
        best = two(min(ns[config, variant] for variant in ladder(config)) / naive)
        assert f"{best}x at {config} (" in sentence
        assert f"{plain}x at {config}" in sentence.split("as it is:")[1]
    assert BY_KEY["dispatch_overhead"].evaluate(published).verdict == "does not hold"
    assert "The claimed range is 0.10x to 0.14x: inside at Toy, outside at Small." in sentence


@pytest.mark.parametrize(
    ("key", "variant", "base", "configs"),
    [
        (
            "threading_in_attention",
            "attention-fused-parallel",
            "attention-fused-simd",
            ("Toy", "Small", "Medium", "GPT-2"),
        ),
        (
            "flash_never_wins",
            "attention-flash-parallel",
            "attention-fused-parallel",
            ("Toy", "Small", "Medium", "GPT-2", "1B", "3B", "7B", "7B-4K", "1B-8K"),
        ),
        ("layer_norm_at_medium", "layernorm-parallel", "layernorm-scalar", ("Medium", "GPT-2")),
        ("layer_norm_at_medium", "layernorm-parallel", "layernorm-simd", ("Medium", "GPT-2")),
        (
            "matmul_add_worth",
            "passes-matmul-add",
            "passes-absorb",
            ("Toy", "Small", "Medium", "GPT-2"),
        ),
    ],
)
def test_published_changes_are_those_of_the_file(
    published: Run, key: str, variant: str, base: str, configs: tuple[str, ...]
) -> None:
    ns = total_ns()
    sentence = ask(published, key)
    for config in configs:
        assert f"{config} ({change(ns[config, variant], ns[config, base])})" in sentence


def test_other_bounds_the_feed_forward_from_above(published: Run) -> None:
    sentence = ask(published, "feed_forward_dominates")
    rows = {(row["config"], row["variant"]): row for row in read_lines()}
    for config in ("1B", "3B", "7B", "7B-4K", "1B-8K"):
        best = min(ladder(config), key=lambda variant: int(rows[config, variant]["total_ns"]))
        parts = [int(rows[config, best][f"{part}_ns"]) for part in ("attention", "layernorm")]
        other = int(rows[config, best]["other_ns"])
        assert f"{two(100 * other / (sum(parts) + other))}% at {config} (" in sentence
    assert "less than half at 1B-8K" in sentence
    assert "not resolved at 1B, 3B, 7B and 7B-4K" in sentence


def test_the_published_file_says_its_own_noise(published: Run) -> None:
    ns = total_ns()
    pair = ("attention-fused-parallel", "layernorm-scalar")
    (toy, large) = cases_of(published, ["Toy", "1B"])
    assert twins(published, toy) == [pair]
    assert twins(published, large) == []
    own = ns["Toy", pair[0]] / ns["Toy", pair[1]] - 1
    assert published_floor(published, toy) == pytest.approx(own)
    sentence = ask(published, "published_noise")
    for config in ("Toy", "Small", "Medium", "GPT-2"):
        assert f"{change(ns[config, pair[0]], ns[config, pair[1]])} at {config}" in sentence


def test_two_names_of_a_published_program_are_no_step(published: Run) -> None:
    found = BY_KEY["published_noise"].evaluate(published).comparisons
    assert "layernorm-simd" in {comparison.variant for comparison in found}
    assert "layernorm-scalar" not in {comparison.variant for comparison in found}


def test_a_published_difference_inside_the_noise_of_its_config_is_not_resolved() -> None:
    kernels = {"kernels": {"attention": "fused", "layer_norm": "scalar"}, "passes": ["fold"]}
    twice = [("Toy", "attention-fused-parallel", 1090), ("Toy", "layernorm-scalar", 1000)]
    rows = published_run(twice, **kernels).rows
    quiet = published_run([("Toy", "passes-none", 1000), ("Toy", "passes-fold", 1080)])
    noisy = replace(quiet, rows=(*quiet.rows, *rows))
    for asked, told in ((noisy, "not resolved"), (quiet, "slower")):
        (case,) = cases_of(asked, ["Toy"])
        comparison = compare(asked, asked.row(case, "passes-fold"), "passes-none")
        assert comparison is not None and comparison.verdict == told


def test_every_finding_answers_for_every_committed_run(committed: Gathered) -> None:
    assert committed.problems == ()
    outcomes = evaluate_all(committed.runs)
    asked = [(f.key, run.name) for f in FINDINGS for run in committed.of_suite(f.suite)]
    assert [(finding.key, run.name) for finding, run, _ in outcomes] == asked
    assert {outcome.verdict for _, _, outcome in outcomes} == set(VERDICTS)


def groups(sentence: str) -> Iterator[tuple[str, str]]:
    """The configs of a sentence, each with what is said of it."""
    for word, configs in GROUP.findall(sentence):
        for config in CONFIG.findall(configs):
            yield config, word.removeprefix("the ")


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.key)
def test_no_sentence_says_more_than_its_rows(committed: Gathered, finding: Finding) -> None:
    for run in committed.of_suite(finding.suite):
        outcome = finding.evaluate(run)
        carried = {(place_of(run, c.row), c.verdict) for c in outcome.comparisons}
        assert set(groups(outcome.sentence)) <= carried, outcome.sentence
        places = {(row["path"], row["line"]) for row in outcome.rows}
        if not run.is_published:
            assert places <= {(row["path"], row["line"]) for row in run.rows}
        if outcome.verdict == "not measured":
            assert run.is_published or outcome.rows == ()
            bare = outcome.sentence if not outcome.rows else ""
            assert not re.search(r"\d%|\dx\b|faster|slower", bare), outcome.sentence
        else:
            assert outcome.rows and (outcome.figures or run.is_published or "oom" in finding.key)
        if outcome.verdict == "not resolved":
            bare = GROUP.sub("", outcome.sentence)
            assert not re.search(r"faster|slower|Flash wins", bare), outcome.sentence


def test_the_guard_sees_the_groups() -> None:
    told = 'The runner-up is slower at Toy (best "a", then "b" +20%), 7B-4K (x); not resolved at Z'
    assert list(groups(told)) == [("Toy", "slower"), ("7B-4K", "slower")]
    assert list(groups("the same at GPT-2 (+0.1%).")) == [("GPT-2", "same")]

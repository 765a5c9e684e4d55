"""Growth over the length, means over cases, and the words for a case."""

from __future__ import annotations

from typing import Any

import pytest
from samples import SIZES, make_attention_row, make_row, make_run, make_untimed

from ablation_report.run import Row, Run
from ablation_report.series import length_of, mean_ratios, series_of, short_case, where


def attention(n: int, time_ns: int = 1000, variant: str = "mine", **sizes: Any) -> dict[str, Any]:
    """A row of attention over n queries and keys with other sizes."""
    own = {"B": 1, "H": 2, "Nq": n, "Nk": n, "d": 64, "causal": False} | sizes
    return make_attention_row(variant, [time_ns] * 6, sizes=own)


def attention_run(*rows: dict[str, Any]) -> Run:
    return make_run(list(rows), baseline="torch_sdpa_flash", twins=[])


def time_of(run: Run) -> Any:
    """What a series fits: the time of a row."""

    def time_ns(row: Row) -> float | None:
        time = run.time(row)
        return time.value if time else None

    return time_ns


def test_growth_is_fitted_from_1024_on() -> None:
    rows = [attention(n, n * n // 1024) for n in (2048, 1024, 4096)] + [attention(512, 10**6)]
    run = attention_run(*rows)
    (series,) = series_of(run)
    assert [row["sizes"]["Nk"] for row in series.rows] == [512, 1024, 2048, 4096]
    assert series.exponent(time_of(run)) == pytest.approx(2)
    assert series.exponent(lambda row: row["sizes"]["Nk"]) == pytest.approx(1)
    assert series.exponent(lambda row: row["memory"]["saved"]) is None
    assert series.exponent(lambda row: row["sizes"]["Nk"] == 1024) is None


def test_series_do_not_mix_what_differs_besides_the_length() -> None:
    rows = [
        attention(n, **sizes)
        for n in (1024, 2048)
        for sizes in ({}, {"causal": True}, {"d": 32}, {"layers": 2, "d_ff": 8}, {"layers": 3})
    ]
    rows += [attention(1024) | {"phase": "bwd"}, attention(1024, Nq=512)]
    found = series_of(attention_run(*rows))
    assert [len(series.rows) for series in found] == [2] * 5 + [1]
    assert found[-1].phase == "bwd"


def test_the_first_of_a_length_that_was_run_twice_counts() -> None:
    run = attention_run(attention(1024, 1000), attention(1024, 9000))
    (series,) = series_of(run)
    assert [time_of(run)(row) for row in series.rows] == [1000]


def test_a_series_names_the_first_length_that_did_not_fit() -> None:
    rows = [attention(1024), *(make_untimed(attention(n)) for n in (4096, 2048))]
    (series,) = series_of(attention_run(*rows))
    assert series.first_oom is not None and series.first_oom["sizes"]["Nk"] == 2048


def test_means_are_geometric_and_name_what_is_missing() -> None:
    rows = [attention(n, 1000, "torch_sdpa_flash") for n in (1024, 2048, 4096)]
    rows += [attention(1024, 2000), attention(2048, 8000), make_untimed(attention(4096))]
    run = attention_run(*rows)
    means = mean_ratios(run, run.rows)
    assert list(means) == [("mine", "fwd")]
    mean = means["mine", "fwd"]
    assert mean.value == pytest.approx(4) and mean.n == 2
    assert mean.missing == ("full, N 4096, B1 H2 d64 (oom)",)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (attention(1024), "full, N 1024, B1 H2 d64"),
        (attention(1024, Nq=256, causal=True), "causal, N 256x1024, B1 H2 d64"),
        (
            attention(128, inputs="randn", softmax="safe", autocast="none"),
            "full, N 128, B1 H2 d64",
        ),
        (
            attention(128, softmax="unsafe", scale=0.1767),
            "full, N 128, B1 H2 d64, scale 0.177, softmax unsafe",
        ),
        (attention(128, block_q=32, block_k=64), "full, N 128, B1 H2 d64, tile 32x64"),
        (
            attention(128, size="small", layers=2, d_ff=8, vocab=9, study_warmup=3),
            "full, N 128, B1 H2 d64, small, calls before 3",
        ),
        (attention(128, layers=2, d_ff=8, vocab=9), "full, N 128, B1 H2 d64, 2 layers"),
        (attention(128) | {"dtype": "bfloat16"}, "full, N 128, B1 H2 d64, bfloat16"),
        (make_row(), "Toy"),
        (make_row(sizes={"tokens": 4}), "tokens 4"),
    ],
)
def test_a_case_in_words_leaves_out_what_is_usual(row: dict[str, Any], words: str) -> None:
    assert short_case(row) == words


def test_where_a_series_was_measured() -> None:
    assert where(attention(1024)) == "cpu, full, B1 H2 d64, float32, 1 thread"
    assert where(attention(1024) | {"threads": 2}).endswith("2 threads")
    assert where(attention(1024) | {"threads": None}) == "cpu, full, B1 H2 d64, float32"
    assert length_of(make_row(sizes={**SIZES, "Nq": 4})) == "4x32"

"""The row schema: sound rows of every suite pass, each way to break a rule is named by column."""

from __future__ import annotations

import json
from typing import Any

import pytest
from samples import make_attention_row, make_header, make_row, make_untimed

from ablation_report import rows

CASES: tuple[Any, ...] = (
    (
        "block",
        "configs",
        {"B": 1, "H": 4, "Nq": 8, "Nk": 8, "d": 2, "causal": False, "config": "7B-4K"},
    ),
    (
        "attention-sweep",
        "1000:1000:64:12:1",
        {"B": 1, "H": 2, "Nq": 3, "Nk": 4, "d": 5, "causal": True},
    ),
    ("attention-parts", "course", {"B": 1, "scale": 0.5, "flag": True, "n": -3, "softmax": "safe"}),
    ("model", "user", {"module": "model.py:make", "layers": 12}),
    ("model", "user", {}),
)


@pytest.mark.parametrize(("suite", "tier", "sizes"), CASES)
def test_a_label_reads_back(suite: str, tier: str, sizes: dict[str, Any]) -> None:
    label = rows.make_label(suite, tier, sizes, "float32", 2, "cpu")
    assert rows.parse_label(label) == {
        "suite": suite,
        "tier": tier,
        "sizes": sizes,
        "dtype": "float32",
        "threads": 2,
        "device": "cpu",
    }


@pytest.mark.parametrize(
    "sizes", [{"a b": 1}, {"x": "a b"}, {"x": ""}, {"x": "1"}, {"x": "true"}, {"x": [1]}, {"1x": 1}]
)
def test_a_size_that_no_label_carries_is_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="would not come back from a label"):
        rows.make_label("suite", "tier", sizes, "float32", 1, "cpu")


@pytest.mark.parametrize(
    "text", ["", "block", "block/configs", "a/b float32 t2", "a/b x float32 t1 cpu"]
)
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no label of a case"):
        rows.parse_label(text)


@pytest.mark.parametrize("make", [make_row, make_attention_row])
def test_sound_rows_and_headers_pass(make: Any) -> None:
    row = make()
    assert rows.row_faults(row) == {}
    header = make_header([row])
    assert rows.header_faults(header) == {} and rows.place_faults(row, header) == {}
    assert rows.row_faults(make_untimed(row)) == {}
    required = {name for name, column in rows.HEADER_COLUMNS.items() if not column.is_optional}
    assert set(row) == set(rows.ROW_COLUMNS) and set(header) == required


@pytest.mark.parametrize(
    ("changes", "column", "message"),
    [
        ({"samples_ns": [1, 1], "sample_rounds": [0, 1]}, "samples_ns", "2 samples, but status"),
        ({"samples_ns": [1, 1, 0]}, "samples_ns", "expected a list of integers above 0"),
        ({"samples_ns": [1, 1, 1.5]}, "samples_ns", "expected a list of integers above 0"),
        ({"samples_ns": [1, True, 2]}, "samples_ns", "expected a list of integers above 0"),
        ({"sample_rounds": [0]}, "sample_rounds", "1 entries for 4 samples"),
        ({"check": "fail"}, "check", "'fail', but status is ok"),
        ({"errors": None}, "errors", "it was not checked"),
        ({"errors": {"output": 2e-5}}, "errors", "output is 2e-05, 1e-05 allowed"),
        ({"errors": {"output": float("nan")}}, "errors", "output is nan"),
        ({"errors": {"lse": 0.0}}, "errors", "lse is 0.0, None allowed"),
        ({"reason": "late"}, "reason", "'late', but status is ok"),
        ({"case": "block/configs float32 t1 cpu"}, "case", "but the columns make"),
        ({"flops": 1}, "flops", "1, but the case has 3407872"),
        ({"status": "fine"}, "status", "expected one of ok, oom"),
        ({"device": "tpu"}, "device", "expected one of cpu, cuda"),
        ({"providers": {"gpu": "none"}}, "providers", "expected a table of simd, parallel"),
        ({"ops": [{"name": "softmax"}]}, "ops", "expected a list of {name, op, category"),
        ({"memory": {"predicted": 1}}, "memory.available", "missing"),
        ({"surprise": 1}, "surprise", "unknown column"),
        ({"details": {"parts_ns": {"fwd": "x"}}}, "details.parts_ns.fwd", "expected a list of"),
    ],
)
def test_a_broken_rule_is_named(changes: dict[str, Any], column: str, message: str) -> None:
    faults = rows.row_faults({**make_row(), **changes})
    assert message in faults[column], faults


@pytest.mark.parametrize(
    ("entry", "value", "column", "message"),
    [
        ("total", [1000, 1101], "profile.total", "entry 1 is 1101, its parts sum to 1100"),
        ("linear", [400], "profile.linear", "1 entries, profile.total has 2"),
        ("linear", None, "profile.linear", "null, expected a list"),
    ],
)
def test_a_profile_adds_up(entry: str, value: Any, column: str, message: str) -> None:
    row = make_row()
    row["profile"] = row["profile"] | {entry: value}
    assert message in rows.row_faults(row)[column]


@pytest.mark.parametrize("column", [*rows.TIME_COLUMNS, "memory.peak", "memory.disagree"])
def test_what_was_not_measured_is_null(column: str) -> None:
    filled = {"event_ns": [0.5]}
    row = make_untimed(make_row())
    outer, _, inner = column.partition(".")
    if inner:
        row["memory"] = row["memory"] | {inner: False if inner == "disagree" else 1}
    else:
        row[outer] = (make_row() | filled)[outer]
    faults = rows.row_faults(row)
    assert "but status is oom: expected null" in faults[column]


@pytest.mark.parametrize(
    ("changes", "column", "message"),
    [
        ({"reason": None}, "reason", "null, but status is oom"),
        ({"reason_text": None}, "reason_text", "null, but status is oom"),
        ({"reason": "tired"}, "reason", "'tired', of oom expected predicted, alloc_failed"),
    ],
)
def test_a_status_has_its_reason(changes: dict[str, Any], column: str, message: str) -> None:
    assert message in rows.row_faults(make_untimed(make_row()) | changes)[column]


def test_an_error_may_have_any_reason_and_a_wrong_row_an_infinite_error() -> None:
    assert rows.row_faults(make_untimed(make_row(), "error", "ValueError")) == {}
    wrong = make_untimed(make_row(), "incorrect", "check") | {"errors": {"o": float("inf")}}
    assert rows.row_faults(wrong) == {}


def test_a_rate_is_impossible_only_beyond_a_known_ceiling() -> None:
    ceilings = {"1": {"multiply_add_flops_per_s": 50e9}}
    fast = make_attention_row(samples=[1] * 6)
    assert "an impossible rate" in rows.rate_faults(fast, ceilings)["samples_ns"]
    nominal = fast | {"factors": {"arithmetic": "other"}}
    assert rows.rate_faults(nominal, ceilings) == {}
    assert rows.rate_faults(fast, None) == {}
    assert rows.rate_faults(fast | {"dtype": "bfloat16"}, ceilings) == {}
    autocast = fast | {"sizes": fast["sizes"] | {"autocast": "bfloat16"}}
    assert rows.rate_faults(autocast, ceilings) == {}
    # Within the slack of a measured ceiling
    near = fast | {"samples_ns": [int(fast["flops"] / 50 / 1.04)] * 6}
    assert rows.rate_faults(near, ceilings) == {}
    header = make_header([fast], ceilings=ceilings)
    assert "an impossible rate" in rows.place_faults(fast, header)["samples_ns"]


def test_the_ceiling_is_the_most_that_fewer_threads_promise() -> None:
    rates = {"1": 40.0, "2": 26.0, "4": None}
    ceilings = {n: {"multiply_add_flops_per_s": rate} for n, rate in rates.items()}
    found = [rows.peak_flops_per_s(ceilings, threads) for threads in (1, 2, 4)]
    assert found == [40.0, 80.0, 160.0]
    assert rows.peak_flops_per_s(None, 2) is None


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"variants": ["a", "a"]}, "variants"),
        ({"cases": ["x"]}, "cases"),
        ({"twins": [["a"]]}, "twins"),
        ({"threads": [0]}, "threads"),
        ({"ceilings": {"x": {}}}, "ceilings"),
        (
            {"ceilings": {"1": {"multiply_add_flops_per_s": 0}}},
            "ceilings.1.multiply_add_flops_per_s",
        ),
        ({"machine": {}}, "machine.cpu_model"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_broken_header_is_named(changes: dict[str, Any], column: str) -> None:
    assert column in rows.header_faults(make_header(**changes))


@pytest.mark.parametrize("column", ["run_id", "suite", "case", "variant", "phase"])
def test_a_row_of_another_run_is_named(column: str) -> None:
    row = make_row()
    assert column in rows.place_faults({**row, column: "other"}, make_header([row]))


def test_rows_survive_json() -> None:
    row = make_row()
    assert json.loads(json.dumps(row)) == row

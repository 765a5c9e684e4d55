"""The command line: what is refused, and runs through real workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablation_executor.bench.__main__ import main
from ablation_executor.bench.suites import command
from ablation_executor.bench.suites.options import make_parser, make_request
from ablation_executor.bench.suites.rows import MEASURED_KEYS, SuiteFolder

SWEEP = ["--suite", "attention-sweep"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--suite", "attention-swep"], "unknown suite 'attention-swep'; did you mean"),
        ([*SWEEP, "--tiers", "papers"], "unknown tier 'papers'; did you mean 'paper'"),
        ([*SWEEP, "--tiers", "12:x"], "tier '12:x' is not of that form; accepted: Q:K"),
        ([*SWEEP, "--tiers", "0:5"], "tier '0:5' is out of range; accepted: Q:K"),
        ([*SWEEP, "--impls", "flash"], "unknown impl 'flash'; did you mean"),
        ([*SWEEP, "--device", "gpu"], "unknown device 'gpu'"),
        ([*SWEEP, "--device", "cpu,cuda"], "--device takes one name, got 'cpu,cuda'"),
        ([*SWEEP, "--threads", "0"], "--threads: 0 is out of range; accepted: a whole number"),
        ([*SWEEP, "--quick", "--tiers", "paper"], "--quick takes no case of paper"),
        (
            [*SWEEP, "--tiers", "odd", "--cases", "Q1"],
            "no case has all of 'Q1'\nwords of",
        ),
        ([*SWEEP, "--cases", " ,"], "--cases names no words"),
        ([*SWEEP, "--resume", "nowhere", "--cases", "Q1"], "leave out --cases"),
        ([*SWEEP, "--resume", "nowhere"], "nowhere holds no run"),
        ([*SWEEP, "--resume", "nowhere", "--quick"], "leave out --quick"),
    ],
)
def test_requests_that_are_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--mem-limit", "--budget", "--seed"])
def test_options_that_are_no_number(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*SWEEP, option, "x"])
    assert ended.value.code == 2
    assert f"argument {option}: 'x' is not a" in capsys.readouterr().err


def test_sizes_are_refused_by_a_suite_without_them(
    fake_registered: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--suite", "fake", "--tiers", "5:5"]) == 2
    assert "fake takes no sizes, got '5:5'" in capsys.readouterr().err


def tiers_of(*arguments: str) -> list[str]:
    """The tiers that a request of the sweep ends up with."""
    return make_request(make_parser().parse_args([*SWEEP, *arguments])).tiers


def test_a_run_that_names_no_tier_takes_those_that_a_device_can_end() -> None:
    cpu, cuda = tiers_of(), tiers_of("--device", "cuda")
    assert "cpu" in cpu and "paper" not in cpu and "crossover" not in cpu
    assert "paper" in cuda
    assert set(tiers_of("--tiers", "All")) >= {*cpu, *cuda, "crossover"}
    assert tiers_of("--tiers", "odd") == ["odd"]


def test_cases_are_chosen_by_the_words_of_their_labels(capsys: pytest.CaptureFixture[str]) -> None:
    given = [*SWEEP, "--tiers", "rect,cpu", "--cases", "q512 causal t1, Q256", "--threads", "1,2"]
    assert main([*given, "--list"]) == 0
    listed = capsys.readouterr().out.split("\n")[:-1]
    heads, _, tails = zip(*(label.partition(" B1 H12 ") for label in listed), strict=True)
    assert (heads[0], tails[0]) == ("attention-sweep/cpu causal", "Q512 K512 d64 float32 t1 cpu")
    assert sorted(zip(heads[1:], tails[1:], strict=True)) == [
        (f"attention-sweep/cpu {mask}", f"Q256 K256 d64 float32 t{threads} cpu")
        for mask in ("causal", "full")
        for threads in (1, 2)
    ]
    request = make_request(make_parser().parse_args(given))
    assert [case.label for case in request.cases] == listed
    assert request.tiers == ["cpu"]


def test_the_list_names_tiers_and_implementations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP, "--list"]) == 0
    told = capsys.readouterr().out
    for name in ("paper", "crossover", "torch_sdpa_flash", "ablation_flash", "triton_flash"):
        assert name in told
    assert "* cpu " in told
    assert "  paper " in told
    assert "published as scaled_dot_prod_attention" in told


def test_a_published_name_is_taken() -> None:
    given = [*SWEEP, "--impls", "vectorized_torch,triton_flash", "--tiers", "odd"]
    request = make_request(make_parser().parse_args(given))
    assert [way.name for way in request.ways] == ["torch_unfused_lse", "triton_flash"]


def test_a_run_is_written_told_and_gone_on_with(
    fake_registered: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "measure_peaks", lambda threads: {})
    out = tmp_path / "run"
    names = "right,refused,two_phases,first_head"
    given = ["--suite", "fake", "--quick", "--threads", "1", "--impls", names, "--out", str(out)]
    # A wrong implementation fails the command, not the run
    assert main(given) == 1
    told = capsys.readouterr().out
    assert "| right " in told and "unsupported (shape)" in told and "incorrect (probe)" in told
    folder, damaged = SuiteFolder.open(out)
    folder.close()
    assert damaged == []
    assert [row["impl"] for row in folder.rows] == [
        *("right", "first_head", "refused", "two_phases", "two_phases")
    ]
    assert folder.info["finished_utc"] is not None
    (entry,) = folder.info["machine"]["conditions"]
    assert entry["session"] == 1
    assert {"steal_share", "throttled_groups"} <= entry.keys()
    assert main(given) == 2
    kept = [row for row in folder.rows if row["impl"] != "right"]
    text = "".join(json.dumps(row) + "\n" for row in kept)
    folder.rows_path.write_text(text)
    assert main(["--suite", "fake", "--resume", str(out)]) == 1
    again, _ = SuiteFolder.open(out)
    # Meanwhile nobody else may go on with it
    assert main(["--suite", "fake", "--resume", str(out)]) == 2
    assert "is in use by process" in capsys.readouterr().err
    again.close()
    assert again.rows[:-1] == kept
    assert (again.rows[-1]["impl"], again.rows[-1]["session"]) == ("right", 2)
    assert [entry["session"] for entry in again.info["machine"]["conditions"]] == [1, 2]
    capsys.readouterr()
    assert main([*SWEEP, "--resume", str(out)]) == 2
    assert "holds a run of fake" in capsys.readouterr().err


def test_a_tiny_sweep_through_real_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "run"
    names = "torch_unfused_lse,torch_sdpa_flash,triton_flash,ablation_flash,ablation_unfused"
    given = [*SWEEP, "--quick", "--tiers", "37:53:16:2", "--impls", names, "--threads", "1"]
    assert main([*given, "--out", str(out)]) == 0
    folder, _ = SuiteFolder.open(out)
    folder.close()
    rows = folder.rows
    assert len(rows) == 2 * 5
    for row in rows:
        if row["impl"] == "triton_flash":
            assert row["status"] == "unsupported"
            assert row["reason"] in ("no_triton", "no_triton_driver")
            assert all(row[key] is None for key in MEASURED_KEYS)
        else:
            assert (row["status"], row["check"]) == ("ok", "pass")
            assert row["errors"]["o"] <= 1e-5
    assert {row["impl"] for row in rows if "lse" in (row["errors"] or {})} == {"torch_unfused_lse"}
    info = json.loads((out / "run.json").read_text())
    assert info["ceilings"]["1"]["multiply_add_flops_per_s"] > 0
    assert info["ceilings"]["1"]["sgemm_1024_flops_per_s"] > 0
    assert "x vs torch_sdpa_flash" in capsys.readouterr().out

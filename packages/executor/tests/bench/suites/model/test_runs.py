"""Whole commands of suite `model`: the factory of the documentation, a module that is not covered,
bad factories, and attribution."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from ablation_executor.bench import run
from ablation_executor.bench.command import main
from ablation_report.load import gather
from ablation_report.reading import read_run
from ablation_report.tables import run_tables

DOCS = Path(__file__).parents[6] / "docs" / "any-model.md"
FEW = ("--threads", "1", "--samples", "3", "--quick", "--no-color")
UNCOVERED = """
    import torch

    class Bessel(torch.nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x) + torch.special.bessel_j0(2 * x)

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.bessel = torch.nn.Linear(8, 8), Bessel()

        def forward(self, x):
            return self.bessel(self.linear(x))

    def make():
        return Outer(), (torch.randn(4, 8),)
"""


def documented(kind: str) -> list[str]:
    """The blocks of one kind of the documentation."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", DOCS.read_text("utf-8"), re.M | re.S)
    return [body for given, body in found if given == kind]


def bench(*words: str) -> int:
    """The exit status of a command."""
    try:
        return main(list(words))
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is called; it knows no ceilings, which a busy machine would measure low."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "measure_ceilings", lambda threads, known: known or {})
    return tmp_path


def test_the_documented_factory_works_as_printed(folder: Path, capsys: Any) -> None:
    (source,) = documented("python")
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    (folder / "block.py").write_text(source)
    command = next(text for text in documented("") if "--module" in text).split()
    assert command == ["ablation-bench", "--module", "block.py:make"]
    variants = ("--variants", "torch-eager,torch-eager_again,passes-none,default,default_again")
    assert bench(*command[1:], *FEW, *variants, "--out", "run") == 0
    header, rows = read_run(folder / "run")
    assert header["suite"] == "model"
    by_name = {row["variant"]: row for row in rows}
    assert {row["status"] for row in rows} == {"ok"} and len(rows) == 5
    default = by_name["default"]
    assert default["sizes"] == {"module": "block.py:make"}
    assert default["errors"]["output"] <= default["limits"]["output"]
    assert default["details"]["eager_error"] == by_name["torch-eager"]["errors"]["output"]
    # Products of 64 rows, 4 of the attention and 3 of three times the width; scores and sums
    assert default["flops"] == 2 * 64 * 128 * 128 * (4 + 9) + 4 * 64 * 64 * 128
    assert default["n_calls"] < by_name["passes-none"]["n_calls"]
    assert by_name["passes-none"]["parent"] == "torch-eager"
    assert {"attention", "up", "down"} <= {
        path.split(".")[0] for path in default["details"]["module_paths"].values()
    }
    (recorded,) = gather(folder / "run").runs
    titles = [table.title for table in run_tables(recorded)]
    assert "SUMMARY: our default against the others" in titles
    assert "Time by module, our default" in titles
    assert "block.py:make" in capsys.readouterr().out


def test_a_module_that_is_not_covered_ends_with_the_table_and_status_3(
    folder: Path, capsys: Any
) -> None:
    (folder / "own.py").write_text(textwrap.dedent(UNCOVERED))
    assert bench("--module", "own.py:make", *FEW, "--out", "run") == 3
    said = capsys.readouterr().err
    assert re.search(r"aten\.special_bessel_j0\.default +2 +bessel", said), said
    assert "nearest names" in said and "--keep-going" in said
    assert not (folder / "run").exists()


def test_the_others_are_measured_where_ours_is_not(folder: Path) -> None:
    (folder / "own.py").write_text(textwrap.dedent(UNCOVERED))
    words = ("--module", "own.py:make", "--keep-going", "--variants", "torch-eager,default")
    assert bench(*words, *FEW, "--out", "run") == 0
    _, rows = read_run(folder / "run")
    told = {row["variant"]: (row["status"], row["reason"], row["flops"]) for row in rows}
    assert told == {"torch-eager": ("ok", None, None), "default": ("unsupported", "refused", None)}


@pytest.mark.parametrize(
    ("words", "source", "texts"),
    [
        (["--module", "own.py"], "", ["path.py:factory"]),
        (["--module", "none.py:make"], "", ["no such file none.py"]),
        (["--module", "own.py:mak"], "def make(): ...", ["no 'mak'", "did you mean 'make'"]),
        (["--module", "own.py:make", "--seq", "3"], "", ["--seq: options of --model"]),
        (["--module", "own.py:make", "--model", "gpt2"], "", ["give one of them"]),
        (["--model", "nanogtp"], "", ["did you mean 'nanogpt'"]),
        (["--model", "encoder-pre-norm", "--attention", "eager"], "", ["accepts sdpa"]),
    ],
)
def test_bad_requests_are_refused_with_status_2(
    folder: Path, capsys: Any, words: list[str], source: str, texts: list[str]
) -> None:
    (folder / "own.py").write_text(source)
    assert bench(*words, "--out", "run") == 2
    said = capsys.readouterr().err
    for text in texts:
        assert text in said
    assert not (folder / "run").exists()


def test_attribution_of_a_module_counts_the_programs_of_its_graph(folder: Path) -> None:
    (folder / "block.py").write_text(documented("python")[0])
    words = ("--suite", "attribution", "--module", "block.py:make", "--counters-only")
    factors = ("--factors", "adds,attention,rms_norm", "--threads", "1")
    assert bench(*words, *factors, "--out", "run") == 0
    lines = (folder / "run" / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    points = [point for row in rows for point in (row["details"] or {}).get("points", ())]
    # LayerNorm has no RMSNorm to fuse: that factor stays off
    assert points and all(point[2] == "0" for point in points)
    by_name = {row["variant"]: row for row in rows}
    launches = {name: by_name[name]["counters"]["launches"] for name in ("base", "top")}
    assert launches["top"] < launches["base"]
    assert {"torch-eager", "default"} <= by_name.keys()
    assert by_name["base"]["sizes"]["module"] == "block.py:make"

"""A suite, a runtime, a rung, a finding, a chart and a column are added as the documentation says,
to copies of both packages, and all of them are in the row, the table and the page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import ablation_executor

from .conftest import COMMAND_S, fake_bench_command

EXECUTOR = Path(ablation_executor.__file__).parent
PACKAGES = Path(__file__).parents[3]
REPORT = PACKAGES / "report" / "src" / "ablation_report"

SUITE = '''
"""A suite of sums."""

import numpy as np

from ...case import make_case
from ...suite import Flops, Needs, OneProgram, Program, Suite, Variant, Verdict
from ..twins import program_name, twins_of, with_twins


class Sum(Program):
    is_traced = False

    def __init__(self, case, seed):
        self._x = np.random.default_rng(seed).standard_normal(case.get("n"))

    def probe(self):
        return Verdict({"sum": abs(float(np.ones(3).sum()) - 3)}, {"sum": 0.0})

    def check(self, phases, reference):
        error = abs(float(self.call("fwd", None)) - float(np.sum(self._x, dtype=np.longdouble)))
        return Verdict({"sum": error}, {"sum": 1e-9})

    def call(self, phase, prepared):
        return self._x.sum()

    def facts(self, phase):
        return {"toy_note": "noted"}


class Toy(Suite):
    name = "toy"
    what = "sums of arrays"
    baseline = "toy_sum"
    tiers = {"all": "two lengths"}
    twins = twins_of("toy_sum")
    devices = ("cpu",)

    def cases(self, tier, threads, device):
        return [make_case("toy", tier, n=n, threads=t) for t in threads for n in (1000, 4000)]

    def quick_cases(self, threads, device):
        return self.cases("all", threads, device)[:2]

    def variants(self, device):
        return tuple(with_twins([Variant("toy_sum", "numpy", "a sum")], self.twins))

    def supports(self, variant, case):
        return None

    def needs(self, variant, case, phase):
        return Needs(8 * case.get("n"), 8)

    def flops(self, case, phase):
        return Flops(case.get("n"))

    def load(self, worker, case, seed):
        return OneProgram(lambda variant: Sum(case, seed))


SUITE = Toy()
'''
RUNTIME = '''
"""PyTorch under another name."""

from .torch_eager import Adapter as Eager


class Adapter(Eager):
    """The same."""
'''
FINDING = '''
"""Whether the sums were measured."""

from ablation_report.findings.base import Finding, Outcome
from ablation_report.run import Run


def evaluate(run: Run) -> Outcome:
    rows = run.select(timed=True)
    return Outcome("holds", f"{len(rows)} sums have a time.", tuple(rows))


FINDING = Finding("toy_measured", "toy", "Every sum has a time.", None, evaluate)
'''
CHART = '''
"""The sums as points."""

import altair as alt
import polars as pl

TITLE = "Toy points"
CAPTION = "A point for each sum."


def rows(run):
    found = [{"case": r["case"], "ns": run.time(r).value} for r in run.select(timed=True)]
    return pl.DataFrame(found, schema={"case": pl.String, "ns": pl.Float64})


def needs(run):
    return None if run.select(timed=True) else "no time"


def chart(run):
    return alt.Chart(rows(run)).mark_point().encode(x="ns:Q", y="case:N")
'''
RUNG = """    _beyond(
        "beyond-toy",
        "+ toy rung",
        "beyond-rows",
        "kernels",
        MERGED,
        share_rows=True,
    ),
"""


def insert(path: Path, before: str, text: str) -> None:
    """Write a text in front of the first place where another stands."""
    content = path.read_text(encoding="utf-8")
    assert before in content, (path, before)
    path.write_text(content.replace(before, text + before, 1), encoding="utf-8")


def insert_after(path: Path, after: str, text: str) -> None:
    """Write a text behind the first place where another stands."""
    content = path.read_text(encoding="utf-8")
    assert after in content, (path, after)
    path.write_text(content.replace(after, after + text, 1), encoding="utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages, extended."""
    root = tmp_path_factory.mktemp("extended")
    for package in (EXECUTOR, REPORT):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, root / package.name, ignore=ignored)
    bench, report = root / "ablation_executor" / "bench", root / "ablation_report"
    # A suite: a folder and a line
    (bench / "suites" / "toy").mkdir()
    (bench / "suites" / "toy" / "__init__.py").write_text(SUITE)
    insert_after(bench / "suites" / "__init__.py", 'DEFAULT: "block",\n', '    "toy": "toy",\n')
    # A runtime: an adapter and a line
    (bench / "runtimes" / "toy.py").write_text(RUNTIME)
    line = '    Runtime("toy-runtime", "Toy runtime", "toy", "toy", ("torch",)),\n'
    insert(bench / "runtimes" / "__init__.py", '    Runtime("torch-compile",', line)
    # A rung: an entry
    ladder = bench / "suites" / "block" / "ladder.py"
    insert_after(ladder, "VARIANTS: tuple[Rung, ...] = (\n", RUNG)
    # A finding: a file and a line
    (report / "findings" / "toy").mkdir()
    (report / "findings" / "toy" / "__init__.py").write_text("")
    (report / "findings" / "toy" / "toy_measured.py").write_text(FINDING)
    insert(
        report / "findings" / "registry.py",
        '    "attention_sweep.attention_crossover",\n',
        '    "toy.toy_measured",\n',
    )
    # A chart: a file and a line
    (report / "charts" / "toy.py").write_text(CHART)
    charts = report / "charts" / "__init__.py"
    insert(charts, "from ablation_report.charts.attention import", IMPORT_CHART)
    insert(charts, '    _spec("steps"', '    _spec("toy", toy, _of("toy")),\n')
    # A column: an entry, the place that fills it, and the table
    insert(report / "rows.py", '    "details": table(DETAILS)', COLUMN)
    insert_after(bench / "measurement.py", "FACT_COLUMNS = (", '"toy_note", ')
    figure = '    "Toy note": lambda run, row: row.get("toy_note") or NOTHING,\n'
    insert(report / "tables" / "suite.py", '    "GFLOP/s": lambda', figure)
    return root


IMPORT_CHART = "from ablation_report.charts import toy\n"
COLUMN = '    "toy_note": TEXT.or_null().optional(),\n'


def run(root: Path, arguments: Sequence[str], folder: Path) -> str:
    """Run a command of the extended packages; gives what it printed."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def report_command(*arguments: str) -> list[str]:
    """The command line of the report."""
    return [sys.executable, "-m", "ablation_report", *arguments]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_a_suite_with_its_finding_chart_and_column(extended: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy"
    words = ("--suite", "toy", "--quick", "--threads", "1", "--out", str(out))
    printed = run(extended, fake_bench_command(*words), tmp_path)
    rows = rows_of(out)
    assert {row["variant"] for row in rows} == {"toy_sum", "toy_sum_again"}
    assert {(row["status"], row["toy_note"]) for row in rows} == {("ok", "noted")}
    shown = run(extended, report_command("show", str(out)), tmp_path)
    for table in (printed, shown):
        assert "toy_sum_again" in table and "Toy note" in table and "noted" in table
    assert "floor" in shown
    found = run(extended, report_command("findings", str(out)), tmp_path)
    assert "Every sum has a time." in found and "4 sums have a time." in found
    pages = write_pages(extended, tmp_path, out)
    assert "toy_sum" in pages and "Toy points" in pages and "4 sums have a time." in pages


def test_a_rung_and_a_runtime_of_the_block(extended: Path, tmp_path: Path) -> None:
    out = tmp_path / "block"
    names = "torch-sdpa,torch-naive,attention-fused-parallel,layernorm-parallel,beyond-toy"
    words = ("--configs", "Toy", "--quick", "--threads", "1", "--variants", names)
    # No ceilings, which a busy machine would measure low
    bench = fake_bench_command(*words, "--baselines", "toy-runtime", "--out", str(out))
    printed = run(extended, bench, tmp_path)
    rows = {row["variant"]: row for row in rows_of(out)}
    assert rows["beyond-toy"]["status"] == rows["toy-runtime"]["status"] == "ok"
    assert rows["beyond-toy"]["parent"] == "beyond-rows"
    assert (rows["toy-runtime"]["group"], rows["toy-runtime"]["origin"]) == ("League", "toy")
    assert "+ toy rung" in printed and "Toy runtime" in printed
    shown = run(extended, report_command("show", str(out)), tmp_path)
    assert "+ toy rung" in shown and "Toy runtime" in shown
    pages = write_pages(extended, tmp_path, out)
    assert "+ toy rung" in pages and "Toy runtime" in pages


def write_pages(root: Path, folder: Path, run_folder: Path) -> str:
    """Write the pages of a run and return their text."""
    docs, out = folder / "docs", folder / "pages"
    docs.mkdir()
    (docs / "index.md").write_text("# Toy\n")
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from ablation_report.site import site_inputs, write_pages\n"
        "run, docs, out = map(Path, sys.argv[1:])\n"
        "write_pages(site_inputs([run]), docs, out)\n"
    )
    script = folder / "write.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script), str(run_folder), str(docs), str(out)],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return "".join(path.read_text(encoding="utf-8") for path in sorted(out.rglob("*.md")))

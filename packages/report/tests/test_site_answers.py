"""Pages that answer a question: findings, worths, kernels, published figures, refused fusions."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attribution_samples import make_attribution_run, usual_value
from finding_rows import block_run, floor_of_flash, make, published_run
from page_tables import lines_of, page_tables
from samples import make_header
from test_charts_attribution import FEW
from test_findings_attribution import QUIET

from ablation_report.attribution.worths import attribution_of, text
from ablation_report.escaping import code
from ablation_report.kernel_records import SCHEMA, read_kernels
from ablation_report.load import Gathered, gather
from ablation_report.output import UsageError
from ablation_report.run import Run
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.attribution import NOTHING_RECORDED, worths_block
from ablation_report.site.pages.findings import NO_SOURCE, answers_of, findings_block
from ablation_report.site.pages.kernels import NO_RECORD, NO_WHEEL, kernels_block
from ablation_report.site.pages.published import NOTHING_PUBLISHED, published_block
from ablation_report.site.pages.refused import NO_EXECUTOR, refused_block

ROOT = Path(__file__).parents[3]
OTHER = make_header()["machine"] | {"cpu_model": "Other CPU"}
MATMUL_ADD = "The fusion of a product and an addition (+ MATMUL_ADD) never makes the block slower."
FLASH = "In a block, flash attention is never faster than fused attention."


def of(*runs: Run, **more: Any) -> Inputs:
    """What pages are made from: these runs."""
    return Inputs(Gathered(runs), **more)


def gaining(name: str, fused: int | list[int] = 900, **changes: Any) -> Run:
    """A run in which + MATMUL_ADD takes so many of 1000 ns."""
    rows = [make("passes-absorb", 1000), make("passes-matmul-add", fused), *floor_of_flash()]
    return block_run(rows, name, **changes)


# Findings -----------------------------------------------------------------------------------------


def test_the_matrix_has_a_verdict_for_each_claim_and_machine() -> None:
    block = findings_block(of(gaining("one"), gaining("two", 1200, machine=OTHER)))
    matrix = page_tables(block)[0]
    assert matrix.titles[0] == "Claim" and set(matrix.titles[1:]) == {
        "Test CPU, 2 cores",
        "Other CPU, 2 cores",
    }
    verdicts = dict(zip(matrix.titles[1:], lines_of(block)[MATMUL_ADD][1:], strict=True))
    assert verdicts == {"Test CPU, 2 cores": "holds", "Other CPU, 2 cores": "does not hold"}


def test_a_claim_has_its_answer_in_a_sentence_and_the_rows_folded() -> None:
    block = findings_block(of(gaining("one"), gaining("two", 1200, machine=OTHER)))
    section = block.partition("{ #matmul-add-worth }")[2].partition("\n### ")[0]
    answer = section.strip().splitlines()[0]
    assert answer == (
        "Holds on Test CPU, 2 cores (1 ratio of time of 0.90x); does not hold on Other CPU, "
        "2 cores (1 ratio of time of 1.20x)."
    )
    folded = section.partition("<details")[2]
    assert "[one](runs/one.md)" in folded and "faster at Toy (-10%)" in folded
    assert "faster at Toy" not in section.partition("<details")[0]


def test_the_quiet_run_that_resolves_most_answers_and_the_others_are_counted() -> None:
    quiet = gaining("quiet")
    noisy = replace(
        gaining("noisy", [600, 2000] * 5),
        rows=tuple({**row, "samples_ns": [600, 2000] * 5} for row in gaining("noisy", 1200).rows),
    )
    again = gaining("again", 1200, created_utc="2020-01-01T00:00:00Z")
    found = {finding.key: said for finding, said in answers_of([noisy, again, quiet])}
    (answer,) = found["matmul_add_worth"]
    assert answer.run.name == "quiet"
    assert [run.name for run, _ in answer.others] == ["again", "noisy"]
    block = findings_block(of(noisy, again, quiet))
    assert "- *does not hold*: [again](runs/again.md)" in block
    assert "[noisy](runs/noisy.md) (noisy)" in block


def test_published_rows_are_asked_on_their_own_page_alone() -> None:
    paper = published_run(
        [("Toy", "attention-fused-parallel", 1000), ("Toy", "attention-flash-parallel", 1500)]
    )
    recorded = block_run([make("attention-fused-parallel", 2_000_000), *floor_of_flash()], "one")
    assert "Published" not in findings_block(of(recorded, paper))
    assert findings_block(of(paper)) == NO_SOURCE
    page = published_block(of(recorded, paper))
    line = lines_of(page)[FLASH]
    assert line[1:] == ["holds", "does not hold"]
    section = page.partition("{ #flash-never-wins }")[2].partition("\n### ")[0]
    assert "> Flash attention never wins on a CPU." in section
    assert "Published rows: holds. Recorded rows: does not hold on Test CPU, 2 cores" in section
    assert "[Sentences](findings.md#flash-never-wins)" in section
    assert published_block(of(recorded)) == NOTHING_PUBLISHED + "\n"


def test_a_suite_has_its_own_claims_with_links_into_the_whole() -> None:
    inputs = of(gaining("one"))
    block = findings_block(inputs, "block", "../")
    assert f'<a href="../findings.html#matmul-add-worth">{MATMUL_ADD}</a>' in block
    assert "<details" not in block
    assert findings_block(inputs, "attention-sweep", "../") == NO_SOURCE


def test_every_published_source_says_where_it_comes_from() -> None:
    published = gather(ROOT / "data/published").runs
    page = published_block(Inputs(Gathered(tuple(published))))
    sources = page.partition("## Where the figures come from")[2].partition("\n## ")[0]
    assert sources.count("\n- ") == len(published)
    # As the notes of the file have it
    assert "device label is wrong in the source" in sources
    assert "one cold run under torch.profiler" in sources
    anchors = re.findall(r"\{ #(\S+) \}$", page, re.MULTILINE)
    assert len(anchors) == len(set(anchors)) > 10


# Worths -------------------------------------------------------------------------------------------


def test_worths_stand_by_machine_and_size() -> None:
    run = make_attribution_run(usual_value, FEW, noise=QUIET)
    away = replace(run, name="away", header={**run.header, "machine": OTHER})
    block = worths_block(of(run, away))
    machines = re.findall(r'<section data-machine="([^"]+)"', block)
    assert sorted(machines) == ["Other CPU, 2 cores", "Test CPU, 2 cores"]
    found = attribution_of(run, run.cases[0])
    assert found is not None
    table = page_tables(block)[0]
    told = table.column("Toy")
    for worth in found.worths:
        assert told[worth.printed_name].removesuffix(" ~") == text(worth.phi.value)
    assert told["All together"] == text(found.total.value)
    assert float(table.raw[-1][1] or 0) == found.top_ns
    largest = max(found.worths, key=lambda worth: worth.phi.value)
    assert table.lines[0][0] == largest.printed_name and table.marks[0][1] == "better"
    assert "#case-toy" in block and worths_block(of()) == NOTHING_RECORDED + "\n"


def test_a_factor_without_an_effect_is_no_figure() -> None:
    run = make_attribution_run(
        lambda point: usual_value({**point, "simd": 0}),
        FEW,
        program=lambda point: (point["folding"], point["threads"]),
    )
    assert "SIMD" not in page_tables(worths_block(of(run)))[0].column("Toy")


# Kernels ------------------------------------------------------------------------------------------


def kernel_document(**changes: Any) -> dict[str, Any]:
    """What the kernels' command writes: two kernels of a product and one of a softmax."""
    row: dict[str, Any] = {
        "op": "matmul",
        "kernel": "matmul_scalar",
        "shape": "8x16",
        "dtype": "float32",
        "threads": 1,
        "n_calls": 20,
        "median_ns": 4096.0,
        "min_ns": 4000,
        "flops": 4096,
        "bytes": 1536,
        "bound": "multiply-adds",
        "share_of_ceiling": 0.01,
    }
    fast = row | {"kernel": "matmul_packed_simd", "median_ns": 1024.0, "share_of_ceiling": 0.04}
    soft = row | {"op": "softmax", "kernel": "softmax_simd", "flops": None, "bound": "memory"}
    return {
        "schema": SCHEMA,
        "created_utc": "2026-01-02T03:04:05+00:00",
        "command": ["python", "-m", "ablation_kernels", "--all"],
        "machine": make_header()["machine"],
        "threads": 2,
        "rows": [row, fast, soft],
    } | changes


def recorded_kernels(folder: Path, **changes: Any) -> Path:
    """A file of the kernels' command."""
    path = folder / "test.json"
    path.write_text(json.dumps(kernel_document(**changes)))
    return path


def test_kernels_stand_by_op_and_shape_the_fastest_first(tmp_path: Path) -> None:
    record = read_kernels(recorded_kernels(tmp_path))
    idea = {"name": "matmul_packed_simd", "op": "matmul", "idea": "own tiles", "provider": "avx2"}
    block = kernels_block(of(kernels=[idea], kernel_records=[record]))
    table = page_tables(block)[0]
    # 4096 FLOPs in 1024 ns, 1536 bytes in 4096 ns
    assert [line[:6] for line in table.lines] == [
        ["matmul", "matmul_packed_simd", "8x16", "1.0 µs", "4.0 GFLOP/s", "4.0%"],
        ["matmul", "matmul_scalar", "8x16", "4.1 µs", "1.0 GFLOP/s", "1.0%"],
        ["softmax", "softmax_simd", "8x16", "4.1 µs", "0.4 GB/s", "1.0%"],
    ]
    assert [marks[1] for marks in table.marks] == ["better", "", ""]
    assert "by <code>python -m ablation_kernels" in block and NO_RECORD not in block
    assert "<summary>What each kernel does</summary>" in block and "own tiles" in block


def test_without_a_record_the_page_says_how_to_make_one() -> None:
    block = kernels_block(of())
    assert NO_RECORD in block and NO_WHEEL in block
    assert "python -m ablation_kernels --all --json data/kernels/" in block


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema 2, this program reads 1"),
        ({"threads": 0}, "threads: 0, expected an integer above 0"),
        ({"rows": [{"op": "matmul"}]}, "rows: "),
        ({"machine": {"cpu_model": "x"}}, "machine.cores: "),
    ],
)
def test_a_damaged_record_names_its_fault(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = recorded_kernels(tmp_path, **changes)
    with pytest.raises(UsageError, match=re.escape(f"{path}: {message}")):
        read_kernels(path)
    path.write_text("[")
    with pytest.raises(UsageError, match="no JSON"):
        read_kernels(path)


@pytest.mark.parametrize("path", sorted((ROOT / "data/kernels").glob("*.json")), ids=str)
def test_recorded_kernels_are_read(path: Path) -> None:
    assert read_kernels(path).rows


# Refused fusions ----------------------------------------------------------------------------------


def test_reasons_are_those_that_the_passes_print() -> None:
    examples = pytest.importorskip("ablation_executor.refused_fusions").EXAMPLES
    block = refused_block(of())
    summaries = re.findall(r"<summary>(\S+): (\d+) reasons?</summary>", block)
    counts = Counter(example.pass_name for example in examples)
    assert {name: int(count) for name, count in summaries} == counts
    for example in examples:
        graph, place = example.run()
        assert f"```text\n{graph}\n```" in block
        assert code(f"{place.kind} {place.name}: {place}") in block


def test_without_the_executor_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablation_report.site.pages.refused._examples", lambda: None, raising=True)
    assert refused_block(of()) == NO_EXECUTOR + "\n"

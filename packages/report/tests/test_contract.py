"""The contract between the bench, which writes rows, and the report, which reads them.

`ABLATION_DAMAGES` sets how many random damages are tried, `ABLATION_SEED` the first seed.
"""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from mutations import RUNS, change_value, present
from samples import make_attention_row, make_header, make_row, make_untimed, write_run

from ablation_report.load import read
from ablation_report.reading import SchemaError
from ablation_report.rows import REASONS, ROW_COLUMNS, STATUSES

N_DAMAGES = int(os.environ.get("ABLATION_DAMAGES", "2000"))
FIRST_SEED = int(os.environ.get("ABLATION_SEED", "0"))
N_GROUPS = 8


def samples() -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """A header and rows of every suite that was recorded, and of every status."""
    found = [present(name, n_rows) for name, n_rows, _ in RUNS]
    for make in (make_row, make_attention_row):
        rows = [make()]
        for status in STATUSES[1:]:
            reason = REASONS.get(status, ("ValueError",))[0]
            row = make_untimed(make(variant=status), status, reason)
            rows.append(row | {"case": rows[0]["case"]})
        found.append((make_header(rows), rows))
    return found


SAMPLES = samples()


def test_the_samples_are_of_every_suite_and_status() -> None:
    every = [row for _, rows in SAMPLES for row in rows]
    assert {row["status"] for row in every} == set(STATUSES)
    assert len({row["suite"] for row in every}) == 5


def test_sound_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    for number, (header, rows) in enumerate(SAMPLES):
        folder = write_run(tmp_path / str(number), rows, header)
        (run,) = read(folder)
        assert [{name: row[name] for name in ROW_COLUMNS} for row in run.rows] == rows


@pytest.mark.parametrize("group", range(N_GROUPS))
def test_a_damaged_row_is_refused_by_its_place_or_read_as_it_stands(
    tmp_path: Path, group: int
) -> None:
    refused = 0
    for seed in range(FIRST_SEED + group, FIRST_SEED + N_DAMAGES, N_GROUPS):
        generator = random.Random(seed)
        header, rows = copy.deepcopy(generator.choice(SAMPLES))
        line = generator.randrange(len(rows))
        told = change_value(generator, rows[line])
        folder = write_run(tmp_path / str(group), rows, header)
        written = json.loads((folder / "rows.jsonl").read_text().splitlines()[line])
        try:
            (run,) = read(folder)
        except SchemaError as error:
            refused += 1
            for problem in error.problems:
                assert problem.path == folder / "rows.jsonl", (seed, told, str(problem))
                assert problem.line is not None and problem.message, (seed, told, str(problem))
                is_whole = problem.column is None
                assert not is_whole or "nested" in problem.message or "digits" in problem.message
            continue
        # What may stand there is given as it stands, and nothing else has changed
        assert len(run.rows) == len(rows), (seed, told)
        row = run.rows[line]
        found = {name: row[name] for name in ROW_COLUMNS if name in row}
        assert found == written, (seed, told)
    assert refused > N_DAMAGES / N_GROUPS / 4

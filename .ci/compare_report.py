"""Lists every recorded figure that the report gives otherwise than at an earlier commit.

`python .ci/compare_report.py COMMIT` exports all recorded runs and published files of that commit
by the report of that commit and by this one, and compares row by row. It prints a line for each
figure that changed, with the reason where one is declared in `REASONS`. It ends with status 1 if a
figure changed without a declared reason, or if a row is missing.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
Key = tuple[str, str, str, str]

# What was the time is a second figure, and is computed as before.
_TIME = "a time is the first quartile over rounds of each round's least sample"
_RATIO = "a ratio is the quotient of two times over common rounds"
REASONS = {
    **dict.fromkeys(("low_ns", "high_ns", "gflops", "gflops_convention", "is_noisy"), _TIME),
    **dict.fromkeys(("of_ceiling", "of_sgemm", "least_gb_per_s"), _TIME),
    **dict.fromkeys(("vs_baseline", "vs_parent"), _RATIO),
    "floor": "a floor is the largest distance of the twins' ratio from 1",
}
NEW = "the earlier export left it out for this suite, or for published figures"
# What an earlier report called a column of the export.
RENAMED = {
    "gflops_fa": "gflops_convention",
    "mem_op_peak_bytes": "memory_peak_bytes",
    "mem_scratch_bytes": "memory_scratch_bytes",
    "mem_saved_bytes": "memory_saved_bytes",
}
NOT_COMPARED = {"run", "config", "variant", "phase", "suite", "case", "group", "reason"}


def export(sources: Path, data: Path) -> list[dict[str, str]]:
    """The rows of `ablation-report export` by the report in a folder of sources."""
    command = [sys.executable, "-m", "ablation_report", "export"]
    command += [str(data / "runs"), str(data / "published")]
    environment = {**os.environ, "PYTHONPATH": str(sources)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return list(csv.DictReader(io.StringIO(done.stdout)))


def key_of(row: dict[str, str]) -> Key:
    """Run, case, variant and phase; the block's case is its config in both."""
    case = row["config"] or row.get("case", "")
    return row["run"], case, row["variant"], row.get("phase") or "fwd"


def is_same(old: str, new: str) -> bool:
    """True for equal text, and for numbers that differ by rounding."""
    if old.lower() == new.lower():
        return True
    try:
        return math.isclose(float(old), float(new), rel_tol=1e-9)
    except ValueError:
        return False


def main() -> int:
    """Compare, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="the earlier commit")
    parser.add_argument("--quiet", action="store_true", help="print the counts alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        wanted = ["packages/report/src", "data"]
        archive = subprocess.run(
            ["git", "archive", options.commit, *wanted], cwd=ROOT, capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
            packed.extractall(temporary, filter="data")
        before = Path(temporary)
        old = export(before / "packages/report/src", before / "data")
        new: dict[Key, list[dict[str, str]]] = {}
        for row in export(ROOT / "packages/report/src", before / "data"):
            new.setdefault(key_of(row), []).append(row)
    counts: Counter[tuple[str, str]] = Counter()
    for row in old:
        key = key_of(row)
        if not new.get(key):
            counts["row", "missing"] += 1
            print(f"{' | '.join(key)}: missing")
            continue
        # A published source may have a row twice
        found = new[key].pop(0)
        for column, value in row.items():
            name = RENAMED.get(column, column)
            if column in NOT_COMPARED or is_same(value, found.get(name, "")):
                continue
            reason = REASONS.get(column, "no reason is declared")
            if value == "":
                reason = NEW
            counts[column, reason] += 1
            if not options.quiet:
                change = f"{value or '-'} -> {found.get(name) or '-'}"
                print(f"{' | '.join(key)}: {column} {change}: {reason}")
    print(f"{len(old)} rows compared")
    for (column, reason), count in sorted(counts.items()):
        print(f"{count} x {column}: {reason}")
    return int(any(r in ("missing", "no reason is declared") for _, r in counts))


if __name__ == "__main__":
    sys.exit(main())

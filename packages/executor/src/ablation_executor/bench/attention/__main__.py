"""`python -m ablation_executor.bench.attention`: attention alone, case by case."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ablation_kernels

from ..configs import UsageError
from ..interrupt import EXIT_FAILED, EXIT_USAGE, Interrupted, interrupt, shown
from ..machine import affinity_cores, busy_share, describe_machine, git_sha, versions
from ..options import MAX_SEED, max_threads, memory_size, seconds, whole_number
from ..progress import duration
from ..record import Row, new_run_id, utc_now
from ..run import BUSY_SHARE, PROVIDER_KEYS
from ..stats import median
from .cases import Case, grid
from .implementations import Implementation, implementations
from .record import SCHEMA_VERSION, SUITE, AttentionFolder
from .schedule import (
    MATERIALIZED_FLOPS_PER_S,
    TILED_FLOPS_PER_S,
    CaseRun,
    Settings,
    estimated_s,
)
from .team import Team

DEFAULT_SEQ_LENS = "128,256,512,1024,2048,4096,8192"
DEFAULT_HEADS = "1,4,12"
DEFAULT_HEAD_DIM = 64
MAX_SEQ_LEN, MAX_HEADS, MAX_HEAD_DIM = 1 << 17, 1024, 1024
DEFAULT_ROUNDS, DEFAULT_MIN_ROUNDS = 10, 3
DEFAULT_BUDGET_S = 4.0
ASSUMED = (
    f"if a core reaches {TILED_FLOPS_PER_S / 1e9:.0f} GFLOP/s, "
    f"and {MATERIALIZED_FLOPS_PER_S / 1e9:.0f} over whole scores"
)


def whole_numbers(low: int, high: int) -> Callable[[str], list[int]]:
    """A parser of comma-separated integers in [low, high]; one named twice counts once."""
    one = whole_number(low, high)

    def parse(text: str) -> list[int]:
        numbers = [one(part.strip()) for part in text.split(",")]
        return list(dict.fromkeys(numbers))

    return parse


def make_parser() -> argparse.ArgumentParser:
    """The argument parser of the attention bench."""
    parser = argparse.ArgumentParser(
        prog="ablation-attention",
        allow_abbrev=False,
        description="Measure attention alone, float32 of shape (1, heads, seq_len, head_dim): "
        "PyTorch's scaled_dot_product_attention, whole scores in memory, and every parallel "
        "attention kernel, each checked against a float64 reference before it is timed.",
    )
    add, cores = parser.add_argument, max_threads()
    sizes, heads = whole_numbers(1, MAX_SEQ_LEN), whole_numbers(1, MAX_HEADS)
    threads = whole_numbers(1, cores)
    add("--seq-lens", type=sizes, metavar="A,B", help=f"sequence lengths ({DEFAULT_SEQ_LENS})")
    add("--heads", type=heads, metavar="A,B", help=f"numbers of heads ({DEFAULT_HEADS})")
    add("--head-dim", type=whole_number(1, MAX_HEAD_DIM), metavar="N", help=f"({DEFAULT_HEAD_DIM})")
    add("--causal", action="store_true", help="only with the causal mask (default: both)")
    add("--full", action="store_true", help="only without a mask (default: both)")
    add("--threads", type=threads, metavar="A,B", help="numbers of threads (1 and all cores)")
    rounds = whole_number(3, 10_000)
    add("--rounds", type=rounds, metavar="N", help=f"rounds of a case at most ({DEFAULT_ROUNDS})")
    least = f"rounds of a case at least, whatever its budget ({DEFAULT_MIN_ROUNDS})"
    add("--min-rounds", type=rounds, metavar="N", help=least)
    add(
        "--budget",
        type=seconds,
        metavar="S",
        help=f"seconds of a case, beyond which it has fewer rounds ({DEFAULT_BUDGET_S:g})",
    )
    add("--seed", type=whole_number(0, MAX_SEED), metavar="N", help="of inputs and order (0)")
    add("--out", type=Path, metavar="DIR", help="the run's folder (default: data/runs/<time>-<id>)")
    add("--mem-limit", type=memory_size, metavar="SIZE", help="memory of a case: 8GiB")
    return parser


def make_cases(options: argparse.Namespace) -> list[Case]:
    """The grid that was asked for."""
    masks = [causal for causal in (False, True) if (options.causal if causal else options.full)]
    return grid(
        options.seq_lens or whole_numbers(1, MAX_SEQ_LEN)(DEFAULT_SEQ_LENS),
        options.heads or whole_numbers(1, MAX_HEADS)(DEFAULT_HEADS),
        options.head_dim or DEFAULT_HEAD_DIM,
        masks or [False, True],
        options.threads or sorted({1, affinity_cores()}),
    )


def make_info(
    cases: Sequence[Case], ways: Sequence[Implementation], settings: Settings
) -> dict[str, Any]:
    """What run.json holds at the start."""
    build_info = dict(ablation_kernels.build_info())
    return {
        "schema_version": SCHEMA_VERSION,
        "suite": SUITE,
        "run_id": new_run_id(),
        "created_utc": utc_now(),
        "finished_utc": None,
        "elapsed_s": None,
        "command": ["ablation-attention", *sys.argv[1:]],
        "versions": versions(),
        "machine": describe_machine(),
        "providers": {key: build_info.get(key) for key in PROVIDER_KEYS},
        "build_info": build_info,
        "impls": [way.name for way in ways],
        "n_cases": len(cases),
        "seed": settings.seed,
        "rounds": settings.rounds,
        "min_rounds": settings.min_rounds,
        "budget_s": settings.budget_s,
        "git_sha": git_sha(),
    }


def summary(case: Case, rows: Sequence[Row]) -> str:
    """A case in one line: GFLOP/s by implementation, or the status."""
    parts = []
    for row in rows:
        figure = str(row["status"])
        if row["status"] == "ok":
            figure = f"{case.flops_useful / median(row['samples_ns']):.1f}"
        parts.append(f"{row['impl'].removesuffix('_simd_parallel')} {figure}")
    return f"{case.name}: " + ", ".join(parts) + " GFLOP/s"


def measure(
    folder: AttentionFolder,
    cases: Sequence[Case],
    ways: Sequence[Implementation],
    settings: Settings,
) -> list[Row]:
    """Measure every case and write its rows; run.json is brought up to date whatever happens."""
    start = time.monotonic()
    rows: list[Row] = []
    info = folder.info
    try:
        with tempfile.TemporaryDirectory(prefix="ablation-attention-") as temporary:
            scratch = Path(temporary)
            for threads in dict.fromkeys(case.threads for case in cases):
                busy = busy_share()
                if busy > BUSY_SHARE:
                    print(f"other programs use {busy:.0%} of the processor: times will be noisy")
                team = Team([way.name for way in ways], threads, scratch)
                try:
                    for case in (case for case in cases if case.threads == threads):
                        done = CaseRun(case, ways, team, settings, scratch).run(info["run_id"])
                        folder.append(done)
                        rows += done
                        elapsed = duration(time.monotonic() - start)
                        print(f"[{elapsed}] {summary(case, done)}", flush=True)
                        for row in done:
                            if row["status"] != "ok":
                                print(f"  {row['impl']}: {row['status']}, {row['reason']}")
                finally:
                    team.close()
        info["finished_utc"] = utc_now()
    finally:
        info["elapsed_s"] = round(time.monotonic() - start, 3)
        folder.write_info()
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, with the meanings of ablation-bench's."""
    options = make_parser().parse_args(arguments)
    cases, ways = make_cases(options), implementations()
    rounds = options.rounds or DEFAULT_ROUNDS
    settings = Settings(
        options.seed or 0,
        rounds,
        min(rounds, options.min_rounds or DEFAULT_MIN_ROUNDS),
        options.budget or DEFAULT_BUDGET_S,
        options.mem_limit,
    )
    info = make_info(cases, ways, settings)
    path = options.out or Path("data") / "runs" / info["run_id"]
    rows: list[Row] = []
    try:
        folder = AttentionFolder(path, info)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)
        about = duration(estimated_s(cases, ways, settings))
        print(f"{len(cases)} cases of {len(ways)} implementations, about {about} {ASSUMED}")
        rows = measure(folder, cases, ways, settings)
    except (UsageError, OSError) as error:
        print(f"ablation-attention: error: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    except Interrupted as interrupted:
        print(f"interrupted; rows so far: {shown(folder.rows_path)}")
        return 128 + interrupted.number
    print(f"rows: {shown(folder.rows_path)}")
    print(f"tables: ablation-report attention {shlex.quote(shown(folder.path))}")
    return EXIT_FAILED if any(row["status"] in ("incorrect", "error") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

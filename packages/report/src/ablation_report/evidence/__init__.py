"""How the definitions of `stats` were chosen, computed from recorded rows: how often a candidate
calls one program under two names different, which differences it calls, and how far two runs agree.

Everything random is drawn from a fixed seed, so that one set of rows gives one set of figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ablation_report.evidence.between import RunPair, TimeSpread, run_pairs, time_spreads
from ablation_report.evidence.candidates import CANDIDATES
from ablation_report.evidence.verdicts import Quality, qualities
from ablation_report.run import Run


@dataclass(frozen=True)
class Evidence:
    """What recorded rows say of each candidate, in the order of `CANDIDATES`; of each estimate of a
    time; and of each two runs of one tree that followed each other."""

    qualities: tuple[Quality, ...]
    times: tuple[TimeSpread, ...]
    pairs: tuple[RunPair, ...]


def evidence(runs: Sequence[Run]) -> Evidence:
    """Return what some runs say; published files say nothing, they have no rounds."""
    found = (run for run in runs if not run.is_published and run.rows)
    # What is drawn at random does not depend on the order of the runs
    recorded = sorted(found, key=lambda run: run.name)
    return Evidence(qualities(recorded, CANDIDATES), time_spreads(recorded), run_pairs(recorded))

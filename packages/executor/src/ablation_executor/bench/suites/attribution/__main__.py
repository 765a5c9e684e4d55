"""Plans the programs of cases: the process that `planning.plans_of` starts."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from ...case import case_of
from .planning import plan_case


def main() -> None:
    """Plan cases, and write what was found to a file."""
    parser = argparse.ArgumentParser(prog=__package__)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("labels", nargs="+")
    options = parser.parse_args()
    plans = {
        label: asdict(plan_case(case_of(label), options.limit, options.seed))
        for label in options.labels
    }
    options.out.write_text(json.dumps(plans), "utf-8")


main()

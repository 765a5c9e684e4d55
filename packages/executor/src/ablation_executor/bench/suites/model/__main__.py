"""Plans cases: the process that `planning.plans_of` starts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .planning import told_of


def main() -> None:
    """Plan cases, and write what was found to a file."""
    parser = argparse.ArgumentParser(prog=__package__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("labels", nargs="+")
    options = parser.parse_args()
    plans = {label: told_of(label, options.seed) for label in options.labels}
    options.out.write_text(json.dumps(plans), "utf-8")


main()

"""The command `ablation-report site`: writes the site's pages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ablation_report.site import build_site, installed_kernels
from ablation_report.sources import gather


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("paths", type=Path, nargs="+", help="runs, published files, folders")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="the hand-written pages")
    parser.add_argument("--out", type=Path, default=Path("build/docs/pages"))


def run(options: argparse.Namespace) -> int:
    """Write the pages; return 0, or 1 where a file could not be read and was left out of them.

    Raises:
        UsageError: the pages cannot be written there, or not without what is missing.
        OSError: a path is missing, or holds nothing to read.
    """
    gathered = gather(*options.paths)
    for problem in gathered.problems:
        print(f"left out: {problem}", file=sys.stderr)
    for note in gathered.notes:
        print(note, file=sys.stderr)
    config = build_site(
        gathered, options.root, options.docs, options.out, installed_kernels(), options.paths
    )
    print(f"wrote {options.out}, {config}")
    return 1 if gathered.problems else 0

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
    parser.add_argument("--out", type=Path, default=Path("build/site-docs"))


def run(options: argparse.Namespace) -> int:
    """Write the pages; return 0, or 1 when a path is missing. Bad files become part of a page."""
    try:
        gathered = gather(*options.paths)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    for problem in gathered.problems:
        print(f"left out: {problem}", file=sys.stderr)
    config = build_site(gathered, options.root, options.docs, options.out, installed_kernels())
    print(f"wrote {options.out}, {config}")
    return 0

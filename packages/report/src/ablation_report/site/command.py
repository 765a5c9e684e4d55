"""The command `ablation-report site`: writes the site's pages and the README's blocks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ablation_report.site import build_site, readme, site_inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("paths", type=Path, nargs="+", help="runs, published files, folders")
    parser.add_argument(
        "--mine",
        type=Path,
        nargs="*",
        default=(),
        help="runs of your machine; pages mark them as yours",
    )
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's root folder")
    parser.add_argument(
        "--docs", type=Path, default=Path("docs"), help="folder of the hand-written pages"
    )
    parser.add_argument("--readme", type=Path, help="README whose generated blocks are updated")
    out = Path("build/docs/pages")
    parser.add_argument(
        "--out", type=Path, default=out, help="folder to write (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Write the pages; return 0, or 1 where a file could not be read and was left out of them.

    Raises:
        UsageError: the pages cannot be written there, or not without what is missing.
        OSError: a path is missing, or holds nothing to read.
    """
    paths = (*options.paths, *options.mine)
    inputs = site_inputs(options.paths, options.mine, options.root)
    for problem in inputs.gathered.problems:
        print(f"left out: {problem}", file=sys.stderr)
    for note in inputs.gathered.notes:
        print(note, file=sys.stderr)
    config = build_site(inputs, options.root, options.docs, options.out, paths)
    print(f"wrote {options.out}, {config}")
    if options.readme and readme.refresh(options.readme, inputs):
        print(f"wrote {options.readme}")
    return 1 if inputs.gathered.problems else 0

"""Run the Python examples of Markdown files: `run_examples.py README.md docs/quick-start.md`.

The blocks of a file share their names, as a reader types them one after another. They run in a
temporary folder with `data` of this repository in it, so that files that they write are not left.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(path: Path) -> str:
    """Return the Python blocks of a file, each at the lines where it stands."""
    text = path.read_text(encoding="utf-8")
    source, line = "", 0
    for block in BLOCK.finditer(text):
        start = text.count("\n", 0, block.start(1))
        source += "\n" * (start - line) + block[1]
        line = start + block[1].count("\n")
    return source


def run(path: Path) -> None:
    """Run the examples of a file; an error of theirs comes through, with its line."""
    code = compile(examples(path), str(path), "exec")
    exec(code, {"__name__": "__main__"})


def main(paths: list[Path]) -> None:
    """Run files in the order given, in one temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(ROOT / "data")
        os.chdir(folder)
        for path in paths:
            print(f"examples of {path.relative_to(ROOT)}", flush=True)
            run(path)
        os.chdir(ROOT)


if __name__ == "__main__":
    main([Path(name).resolve() for name in sys.argv[1:]])

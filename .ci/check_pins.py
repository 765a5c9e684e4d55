"""Check that constraints.txt pins every package that is installed with this interpreter."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
# It comes with the environment, from inside the tool that made that
OWN_TOOLS = {"pip"}


def canonical(name: str) -> str:
    """Write a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    """Return the versions that constraints.txt pins, by package."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("#")[0].strip().partition("==") for line in lines)
    return {canonical(name): version for name, equals, version in pairs if equals}


def own_packages() -> set[str]:
    """Return the packages that this tree builds."""
    files = sorted(ROOT.glob("packages/*/pyproject.toml"))
    projects = (tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in files)
    return {canonical(project["name"]) for project in projects}


def problems() -> list[str]:
    """Return one sentence for each package that is not pinned, or not at this version."""
    found = []
    pinned, known = pins(), own_packages() | OWN_TOOLS
    for distribution in metadata.distributions():
        name = canonical(distribution.metadata["Name"])
        # A build for one kind of processor is the same version
        version = distribution.version.partition("+")[0]
        if name not in known and pinned.get(name) != version:
            pin = f"pins {pinned[name]}" if name in pinned else "has no pin"
            found.append(f"{name} {distribution.version} is installed, constraints.txt {pin}")
    return sorted(found)


if __name__ == "__main__":
    faults = problems()
    for sentence in faults:
        print(sentence, file=sys.stderr)
    sys.exit(1 if faults else 0)

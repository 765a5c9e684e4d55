"""Check what sdists and wheels hold: `check_distributions.py FILE ...`.

An sdist has every file that git tracks below its package. A wheel has those of the import package,
and the kernels' wheel one native module. Both have the license, and nothing else.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
NATIVE = re.compile(r"_native\.[\w-]+\.so")
# What the build backends write themselves, and the .gitignore of the repository that one adds
MADE_IN_SDIST = {"PKG-INFO", ".gitignore"}
MADE_IN_WHEEL = {"METADATA", "RECORD", "WHEEL"}
MAY_BE_IN_WHEEL = {"entry_points.txt"}


def tracked(folder: Path) -> set[str]:
    """Return the files that git tracks below a folder, relative to it."""
    command = ["git", "-C", str(folder), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(filter(None, listed.split("\0")))


def package_of(path: Path) -> str:
    """Return the folder below packages/ that a file is built from."""
    return path.name.split("-")[0].removeprefix("ablation_")


def sdist_problems(path: Path) -> list[str]:
    """Return a sentence for each file that an sdist lacks, or has too many."""
    with tarfile.open(path) as archive:
        names = [member.name for member in archive if not member.isdir()]
    held = {name.partition("/")[2] for name in names}
    expected = tracked(ROOT / "packages" / package_of(path))
    return differences(path, held - MADE_IN_SDIST, expected)


def wheel_problems(path: Path) -> list[str]:
    """Return a sentence for each file that a wheel lacks, or has too many."""
    name = package_of(path)
    with zipfile.ZipFile(path) as archive:
        names = {info.filename for info in archive.infolist() if not info.is_dir()}
    info = "-".join(path.name.split("-")[:2]) + ".dist-info"
    held = {word.removeprefix(f"{info}/") for word in names}
    module = f"ablation_{name}"
    native = {word for word in held if NATIVE.fullmatch(word.removeprefix(f"{module}/"))}
    expected = {f"{module}/{word}" for word in tracked(ROOT / "packages" / name / "src" / module)}
    expected |= MADE_IN_WHEEL | {"licenses/LICENSE", f"{module}/py.typed"}
    found = differences(path, held - native - MAY_BE_IN_WHEEL, expected)
    if len(native) != (name == "kernels"):
        found.append(f"{path.name}: native modules: {', '.join(sorted(native)) or 'none'}")
    return found


def differences(path: Path, held: set[str], expected: set[str]) -> list[str]:
    """Return a sentence for each name that is in one of two sets alone."""
    lacking = [f"{path.name}: lacks {name}" for name in sorted(expected - held)]
    return lacking + [f"{path.name}: has {name}" for name in sorted(held - expected)]


def problems(path: Path) -> list[str]:
    """Return one sentence for each fault of a distribution."""
    return wheel_problems(path) if path.suffix == ".whl" else sdist_problems(path)


if __name__ == "__main__":
    faults = [fault for name in sys.argv[1:] for fault in problems(Path(name))]
    for sentence in faults:
        print(sentence, file=sys.stderr)
    if not faults:
        print(f"{len(sys.argv) - 1} distributions hold what they should")
    sys.exit(1 if faults else 0)

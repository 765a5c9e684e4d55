"""Check that versions, the ranges that name them, pins, changelogs and Pythons agree."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
CLASSIFIER = re.compile(r"Programming Language :: Python :: (\d+\.\d+)")
MATRIX = re.compile(r"^ +python: \[(.*)\]$", re.MULTILINE)
STATED_VERSION = re.compile(r"^__version__ = \"(.*)\"$", re.MULTILINE)
CHANGELOG_HEADING = re.compile(r"^## \[?v?(?P<version>\d[^\s\]]*)", re.MULTILINE)


def requirements(content: dict[str, Any]) -> list[Requirement]:
    """Return what a pyproject.toml requires: to build, to run, and for its extras."""
    project = content["project"]
    extras: dict[str, list[str]] = project.get("optional-dependencies", {})
    groups = [content["build-system"]["requires"], project.get("dependencies", [])]
    return [Requirement(line) for group in (*groups, *extras.values()) for line in group]


def pins() -> dict[str, Version]:
    """Return the versions pinned in constraints.txt by normalized name."""
    found: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, equals, version = line.partition("#")[0].strip().partition("==")
        if equals:
            found[canonicalize_name(name)] = Version(version)
    return found


def python_problems(projects: dict[str, dict[str, Any]]) -> list[str]:
    """Return a sentence for each package whose Pythons are not those that CI tests."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    matrix = MATRIX.search(workflow)
    tested = re.findall(r"\d+\.\d+", matrix[1]) if matrix else []
    found = []
    for folder, project in projects.items():
        named = CLASSIFIER.findall("\n".join(project["classifiers"]))
        if named != tested:
            both = f"name Python {', '.join(named)}, CI tests {', '.join(tested)}"
            found.append(f"packages/{folder}: the classifiers {both}")
        if project["requires-python"] != f">={named[0] if named else None}":
            needs = project["requires-python"]
            found.append(f"packages/{folder}: requires-python is {needs}, the classifiers differ")
    return found


def problems(tags: list[str]) -> list[str]:
    """Return one sentence for each disagreement; a tag has to name a package's own version."""
    contents = {
        path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))
        for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
    }
    projects = {folder: content["project"] for folder, content in contents.items()}
    found = []
    own: dict[str, Version] = {}
    for folder, project in projects.items():
        if "version" not in project:
            found.append(f"packages/{folder}: pyproject.toml has no static version")
            continue
        own[canonicalize_name(project["name"])] = Version(project["version"])
        module = ROOT / "packages" / folder / "src" / f"ablation_{folder}" / "__init__.py"
        stated = STATED_VERSION.search(module.read_text(encoding="utf-8"))
        if stated is not None and stated[1] != project["version"]:
            found.append(f"packages/{folder}: __version__ is {stated[1]}, not {project['version']}")
        changelog = (ROOT / "packages" / folder / "CHANGELOG.md").read_text(encoding="utf-8")
        newest = CHANGELOG_HEADING.search(changelog)
        if newest is None or Version(newest["version"]) != Version(project["version"]):
            newest_version = newest["version"] if newest else "none"
            found.append(
                f"packages/{folder}: the changelog's newest entry is {newest_version}, "
                f"the version is {project['version']}"
            )
    for folder, content in contents.items():
        for requirement in requirements(content):
            name = canonicalize_name(requirement.name)
            if name not in own and name not in pins():
                found.append(f"packages/{folder}: needs {requirement}, constraints.txt has no pin")
            if name in own and not requirement.specifier:
                found.append(f"packages/{folder}: names no range for {name}")
            for what, versions in (("this tree has", own), ("constraints.txt pins", pins())):
                version = versions.get(name)
                if version and not requirement.specifier.contains(version, prereleases=True):
                    found.append(f"packages/{folder}: needs {requirement}, but {what} {version}")
    found += python_problems(projects)
    released = [f"{folder}-v{project.get('version')}" for folder, project in projects.items()]
    found += [
        f"tag {tag}: this tree releases {', '.join(released)}"
        for tag in tags
        if tag not in released
    ]
    return found


if __name__ == "__main__":
    disagreements = problems(sys.argv[1:])
    for sentence in disagreements:
        print(sentence, file=sys.stderr)
    if not disagreements:
        print("versions, ranges, pins, changelogs and Pythons agree")
    sys.exit(1 if disagreements else 0)

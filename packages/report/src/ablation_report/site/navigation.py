"""The navigation of the site, and the Zensical configuration that has it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation_report.escaping import html_text
from ablation_report.output import UsageError
from ablation_report.site.assets import FAVICON, THEME
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.attribution import attribution_pages
from ablation_report.site.pages.compare import PAGE as COMPARE
from ablation_report.site.pages.suites import all_suites
from ablation_report.site.text import run_page, suite_page

CONFIG_OPENING = "# Written by `ablation-report site`, and replaced by it"
LICENSE, LICENSE_PAGE = "LICENSE", "license.md"
METADATA = "packages/report/pyproject.toml"
# A title and a page, or a title and the entries below it
Entry = Mapping[str, Any]
Titled = tuple[tuple[str, str], ...]

# Hand-written pages by what a reader asks for; one that is not here stands below "More"
QUESTIONS: Titled = (
    ("What is it worth?", "worth.md"),
    ("Ours against others", "league.md"),
    ("Which kernel is fastest?", "kernels.md"),
    ("Models", "models.md"),
    ("Why was my fusion refused?", "refused.md"),
    ("Findings", "findings.md"),
    ("Published figures, reread", "published.md"),
)
START: Titled = (
    ("Quick start", "quick-start.md"),
    ("How to read a result", "reading.md"),
    ("Any model", "any-model.md"),
    ("torch.compile", "torch-compile.md"),
    ("Which tool for which question", "choosing.md"),
    ("Limits", "limits.md"),
    ("Submit a run", "submit.md"),
    ("Questions and answers", "faq.md"),
)
HOW: Titled = (
    ("Method", "method.md"),
    ("Passes", "passes.md"),
    ("Ceilings and roofline", "performance.md"),
    ("Engineering notes", "engineering.md"),
    ("Design", "design.md"),
    ("Development", "development.md"),
    ("Add a model, a pass, a kernel", "extend.md"),
    ("Security", "security.md"),
    ("Glossary", "glossary.md"),
)
REFERENCE: Titled = (
    ("ablation_kernels", "api/kernels.md"),
    ("ablation_executor", "api/executor.md"),
    ("ablation_report", "api/report.md"),
)


def navigation(
    inputs: Inputs, written: Collection[str], changelogs: Mapping[str, str]
) -> list[Entry]:
    """Every page of the site in its place, but those of single runs, which `runs.md` lists.

    `written` are the pages that there are, and `changelogs` is the title of each by its page.
    Titles are HTML, since the theme writes them as they are.
    """
    configs = [{html_text(name): page} for name, page in inputs.configs.items()]
    machines = [{html_text(page.title): page.path} for page in attribution_pages(inputs)]
    data = [
        {"The ladder": "ladder.md"},
        {"Configs": [{"All configs": "configs.md"}, *configs]},
        {"Attribution": machines},
        {"Suites": [{html_text(name): suite_page(name)} for name in all_suites(inputs)]},
        {"Runs and machines": "runs.md"},
        {"Compare two runs": COMPARE},
    ]
    logs = [{title: page} for page, title in changelogs.items()]
    entries: list[Entry] = [
        {"Home": "index.md"},
        {"Answers": _titled(QUESTIONS)},
        {"Start": _titled(START)},
        {"Data": data},
        {"How it works": _titled(HOW)},
        {"Reference": [*_titled(REFERENCE), {"Changelogs": logs}, {"License": LICENSE_PAGE}]},
    ]
    runs = {run_page(run) for run in inputs.gathered.runs}
    pages = {name for name in written if name.endswith(".md")} - runs
    others = sorted(pages.difference(pages_of(entries)))
    more = [{"More": [{_title_of(page): page} for page in others]}]
    return _present([*entries, *more], pages)


def _titled(pages: Titled) -> list[Entry]:
    return [{title: page} for title, page in pages]


def _title_of(page: str) -> str:
    """The title of a page that has no other: its name in words."""
    return html_text(page.removesuffix(".md").replace("/", ": ").replace("-", " ").capitalize())


def _present(entries: Iterable[Entry], pages: Collection[str]) -> list[Entry]:
    """The entries that lead to a page that there is, without titles of nothing."""
    found: list[Entry] = []
    for entry in entries:
        for title, target in entry.items():
            if isinstance(target, str):
                found += [{title: target}] if target in pages else []
            elif below := _present(target, pages):
                found.append({title: below})
    return found


def pages_of(entries: Sequence[Entry]) -> list[str]:
    """The pages that a navigation names, in its order."""
    found: list[str] = []
    for entry in entries:
        for target in entry.values():
            found += [target] if isinstance(target, str) else pages_of(target)
    return found


def refuse_config(base: Path, out: Path) -> None:
    """Raise UsageError where a configuration at `out` would replace one that this did not write, or
    the one at `base` is not to be read."""
    try:
        tomllib.loads(base.read_text(encoding="utf-8"))["project"]
    except (ValueError, KeyError) as error:
        raise UsageError(f"{base}: no configuration of Zensical: {error}") from None
    if out.exists() and not out.read_bytes().startswith(CONFIG_OPENING.encode()):
        raise UsageError(
            f"{out}: exists and was not written by ablation-report site, which writes its "
            "configuration there; --out takes a folder elsewhere"
        )


def write_config(
    base: Path, out: Path, docs: Path, entries: Sequence[Entry], facts: Mapping[str, str]
) -> None:
    """Write the configuration at `base` with this navigation to `out`, beside the folder `docs`.

    Zensical takes relative paths from where the configuration lies, and none that leads upwards.
    `facts` are the entries of `project_facts`.
    """
    config = tomllib.loads(base.read_text(encoding="utf-8"))
    project = config["project"]
    project |= {"docs_dir": docs.name, "nav": list(entries), **facts}
    project.setdefault("theme", {}).update(custom_dir=f"{docs.name}/{THEME}", favicon=FAVICON)
    out.write_text(f"{CONFIG_OPENING}\nproject = {to_toml(project)}\n", encoding="utf-8")


def project_facts(root: Path) -> dict[str, str]:
    """Return what the foot of every page says of the project: the name of its license and the
    address of its sources, from the metadata of the report; what it lacks is left out."""
    found = {}
    license_file, metadata = root / LICENSE, root / METADATA
    if license_file.is_file():
        found["copyright"] = license_file.read_text(encoding="utf-8").partition("\n")[0].strip()
    if metadata.is_file():
        urls = tomllib.loads(metadata.read_text(encoding="utf-8"))["project"].get("urls", {})
        named = {name.casefold(): address for name, address in urls.items()}
        if address := named.get("source") or named.get("repository"):
            found["repo_url"] = address
    return found


def to_toml(value: Any) -> str:
    """Write a value of a TOML file; tables become inline ones."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {to_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    # Strings, numbers and booleans are written alike in both languages
    return json.dumps(value, ensure_ascii=False)

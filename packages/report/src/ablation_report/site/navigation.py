"""The navigation of the site, and the Zensical configuration that has it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation_report.escaping import html_text
from ablation_report.output import UsageError
from ablation_report.site.choose import published, recorded
from ablation_report.site.config_pages import all_configs, config_page_path
from ablation_report.site.kernel_pages import Kernel, by_op, kernel_page_path
from ablation_report.site.suite_pages import recorded_suites, suite_page_path, suite_run_page
from ablation_report.site.text import run_page
from ablation_report.sources import Gathered
from ablation_report.suite_names import SUITES

CONFIG_OPENING = "# Written by `ablation-report site`, and replaced by it"
# A title and a page, or a title and the entries below it
Entry = Mapping[str, Any]


def navigation(
    gathered: Gathered, kernels: Sequence[Kernel] | None, changelogs: Mapping[str, str]
) -> list[Entry]:
    """Every page of the site in its place; `changelogs` is the title of each by its page.

    Titles are HTML, since the theme writes them as they are.
    """
    configs = [{html_text(name): config_page_path(name)} for name in all_configs(gathered)]
    sources = [*recorded(gathered), *published(gathered)]
    groups = [
        {op: [{kernel["name"]: kernel_page_path(kernel["name"])} for kernel in group]}
        for op, group in by_op(kernels or ()).items()
    ]
    return [
        {"Home": "index.md"},
        {"Quick start": "quick-start.md"},
        {
            "Results": [
                {"Findings": "findings.md"},
                {"The ladder": "ladder.md"},
                {"Configs": [{"All configs": "configs.md"}, *configs]},
                {"The league": "league.md"},
                {"Attention alone": "attention.md"},
                {"Further suites": [{name: suite_page_path(name)} for name in SUITES]},
                {
                    "Runs and machines": [
                        {"All runs": "runs.md"},
                        *({html_text(source.label): run_page(source)} for source in sources),
                        *(
                            {html_text(run.label): suite_run_page(run)}
                            for run in recorded_suites(gathered)
                        ),
                    ]
                },
            ]
        },
        {
            "How it works": [
                {"Method": "method.md"},
                {"Passes": "passes.md"},
                {"Kernels": [{"All kernels": "kernels.md"}, *groups]},
                {"Performance notes": "performance.md"},
                {"Design": "design.md"},
                {"Development": "development.md"},
                {"Security": "security.md"},
                {"Glossary": "glossary.md"},
            ]
        },
        {
            "Reference": [
                {"ablation_kernels": "api/kernels.md"},
                {"ablation_executor": "api/executor.md"},
                {"ablation_report": "api/report.md"},
                {"Changelogs": [{title: page} for page, title in changelogs.items()]},
            ]
        },
    ]


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
            "configuration there; give --out another folder to lie in"
        )


def write_config(base: Path, out: Path, docs: Path, entries: Sequence[Entry]) -> None:
    """Write the configuration at `base` with this navigation to `out`, beside the folder `docs`.

    Zensical takes relative paths from where the configuration lies, and none that leads upwards.
    """
    config = tomllib.loads(base.read_text(encoding="utf-8"))
    project = config["project"]
    project |= {"docs_dir": docs.name, "nav": list(entries)}
    out.write_text(f"{CONFIG_OPENING}\nproject = {to_toml(project)}\n", encoding="utf-8")


def to_toml(value: Any) -> str:
    """Write a value of a TOML file; tables become inline ones."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {to_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    # Strings, numbers and booleans are written alike in both languages
    return json.dumps(value, ensure_ascii=False)

"""The navigation of the site, and the Zensical configuration that has it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation_report.escaping import html_text
from ablation_report.output import UsageError
from ablation_report.run import Run
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.attribution import attribution_pages
from ablation_report.site.pages.kernels import by_op, kernel_page_path
from ablation_report.site.pages.suites import all_suites
from ablation_report.site.text import label_of, run_page, suite_page

CONFIG_OPENING = "# Written by `ablation-report site`, and replaced by it"
# A title and a page, or a title and the entries below it
Entry = Mapping[str, Any]


def navigation(inputs: Inputs, changelogs: Mapping[str, str]) -> list[Entry]:
    """Every page of the site in its place; `changelogs` is the title of each by its page.

    Titles are HTML, since the theme writes them as they are.
    """
    configs = [{html_text(name): page} for name, page in inputs.configs.items()]
    groups = [
        {op: [{kernel["name"]: kernel_page_path(kernel["name"])} for kernel in group]}
        for op, group in by_op(inputs.kernels or ()).items()
    ]
    machines = [{html_text(page.title): page.path} for page in attribution_pages(inputs)]
    attribution = [{"Attribution": machines}] if machines else []
    own = [{"Your machine": _runs(inputs.own())}] if inputs.mine else []
    return [
        {"Home": "index.md"},
        {"Quick start": "quick-start.md"},
        {"Any model": "any-model.md"},
        {"torch.compile": "torch-compile.md"},
        {
            "Results": [
                {"Findings": "findings.md"},
                {"The ladder": "ladder.md"},
                {"Configs": [{"All configs": "configs.md"}, *configs]},
                {"The league": "league.md"},
                {"Models": "models.md"},
                *attribution,
                {"Suites": [{html_text(name): suite_page(name)} for name in all_suites(inputs)]},
                {
                    "Runs and machines": [
                        {"All runs": "runs.md"},
                        *_runs(inputs.recorded()),
                        *_runs(inputs.published()),
                    ]
                },
                *own,
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


def _runs(runs: Iterable[Run]) -> list[Entry]:
    return [{html_text(label_of(run)): run_page(run)} for run in runs]


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

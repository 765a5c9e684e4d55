"""What the pages load beside themselves: the chart library, its driver and the styles."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import altair as alt

from ablation_report.charts.theme import BETTER, SAME, WORSE
from ablation_report.site.figures import shared_looks
from ablation_report.site.folder import claim

CHARTS = "charts.js"
OWN = ("tables.js", "choices.js", "compare.js", "iframe-worker.js", "favicon.svg")
# Templates that replace those of the theme; the folder is hidden: it is no part of the site
THEME = ".theme"
TEMPLATES = ("main.html", "partials/copyright.html")
STYLES = "site.css"
# What the styles call the colors of the charts
COLORS: Mapping[str, str] = {"better": BETTER, "worse": WORSE, "same": SAME}
BUNDLE = "vega-bundle.js"
FOLDER = "assets/js"
FAVICON = f"{FOLDER}/favicon.svg"


def write_assets(out: Path) -> None:
    """Write the scripts and styles of the site, and one bundle of Vega for all charts.

    Raises:
        ImportError: vl-convert-python is missing; the extra `site` brings it.
    """
    converter = importlib.import_module("vl_convert")

    claim(out, [f"{FOLDER}/{name}" for name in (*OWN, CHARTS, STYLES, BUNDLE)])
    claim(out, [f"{THEME}/{name}" for name in TEMPLATES])
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    assets = resources.files("ablation_report.site") / "assets"
    copies = {folder / name: assets / name for name in OWN}
    copies |= {out / THEME / name: assets / "theme" / name for name in TEMPLATES}
    for target, source in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with resources.as_file(source) as path:
            shutil.copyfile(path, target)
    colors = "".join(f"--{name}:{color};" for name, color in COLORS.items())
    styles = (assets / STYLES).read_text(encoding="utf-8")
    (folder / STYLES).write_text(f":root{{{colors}}}\n{styles}", encoding="utf-8")
    driver = (assets / CHARTS).read_text(encoding="utf-8")
    looks = json.dumps(shared_looks(), separators=(",", ":"))
    (folder / CHARTS).write_text(f"window.ablationChartConfig={looks};\n{driver}", encoding="utf-8")
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle = converter.javascript_bundle(vl_version=version)
    # Its top-level names would clash with those of the theme's script
    (folder / BUNDLE).write_text(f"(()=>{{{bundle}}})();\n", encoding="utf-8")

"""What the pages load beside themselves: the chart library, its driver and the styles."""

from __future__ import annotations

import importlib
import shutil
from importlib import resources
from pathlib import Path

import altair as alt

from ablation_report.site.folder import claim

OWN = ("charts.js", "charts.css", "iframe-worker.js")
BUNDLE = "vega-bundle.js"
FOLDER = "assets/js"


def write_assets(out: Path) -> None:
    """Write the scripts and styles of the site, and one bundle of Vega for all charts.

    Raises:
        ImportError: vl-convert-python is missing; the extra `site` brings it.
    """
    converter = importlib.import_module("vl_convert")

    claim(out, [f"{FOLDER}/{name}" for name in (*OWN, BUNDLE)])
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in OWN:
        source = resources.files("ablation_report.site") / "assets" / name
        with resources.as_file(source) as path:
            shutil.copyfile(path, folder / name)
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle = converter.javascript_bundle(vl_version=version)
    # Its top-level names would clash with those of the theme's script
    (folder / BUNDLE).write_text(f"(()=>{{{bundle}}})();\n", encoding="utf-8")

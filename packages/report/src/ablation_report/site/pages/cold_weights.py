"""What a single block overstates, whose weights stay in the caches from call to call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablation_report.escaping import escape
from ablation_report.run import BLOCK, DEFAULT, SDPA, Comparison, Run
from ablation_report.site.choose import Place, Setting, ladder, places, settings
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import join, link, rows_of, setting_title, table
from ablation_report.tables import NOTHING, duration, marked
from ablation_report.traffic import largest_cache_bytes

NO_RUN = "*No recorded run has a config with one layer and with several on one machine.*"
# The rung that packs the weights
PACKED = "beyond-packed"
HEADER = (
    *("Config", "Weights", "Tuned default, a layer", "over PT SDPA"),
    *("+ packed weights, over the rung below", "Run"),
)


def cold_weights_block(inputs: Inputs) -> str:
    """For each machine and config with several layers: what the default and packing are worth in
    one block and in all layers."""
    every = settings(places(inputs.recorded(BLOCK)))
    parts = []
    for deep in every:
        single = next((setting for setting in every if _is_single_of(setting, deep)), None)
        rows = _rows(single, deep) if single and deep.layers != 1 else []
        if rows:
            parts.append(_table(deep, rows, inputs.configs))
    return join(*parts) if parts else NO_RUN + "\n"


def _is_single_of(setting: Setting, deep: Setting) -> bool:
    """True for the setting of one layer that is otherwise alike."""
    alike = (setting.hardware, setting.threads, setting.simd, setting.batch)
    return setting.layers == 1 and alike == (deep.hardware, deep.threads, deep.simd, deep.batch)


def _rows(single: Setting, deep: Setting) -> list[Place]:
    """The place that says most of each config, with one layer and then with several; only configs
    that have both."""
    found = []
    for config in dict.fromkeys(_base(place) for place in single.places):
        pair = [
            setting.best(ladder, [place for place in setting.places if _base(place) == config])
            for setting in (single, deep)
        ]
        both = [place for place in pair if place]
        found += both if len(both) == len(pair) else []
    return found


def _base(place: Place) -> str:
    """The name of the block's size without its layers."""
    return str(place.rows[0]["sizes"].get("config"))


def _table(deep: Setting, found: Sequence[Place], pages: Mapping[str, str]) -> str:
    rows = [_line(place, pages) for place in found]
    cache = largest_cache_bytes(found[0].run.header["machine"])
    size = f"; largest cache {cache / 2**20:.3g} MiB" if cache else ""
    title = f"**{escape(setting_title(deep))}**{size}"
    return join(title, table(HEADER, rows), rows_of(place.run for place in found)).rstrip()


def _line(place: Place, pages: Mapping[str, str]) -> list[str]:
    config = place.config or place.case
    run, default = place.run, place.run.row(place.case, DEFAULT)
    time = run.time(default)
    weights = default["memory"]["weights"] if default else None
    return [
        f"[{escape(config)}]({pages[config]})" if config in pages else escape(config),
        NOTHING if weights is None else f"{weights / 2**20:.3g} MiB",
        duration(time.value / place.layers if time else None),
        marked(run.compare(default, SDPA)),
        marked(_packed(run, place.case)),
        link(run),
    ]


def _packed(run: Run, case: str) -> Comparison | None:
    """Compare the rung that packs the weights with the one below it."""
    row = run.row(case, PACKED)
    return run.compare(row, row["parent"]) if row and row["parent"] else None

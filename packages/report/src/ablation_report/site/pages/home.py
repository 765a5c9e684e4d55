"""The first page: for each machine one number, one chart, and what each optimization saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ablation_report import charts
from ablation_report.attribution.worths import SUITE as ATTRIBUTION
from ablation_report.attribution.worths import attribution_of
from ablation_report.charts.attribution import saved
from ablation_report.charts.block import runtimes
from ablation_report.compare.conditions import hardware
from ablation_report.escaping import escape
from ablation_report.machines import machine_name
from ablation_report.means import GeometricMean, geometric_mean, ratio_text
from ablation_report.naming import slugs
from ablation_report.run import SDPA, is_ours
from ablation_report.series import short_case
from ablation_report.site.choose import (
    Place,
    Setting,
    against_others,
    best,
    is_noisy,
    places,
    settings,
    unique,
    worths,
)
from ablation_report.site.figures import fragment
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.attribution import attribution_pages
from ablation_report.site.pages.league import NO_OTHER, leagues
from ablation_report.site.sections import section
from ablation_report.site.text import banners, details, join, measures, rows_of
from ablation_report.tables import threads_text

# How a script finds the place for the buttons that choose a machine
CHOICES = '<div class="choices"></div>'
NO_WORTH = "*No usable run of the suite attribution has been recorded.*"


@dataclass(frozen=True)
class Headline:
    """Ours over the fastest other runtime: the mean over the sizes of a machine, and the sizes with
    the smallest and the largest ratio; `eager` is the mean of ours over PyTorch eager."""

    mean: GeometricMean
    least: tuple[str, float]
    most: tuple[str, float]
    eager: GeometricMean

    def sentence(self) -> str:
        """Say what the number is of."""
        (least, low), (most, high) = self.least, self.most
        if self.mean.n == 1:
            return f"time of a call, ours / fastest other runtime, at {least}"
        return (
            f"time of a call, ours / fastest other runtime, geometric mean over {self.mean.n} "
            f"sizes, from {ratio_text(low)} ({least}) to {ratio_text(high)} ({most})"
        )


def machines_shown(inputs: Inputs) -> list[tuple[str, Setting, dict[str, Place]]]:
    """Return each machine that was compared with other runtimes by its name, with the setting that
    says most of it and the place of each size: the machine that resolves most first.

    All cores, the best instruction set, single blocks. Places of noisy runs are left out; a machine
    with no other place stands last, with them.
    """
    found: dict[str, tuple[Setting, dict[str, Place]]] = {}
    for setting, shown in leagues(inputs):
        if setting.is_whole and setting.layers == setting.batch == 1:
            quiet = {name: place for name, place in shown.items() if not is_noisy(place.run)}
            found.setdefault(setting.hardware, (setting, quiet or shown))
    ordered = sorted(found.values(), key=lambda pair: _is_any_noisy(pair[1]))
    names = unique(setting.machine for setting, _ in ordered)
    return [(name, *pair) for name, pair in zip(names, ordered, strict=True)]


def _is_any_noisy(shown: Mapping[str, Place]) -> bool:
    return any(is_noisy(place.run) for place in shown.values())


def headline(shown: Mapping[str, Place]) -> Headline:
    """Return the number of a machine from the places of its sizes."""
    others = {name: said[0].ratio.value for name, p in shown.items() if (said := against_others(p))}
    eager = {name: _over_eager(place) for name, place in shown.items()}
    ordered = sorted(others.items(), key=lambda pair: pair[1])
    return Headline(geometric_mean(others), ordered[0], ordered[-1], geometric_mean(eager))


def _over_eager(place: Place) -> float | None:
    compared = place.run.compare(place.run.best(place.case, is_ours), SDPA)
    return compared.ratio.value if compared else None


def home_block(inputs: Inputs) -> str:
    """A section for each machine, with its number and charts; a script shows the chosen one."""
    found = machines_shown(inputs)
    if not found:
        return NO_OTHER + "\n"
    anchors = slugs(name for name, _, _ in found)
    sections = (_section(inputs, anchors[name], name, each, shown) for name, each, shown in found)
    return join(CHOICES, *sections)


def home_rows_block(inputs: Inputs) -> str:
    """The rows behind the first chart of each machine, and the runs that they are of."""
    return join(
        *(
            section(
                join(
                    _behind("Times and ratios behind the chart", runtimes.rows(_cases(shown))),
                    rows_of(place.run for place in shown.values()),
                ),
                machine=name,
            )
            for name, _, shown in machines_shown(inputs)
        )
    )


def _cases(shown: Mapping[str, Place]) -> list[runtimes.Case]:
    return [(size, place.run, place.case) for size, place in shown.items()]


def _section(
    inputs: Inputs, anchor: str, name: str, setting: Setting, shown: dict[str, Place]
) -> str:
    said = headline(shown)
    drawn = charts.visible_dict(runtimes.chart(_cases(shown)))
    body = join(
        f"## {escape(name)} {{ #{anchor} }}",
        banners(place.run for place in shown.values()),
        _number(said, setting),
        '<div class="home-row" markdown="1">',
        '<div class="home-wide" markdown="1">',
        f"**{runtimes.TITLE}**",
        fragment(f"chart-runtimes-{anchor}", runtimes.TITLE, _sizes_caption(said), drawn),
        "</div>",
        f'<div class="home-narrow" markdown="1">\n\n{_saved(inputs, anchor, setting)}\n\n</div>',
        "</div>",
    )
    return section(body, machine=name)


def _number(said: Headline, setting: Setting) -> str:
    shown = said.mean.value_text()
    mark = "better" if (said.mean.value or 1.0) < 1 else "worse"
    made = f"One block, float32, {threads_text(setting.threads)}, {setting.simd or 'no SIMD'}."
    return (
        f'<p class="home-number"><strong class="{mark}">{escape(shown)}</strong> '
        f"<span>{escape(said.sentence())}. Below 1, ours is faster. {escape(made)}</span></p>"
    )


def _sizes_caption(said: Headline) -> str:
    told = f" Geometric mean of ours: {said.eager.value_text()}." if said.eager.value else ""
    return runtimes.CAPTION + told


def _saved(inputs: Inputs, anchor: str, setting: Setting) -> str:
    """What each optimization saves on a machine, or where none was recorded on another one."""
    place = _attributed(inputs, setting)
    found = attribution_of(place.run, place.case) if place else None
    if place is None or found is None:
        return NO_WORTH
    texts = saved.printed(found)
    page = next((page for page in attribution_pages(inputs) if place in page.setting.places), None)
    size = escape(short_case(place.rows[0]))
    where = machine_name(place.run.header["machine"])
    here = hardware(place.run.header) == setting.hardware
    elsewhere = "" if here else f", recorded on {escape(where)} only"
    named = f"[{size}]({page.path})" if page else size
    return join(
        f"**{saved.TITLE}**: {named}, {texts.base} to {texts.top} {texts.unit}{elsewhere}",
        fragment(
            f"chart-saved-{anchor}",
            saved.TITLE,
            saved.CAPTION,
            charts.visible_dict(saved.chart(place.run, place.case)),
        ),
    ).rstrip()


def _attributed(inputs: Inputs, setting: Setting) -> Place | None:
    """The largest size of a machine of which most worths are resolved, or of the others where it
    has none; its place is the one that resolves most. None of a noisy run."""
    quiet = [place for place in places(inputs.recorded(ATTRIBUTION)) if not is_noisy(place.run)]
    whole = [s for s in settings(quiet) if s.is_whole and s.layers == s.batch == 1]
    mine = [each for each in whole if each.hardware == setting.hardware]
    groups: dict[int, list[Place]] = {}
    for place in (place for each in mine or whole for place in each.places):
        groups.setdefault(place.rows[0]["flops"] or 0, []).append(place)
    sizes = [chosen for _, group in sorted(groups.items()) if (chosen := best(group, worths))]
    clear = [place for place in sizes if _is_mostly_resolved(place)]
    return next(reversed(clear or sizes), None)


def _is_mostly_resolved(place: Place) -> bool:
    said = worths(place)
    return 2 * sum(each.is_resolved for each in said) > len(said)


def _behind(title: str, frame: pl.DataFrame) -> str:
    return details(title, measures(charts.to_table(frame), is_folded=True))

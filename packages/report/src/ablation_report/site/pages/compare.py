"""Two recorded runs compared in the browser, by the rules and in the words of `compare`.

The page has what each run was made under; the tables of a pair lie in a file of their own, which
the page loads once the pair is chosen. They are scripts, since a browser reads no other file beside
a page that was opened from the disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ablation_report.compare import compare_runs
from ablation_report.compare.conditions import conditions_of, differences
from ablation_report.compare.tables import compare_tables
from ablation_report.naming import slug
from ablation_report.run import Run
from ablation_report.site.choose import created, is_noisy
from ablation_report.site.data_table import script_json
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import join, run_page
from ablation_report.tables import Table

PAGE = "compare.md"
FOLDER = "assets/compare"
# About 5 kB each; of more the newest are kept, and the page gives the command for the others
MOST_PAIRS = 400
COMMAND = "ablation-report compare"

_INTRO = (
    "Choose two runs of one suite, one machine and the same versions. The page shows row by row "
    f"what changed from the older run to the newer one, as `{COMMAND}` prints it."
)
_NO_RUNS = "*Fewer than two runs have been recorded: there is nothing to compare.*"


def compare_files(inputs: Inputs) -> list[tuple[str, str]]:
    """Return the page with its pickers, and the file of each pair that is shown, by their paths."""
    runs = sorted((run for run in inputs.recorded() if run.rows), key=_age)
    pairs = _shown_pairs(runs)
    page = join("# Compare two runs", _INTRO, _pickers(runs, pairs))
    return [(PAGE, page), *((f"{FOLDER}/{a}-{b}.js", _file(runs, a, b)) for a, b in pairs)]


def _age(run: Run) -> tuple[str, str]:
    return created(run), run.name


def _shown_pairs(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """The pairs that `compare` takes and that have a case in common, older run first; the newest
    pairs, at most `MOST_PAIRS`."""
    newest_first = itertools.combinations(range(len(runs) - 1, -1, -1), 2)
    found = (
        (a, b)
        for b, a in newest_first
        if set(runs[a].cases) & set(runs[b].cases) and not differences(runs[a], runs[b])
    )
    return list(itertools.islice(found, MOST_PAIRS))


def _pickers(runs: Sequence[Run], pairs: Sequence[tuple[int, int]]) -> str:
    """The place of the pickers, what they need to know, and the script that fills them."""
    if len(runs) < 2:
        return _NO_RUNS
    hardware = list(dict.fromkeys(conditions_of(run).hardware for run in runs))

    def is_either_noisy(pair: tuple[int, int]) -> bool:
        return any(is_noisy(runs[index]) for index in pair)

    told = {
        "command": COMMAND,
        "runs": [
            {
                "name": run.name,
                "slug": slug(run.name),
                "path": run.path.as_posix(),
                "page": run_page(run).removesuffix(".md") + ".html",
                "conditions": conditions_of(run).facts,
                "threads": sorted(conditions_of(run).threads),
                "hardware": hardware.index(conditions_of(run).hardware),
            }
            for run in runs
        ],
        # The page begins with the first
        "pairs": [f"{a}-{b}" for a, b in sorted(pairs, key=is_either_noisy)],
        "folder": FOLDER,
    }
    return (
        '<div class="compare-runs">\n'
        f'<script type="application/json">{script_json(told)}</script>\n'
        f"<noscript>Without JavaScript: <code>{COMMAND} FIRST SECOND</code></noscript>\n"
        "</div>\n"
        '<script src="assets/js/compare.js"></script>'
    )


def _file(runs: Sequence[Run], a: int, b: int) -> str:
    first, second = runs[a], runs[b]
    tables = compare_tables(first, second, compare_runs(first, second))
    return f'window.ablationPair("{a}-{b}",{script_json(list(map(_told, tables)))});\n'


def _told(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "header": table.header,
        "groups": table.groups,
        "notes": table.notes,
        "warnings": table.warnings,
    }

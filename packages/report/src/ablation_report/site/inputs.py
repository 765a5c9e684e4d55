"""What a site is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ablation_report.kernel_records import KernelRecord
from ablation_report.load import Gathered
from ablation_report.naming import slugs
from ablation_report.products import ProductMap
from ablation_report.run import BLOCK, Run
from ablation_report.site.choose import configs_of, created

# A line of the op table: name, op, form, simd, parallel, gemm, provider, idea
Kernel = Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """Runs and published figures, the op table, the folder of the passes' sources, and the table of
    models.

    `mine` names the runs that stay on the reader's machine: they have pages, and none of the
    others is made from them. `products` are the maps of Strassen's products, `kernel_records` the
    times of kernels.
    """

    gathered: Gathered
    kernels: Sequence[Kernel] | None = None
    passes: Path | None = None
    mine: frozenset[str] = frozenset()
    products: Sequence[ProductMap] = ()
    kernel_records: Sequence[KernelRecord] = ()
    models: Path | None = None

    def recorded(self, suite: str | None = None) -> list[Run]:
        """Return the recorded runs, or those of a suite, newest first; none of the reader's own."""
        return [run for run in self._runs(suite) if run.name not in self.mine]

    def own(self, suite: str | None = None) -> list[Run]:
        """Return the reader's own runs, or those of a suite, newest first."""
        return [run for run in self._runs(suite) if run.name in self.mine]

    def published(self, suite: str | None = None) -> list[Run]:
        """Return what was published, or that of a suite."""
        runs = self.gathered.runs
        return [run for run in runs if run.is_published and suite in (None, run.suite)]

    def _runs(self, suite: str | None) -> Iterable[Run]:
        runs = (run for run in self.gathered.runs if not run.is_published)
        return sorted(
            (run for run in runs if suite in (None, run.suite)), key=created, reverse=True
        )

    @cached_property
    def configs(self) -> dict[str, str]:
        """The configs of the block that any run has, with the path of each page."""
        names = configs_of(run for run in self.gathered.runs if run.suite == BLOCK)
        return {name: f"configs/{slug}.md" for name, slug in slugs(names).items()}

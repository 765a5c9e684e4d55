"""Samples of ops as modules that are exported, compiled with and without passes, and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ablation_executor import ExportError, export, optimize
from ablation_executor.compiler import compile


@dataclass
class Tally:
    """What became of the samples: by op where they are right, else by reason."""

    right: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    skipped_ops: dict[str, set[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.right.total()} samples of {len(self.right)} ops right, {self.refused.total()}"
            f" refused, {self.skipped.total()} skipped, {len(self.wrong)} wrong"
        )

    def check(
        self,
        op: str,
        name: str,
        module: nn.Module,
        given: Sequence[Tensor],
        ranges: Mapping[str, tuple[int, int]],
        difference: Callable[[list[Any]], str],
    ) -> None:
        """Export and run a sample; `difference` says how results are wrong, "" if they are not."""
        try:
            graph = export(module, tuple(given), ranges=ranges)
        except ExportError as error:
            reason = error.refusals[0].reason.split(":")[0] if error.refusals else str(error)
            self.refused[f"{error.op}: {reason}"[:160]] += 1
            return
        except Exception as error:
            self.wrong.append(f"{name}: export raises {type(error).__name__}: {error}")
            return
        try:
            for each in (graph, optimize(graph)[0]):
                results = compile(each)(*given)
                if words := difference(results if isinstance(results, list) else [results]):
                    self.wrong.append(f"{name}: {words}\n{each}")
                    return
        except Exception as error:
            self.wrong.append(f"{name}: the program raises {type(error).__name__}: {error}")
            return
        self.right[op] += 1

    def report(self) -> int:
        """Print all of it; 1 if anything is wrong, the exit status of a command."""
        for op, count in sorted(self.right.items()):
            print(f"right   {count:5}  {op}")
        for reason, count in self.refused.most_common():
            print(f"refused {count:5}  {reason}")
        for reason, count in self.skipped.most_common():
            print(f"skipped {count:5}  {reason}: {', '.join(sorted(self.skipped_ops[reason])[:8])}")
        for words in self.wrong:
            print(f"WRONG  {words}")
        print(self)
        return 1 if self.wrong else 0

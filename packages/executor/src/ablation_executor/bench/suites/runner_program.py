"""A program that a runtime's adapter has built: its calls, its memory, and what it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..memory import measure
from ..runtimes.adapter import Runner
from ..suite import Profile, Program

# Besides PyTorch's eager mode, the runtimes whose result is made anew by each call; the others
# write to a place of their own.
FRESH = ("kernels", "numpy", "torch-compile", "torch-compile-max")


class RunnerProgram(Program):
    """What the programs of blocks and of modules have in common; each has a check of its own."""

    def __init__(self, worker: str, runner: Runner, weights_bytes: int) -> None:
        self._worker = worker
        self._runner = runner
        self._weights_bytes = weights_bytes
        self.is_traced = runner.is_traced

    def call(self, phase: str, prepared: Any) -> Any:
        """Make one call."""
        return self._runner.call(prepared)

    def caller(self, phase: str) -> Callable[[Any], Any]:
        """Return the runner's own call, without a frame around it."""
        return self._runner.call

    def profile(self, phase: str, repeat: int) -> Profile | None:
        """Make `repeat` calls with a clock around each operation, where the runtime has some."""
        return self._runner.profile(repeat)

    def memory(self, phase: str) -> dict[str, Any]:
        """Measure a call; a result that is written to a place of its own counts as nothing, since
        that place was there before."""
        call, is_fresh = self._runner.call, self.is_traced or self._worker in FRESH

        def called(prepared: Any) -> Any:
            result = call(prepared)
            return result if is_fresh else None

        reading = measure(called, is_traced=self.is_traced)
        if not reading.method:
            return {"details": {"mem_failed": reading.hwm_reason}}
        return reading.columns()

    def built_facts(self) -> dict[str, Any]:
        """Return what the runtime knows; the weights in their own type otherwise."""
        facts = self._runner.facts()
        memory = {"weights": self._weights_bytes, **facts.get("memory", {})}
        return {**facts, "memory": memory}

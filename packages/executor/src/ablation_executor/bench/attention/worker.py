"""One worker: a process that checks and times one implementation of attention on request."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from ..check import Reference
from ..protocol import Message
from ..worker import (
    Answers,
    open_pipes,
    prefer_to_be_killed,
    serve,
    settle_calls,
    timed_calls,
    verdict_message,
)
from .cases import Array, Case, make_inputs, probes
from .implementations import Runner, runner_maker
from .reference import attention_reference, compare_attention

MakeRunner = Callable[[Case, tuple[Array, Array, Array]], Runner]


class AttentionWorker(Answers):
    """Answers for one implementation; a case is loaded, checked, warmed up, timed and dropped."""

    def __init__(self, make_runner: MakeRunner, calibrate: Callable[[int], list[int]] | None):
        self._make_runner = make_runner
        self._calibrate = calibrate
        self._case: Case | None = None
        self._seed = 0
        self._inputs: tuple[Array, Array, Array] | None = None
        self._runner: Runner | None = None

    def do_load(self, case: dict[str, Any], seed: int) -> Message:
        """Make the inputs of a case."""
        self._case, self._seed = Case(**case), seed
        self._inputs = make_inputs(self._case, seed)
        return {}

    def do_probe(self) -> Message:
        """Run the case's probes, twice each, and tell the first that is wrong."""
        case, _ = self._loaded()
        for probe in probes(case):
            reference = attention_reference(probe, self._seed)
            runner = self._make_runner(probe, make_inputs(probe, self._seed))
            # The second call meets memory that the first has used.
            for call in ("first", "second"):
                verdict = compare_attention(runner.output(runner()), reference)
                if not verdict.is_right:
                    return verdict_message(verdict, f"probe {probe.name}, {call} call: ")
        return {"reason": None}

    def do_check(self, reference: str) -> Message:
        """The case's first call, timed, and its result against the reference file."""
        runner = self._built(touch=False)
        start = perf_counter_ns()
        result = runner()
        first_call_ns = perf_counter_ns() - start
        verdict = compare_attention(runner.output(result), Reference.load(Path(reference)))
        del result
        gc.collect()
        return {**verdict_message(verdict, ""), "first_call_ns": first_call_ns}

    def do_warm(self, count: int) -> Message:
        """Calls that are no samples; their times only choose how a turn is made."""
        return {"samples_ns": timed_calls(self._built(), count, None)}

    def do_turn(self, discard: int, count: int, limit_ns: int) -> Message:
        """A turn: discarded calls, then timed calls until the limit."""
        runner = self._built()
        settle_calls(runner, discard)
        return {"samples_ns": timed_calls(runner, count, limit_ns)}

    def do_release(self) -> Message:
        """Give up what is kept between calls, until it is next needed."""
        self._runner = None
        return {}

    def do_drop(self) -> Message:
        """Forget the case."""
        self._runner = self._inputs = self._case = None
        gc.collect()
        return {}

    def do_calibrate(self, count: int) -> Message:
        """Times of a fixed matrix product; null where there are no kernels."""
        return {"samples_ns": self._calibrate(count) if self._calibrate else None}

    def _loaded(self) -> tuple[Case, tuple[Array, Array, Array]]:
        if self._case is None or self._inputs is None:
            raise RuntimeError("no case is loaded")
        return self._case, self._inputs

    def _built(self, touch: bool = True) -> Runner:
        """The runner; where it was given up it is made again and (to `touch` it) called once."""
        if self._runner is None:
            self._runner = self._make_runner(*self._loaded())
            if touch:
                self._runner()
        return self._runner


def main(arguments: list[str] | None = None) -> None:
    """Serve one implementation over standard input and output."""
    parser = argparse.ArgumentParser(prog="ablation_executor.bench.attention.worker")
    parser.add_argument("--runtime", required=True, help="the implementation's name")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args(arguments)
    requests, replies = open_pipes()
    prefer_to_be_killed()
    make_runner = runner_maker(options.runtime, options.threads)
    calibrate: Callable[[int], list[int]] | None = None
    if not options.runtime.startswith("torch-"):
        from ..calibration import calibrate as calibrate_kernels

        calibrate = calibrate_kernels
    serve(AttentionWorker(make_runner, calibrate), requests, replies)


if __name__ == "__main__":
    main()

"""One worker: a process in which one runtime builds, checks and times variants on request.

The parent asks, the worker answers; between requests it blocks in a read. Requests are methods of
`Worker` by name, and what differs between torch and our runtimes is behind `Runtime`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from .baselines import BASELINE_NAMES, make_runtime
from .check import Reference, Verdict, block_reference, compare
from .configs import PROBES, Config
from .protocol import SETTLE_CALLS_NS, Message, receive, send
from .weights import make_input, make_weights

PARTS = ("attention", "layer_norm", "linear", "element_wise", "movement")


class ProfileSamples(Protocol):
    """What a profiled call gives: see `profile_parts` for how it is used."""

    @property
    def ops(self) -> list[dict[str, Any]]:
        """name, op, category and kernel of each call."""

    @property
    def times_ns(self) -> npt.NDArray[np.int64]:
        """(repeat, calls) nanoseconds."""

    @property
    def total_ns(self) -> list[int]:
        """Nanoseconds of each whole call."""


class Runner(Protocol):
    """One variant of one config, ready to be called with its input."""

    def __call__(self) -> Any:
        """One call; the result is the runtime's own kind of array."""

    def output(self, result: Any) -> npt.NDArray[Any]:
        """The result as a numpy array."""

    def profile(self, repeat: int) -> ProfileSamples | None:
        """`repeat` calls with a clock around each operation; None where there is no breakdown."""

    def facts(self) -> dict[str, Any]:
        """Build facts of the row: bytes, kernels, calls, clock reads."""


class Prepared(Protocol):
    """One config with its weights made and its graph exported."""

    def build(self, variant: str) -> Runner:
        """Build one variant."""


class Runtime(Protocol):
    """What a worker process is made of."""

    def prepare(self, config: Config, weights: Any, x: npt.NDArray[Any]) -> Prepared:
        """Take a config's weights and input, and export if need be."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for MemoryError and for what torch raises when its allocator fails."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(mark in text for mark in ("can't allocate memory", "out of memory", "bad_alloc"))
    )


def failure(error: BaseException) -> Message:
    """The reply that tells why a request failed, as a cell's status and reason."""
    reason = f"{type(error).__name__}: {error}".strip()
    if is_out_of_memory(error):
        return {"failed": "oom", "reason": reason}
    unsupported = isinstance(error, NotImplementedError) or "Unsupported" in type(error).__name__
    return {"failed": "unsupported" if unsupported else "error", "reason": reason}


def profile_parts(profile: ProfileSamples) -> list[dict[str, int]]:
    """Per profiled call: its total, the five categories, and dispatch as what is left.

    The six parts sum to the total exactly.
    """
    categories = [op["category"] for op in profile.ops]
    unknown = set(categories) - set(PARTS)
    if unknown:
        raise ValueError(f"unknown categories {sorted(unknown)}")
    entries = []
    for times, total in zip(profile.times_ns, profile.total_ns, strict=True):
        parts = dict.fromkeys(PARTS, 0)
        for category, time_ns in zip(categories, times.tolist(), strict=True):
            parts[category] += int(time_ns)
        dispatch = int(total) - sum(parts.values())
        entries.append({"total": int(total), **parts, "dispatch": dispatch})
    return entries


class _Cell:
    """A variant under measurement."""

    def __init__(self, build: Callable[[], Runner]) -> None:
        start = perf_counter_ns()
        self._build = build
        self._runner: Runner | None = build()
        self.build_ns = perf_counter_ns() - start
        self.facts = self._runner.facts()
        self.output: Any = None
        self.op_times: list[list[int]] = []
        self.ops: list[dict[str, Any]] = []

    def runner(self, touch: bool = True) -> Runner:
        """The runner; if its memory was given up, built again and (to `touch` it) called once."""
        if self._runner is None:
            self._runner = self._build()
            if touch:
                self._runner()
        return self._runner

    def release(self) -> None:
        """Give up the runner's memory until it is next needed."""
        self._runner = None


class Answers:
    """Answers the parent's requests; a method `do_<request>` for each."""

    def handle(self, message: Message) -> Message:
        """Answer one request; a failure becomes a reply that tells it."""
        arguments = dict(message)
        name = arguments.pop("request")
        try:
            reply: Message = getattr(self, f"do_{name}")(**arguments)
            return reply
        except Exception as error:
            traceback.print_exc()
            return failure(error)


class Worker(Answers):
    """Builds, checks and times the variants of one config."""

    def __init__(self, runtime: Runtime, calibrate: Callable[[int], list[int]] | None) -> None:
        self._runtime = runtime
        self._calibrate = calibrate
        self._prepared: Prepared | None = None
        self._prepare_ns = 0
        self._seed = 0
        self._probes: list[tuple[Prepared, Reference]] | None = None
        self._cells: dict[str, _Cell] = {}

    def do_load(self, config: dict[str, Any], seed: int) -> Message:
        """Make the weights and the input, and export."""
        size = Config.from_dict(config)
        self._seed = seed
        weights = make_weights(size, seed)
        x = make_input(size, seed)
        start = perf_counter_ns()
        self._prepared = self._runtime.prepare(size, weights, x)
        self._prepare_ns = perf_counter_ns() - start
        gc.collect()
        gc.freeze()
        return {"prepare_ns": self._prepare_ns}

    def do_build(self, variant: str) -> Message:
        """Build a variant without running it."""
        prepared = self._prepared
        if prepared is None:
            raise RuntimeError("build before load")
        cell = self._cells[variant] = _Cell(lambda: prepared.build(variant))
        gc.collect()
        return {**cell.facts, "build_ns": self._prepare_ns + cell.build_ns}

    def do_probe(self, variant: str) -> Message:
        """Run the variant on the probes and tell the first that is wrong."""
        if self._probes is None:
            self._probes = []
            for config in PROBES:
                weights, x = make_weights(config, self._seed), make_input(config, self._seed)
                prepared = self._runtime.prepare(config, weights, x)
                self._probes.append((prepared, block_reference(config, weights, x)))
        for config, (prepared, reference) in zip(PROBES, self._probes, strict=True):
            runner = prepared.build(variant)
            # The second call meets memory that the first has used.
            for call in ("first", "second"):
                verdict = compare(runner.output(runner()), reference)
                if not verdict.is_right:
                    return verdict_message(verdict, f"{config.name}, {call} call: ")
        return {"reason": None}

    def do_first(self, variant: str) -> Message:
        """The first call; its output is kept for `check`."""
        cell = self._cells[variant]
        runner = cell.runner(touch=False)
        start = perf_counter_ns()
        result = runner()
        first_call_ns = perf_counter_ns() - start
        cell.output = runner.output(result)
        return {"first_call_ns": first_call_ns}

    def do_check(self, variant: str, reference: str) -> Message:
        """Compare the first call's output with the reference file."""
        cell = self._cells[variant]
        output, cell.output = cell.output, None
        return verdict_message(compare(output, Reference.load(Path(reference))), "")

    def do_warm(self, variant: str, count: int) -> Message:
        """Calls that are not samples; their times only choose how a turn is made."""
        return {"samples_ns": timed_calls(self._cells[variant].runner(), count, None)}

    def do_turn(
        self, variant: str, discard: int, count: int, limit_ns: int, profile: int
    ) -> Message:
        """A turn: discarded calls, timed calls until the limit, then profiled calls.

        Profiled calls run a loop of their own, so as many of them are discarded before it counts.
        """
        cell = self._cells[variant]
        runner = cell.runner()
        settle_calls(runner, discard)
        samples = timed_calls(runner, count, limit_ns)
        entries: list[dict[str, int]] = []
        if profile:
            taken = runner.profile(discard + profile)
            if taken is not None:
                entries = profile_parts(taken)[discard:]
                cell.ops = taken.ops
                cell.op_times.extend(taken.times_ns[discard:].tolist())
        return {"samples_ns": samples, "profile": entries}

    def do_finish(self, variant: str) -> Message:
        """Per-op medians and the peak memory of this process; the variant's memory is freed."""
        cell = self._cells.pop(variant)
        medians = [int(median(times)) for times in zip(*cell.op_times, strict=True)]
        ops = [{**op, "median_ns": value} for op, value in zip(cell.ops, medians, strict=False)]
        return {"ops": ops or None, "peak_rss_bytes": peak_rss_bytes()}

    def do_release(self, variant: str) -> Message:
        """Give up a variant's memory until its next request."""
        self._cells[variant].release()
        return {}

    def do_drop(self, variant: str) -> Message:
        """Forget a variant."""
        self._cells.pop(variant, None)
        return {}

    def do_calibrate(self, count: int) -> Message:
        """Times of a fixed matrix product; null where there are no kernels."""
        return {"samples_ns": self._calibrate(count) if self._calibrate else None}


def verdict_message(verdict: Verdict, prefix: str) -> Message:
    """The reply that tells a verdict; `prefix` stands before its reason."""
    return {
        "max_abs_error": verdict.max_abs_error,
        "tolerance": verdict.tolerance,
        "worst_ratio": verdict.worst_ratio,
        "checked_rows": verdict.checked_rows,
        "reason": None if verdict.reason is None else prefix + verdict.reason,
    }


def timed_calls(runner: Callable[[], Any], count: int, limit_ns: int | None) -> list[int]:
    """Nanoseconds of up to `count` calls, stopping after the call that passes the limit.

    The result is dropped outside the clock.
    """
    samples: list[int] = []
    spent = 0
    while len(samples) < count and (limit_ns is None or spent < limit_ns):
        start = perf_counter_ns()
        result = runner()
        elapsed = perf_counter_ns() - start
        del result
        samples.append(elapsed)
        spent += elapsed
    return samples


def settle_calls(runner: Callable[[], Any], count: int) -> None:
    """`count` calls that are not counted, or as many as fill SETTLE_CALLS_NS; none if it is 0."""
    start = perf_counter_ns()
    done = 0
    while done < count or (count > 0 and perf_counter_ns() - start < SETTLE_CALLS_NS):
        runner()
        done += 1


def clock_read_ns(count: int = 2000) -> float:
    """Mean cost of one read of Python's clock, in nanoseconds."""
    start = perf_counter_ns()
    for _ in range(count):
        perf_counter_ns()
    return (perf_counter_ns() - start) / count


def peak_rss_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(worker: Answers, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer until the parent closes the pipe; no garbage collection in between."""
    gc.disable()
    while (message := receive(requests)) is not None:
        send(replies, worker.handle(message))


def open_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent; whatever prints to standard output goes to standard error."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return requests, replies


def prefer_to_be_killed() -> None:
    """When memory runs out, let Linux end this process and not the bench."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def main(arguments: list[str] | None = None) -> None:
    """Serve one runtime over standard input and output."""
    parser = argparse.ArgumentParser(prog="ablation_executor.bench.worker")
    runtimes = ("torch", "numpy", "kernels", *BASELINE_NAMES)
    parser.add_argument("--runtime", required=True, choices=runtimes)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args(arguments)
    requests, replies = open_pipes()
    prefer_to_be_killed()
    if options.runtime in BASELINE_NAMES:
        serve(Worker(make_runtime(options.runtime, options.threads), None), requests, replies)
    elif options.runtime == "torch":
        from .torch_runtime import TorchRuntime

        serve(Worker(TorchRuntime(options.threads), None), requests, replies)
    else:
        from .calibration import calibrate
        from .graph_runtime import GraphRuntime

        runtime = GraphRuntime(options.runtime, options.threads)
        has_kernels = options.runtime == "kernels"
        serve(Worker(runtime, calibrate if has_kernels else None), requests, replies)


if __name__ == "__main__":
    main()

"""Calls between two clock reads, and the parts of profiled ones."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns, process_time_ns
from typing import Any

from ablation_report.rows import CATEGORIES

from .protocol import SETTLE_CALLS_NS
from .suite import Profile, Program


def profile_parts(profile: Profile) -> dict[str, list[int]]:
    """Return nanoseconds by part for each profiled call: the total, the five categories, and
    dispatch as what is left, so that the six parts sum to the total exactly."""
    categories = [op["category"] for op in profile.ops]
    if unknown := set(categories) - set(CATEGORIES):
        raise ValueError(f"unknown categories {sorted(unknown)}")
    parts: dict[str, list[int]] = {name: [] for name in ("total", *CATEGORIES, "dispatch")}
    for times, total in zip(profile.times_ns, profile.total_ns, strict=True):
        sums = dict.fromkeys(CATEGORIES, 0)
        for category, time_ns in zip(categories, times, strict=True):
            sums[category] += int(time_ns)
        entry = {"total": int(total), **sums, "dispatch": int(total) - sum(sums.values())}
        for name, value in entry.items():
            parts[name].append(value)
    return parts


def timed_calls(
    program: Program, phase: str, count: int, limit_ns: int | None
) -> tuple[list[int], list[int]]:
    """Return wall and processor nanoseconds of up to `count` calls, stopping after the call that
    passes the limit.

    What a call needs is made, and its result dropped, outside the clock. Processor time is that of
    all threads, waiting ones that spin included: a mean, since its clock costs as much as a short
    call and is read before the first call and after the last.
    """
    call = _timed(program, phase)
    is_prepared = type(program).prepare is not Program.prepare
    samples: list[int] = []
    spent = apart = 0
    prepared = None
    begin = process_time_ns()
    while len(samples) < count and (limit_ns is None or spent < limit_ns):
        if is_prepared:
            before = process_time_ns()
            prepared = program.prepare(phase)
            program.synchronize()
            apart += process_time_ns() - before
        start = perf_counter_ns()
        result = call(prepared)
        elapsed = perf_counter_ns() - start
        del result
        prepared = None
        samples.append(elapsed)
        spent += elapsed
    used = process_time_ns() - begin - apart
    return samples, [max(0, used // max(1, len(samples)))] * len(samples)


def _timed(program: Program, phase: str) -> Callable[[Any], Any]:
    """Return what stands between the two clock reads; it waits for the device where there is one to
    wait for."""
    call, wait = program.caller(phase), program.synchronize
    if type(program).synchronize is Program.synchronize:
        return call

    def call_and_wait(prepared: Any) -> Any:
        result = call(prepared)
        wait()
        return result

    return call_and_wait


def settle_calls(program: Program, phase: str, count: int) -> None:
    """Make `count` calls that are not counted, or as many as fill SETTLE_CALLS_NS; none if it is
    0."""
    start = perf_counter_ns()
    done = 0
    while done < count or (count > 0 and perf_counter_ns() - start < SETTLE_CALLS_NS):
        timed_calls(program, phase, 1, None)
        done += 1

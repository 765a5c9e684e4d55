"""The worker's command, with the fake suite, and a block that is a small NumPy one which does wrong
what the environment tells it to.

ABLATION_FAKE is a JSON object from variant name to a behavior: a defect of the attention
("head_index", "causal_ignored", "tile_dropped", "no_maximum"), "first_layer" for the weights of the
first layer in all, or a failure (see `FakeProgram`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablation_executor.bench import suites, worker
from ablation_executor.bench.case import Case
from ablation_executor.bench.suite import Loaded, Needs, Profile, Program, Suite, Verdict
from ablation_executor.bench.suites import block as block_package
from ablation_executor.bench.suites.block.check import Reference, block_reference, compare
from ablation_executor.bench.suites.block.configs import Config, config_of, probes_of
from ablation_executor.bench.suites.block.weights import (
    Array,
    layers_of,
    make_input,
    make_weights,
)
from ablation_report.rows import CATEGORIES

TILE = 16


def _layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    centered = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.square(centered).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    return np.asarray(centered / deviation * weight + bias)


def attention(q: Array, k: Array, v: Array, causal: bool, defect: str) -> Array:
    """Attention of (heads, seq, head_dim) arrays in float32, with one defect if named."""
    seq_len, head_dim = q.shape[1:]
    if defect == "head_index":
        k = np.roll(k, 1, axis=0)
    scores = q @ k.transpose(0, 2, 1) * np.float32(head_dim**-0.5)
    if causal and defect != "causal_ignored":
        hidden = np.arange(seq_len)[None, :] > np.arange(seq_len)[:, None]
        scores = np.where(hidden, np.float32(-np.inf), scores)
    if defect == "tile_dropped":
        scores[:, :, seq_len - seq_len % TILE :] = -np.inf
    if defect != "no_maximum":
        scores = scores - scores.max(axis=-1, keepdims=True)
    with np.errstate(all="ignore"):
        weights = np.exp(scores)
        return np.asarray(weights @ v / weights.sum(axis=-1, keepdims=True))


def block(config: Config, weights: dict[str, Array], x: Array, defect: str) -> Array:
    """The benchmark's block, or its layers, in float32."""
    layers = layers_of(config, weights)
    if defect == "first_layer":
        layers = [layers[0]] * len(layers)
    for layer in layers:
        x = one_block(config, layer, x, defect)
    return x


def one_block(config: Config, weights: dict[str, Array], x: Array, defect: str) -> Array:
    """A layer."""

    def linear(name: str, value: Array) -> Array:
        return np.asarray(value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])

    def norm(name: str, value: Array) -> Array:
        return _layer_norm(value, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def split(value: Array) -> Array:
        heads = (config.seq_len, config.n_heads, config.head_dim)
        return value.reshape(heads).transpose(1, 0, 2)

    h = norm("norm_attention", x[0])
    q, k, v = (split(linear(name, h)) for name in ("query", "key", "value"))
    context = attention(q, k, v, config.causal, defect).transpose(1, 0, 2)
    residual = x[0] + linear("out", context.reshape(config.seq_len, config.d_model))
    up = np.maximum(linear("up", norm("norm_feed_forward", residual)), 0)
    return np.asarray(residual + linear("down", up))[None]


def made_up_profile(repeat: int) -> Profile:
    """One made-up operation per category."""
    ops = [{"name": part, "op": part, "category": part, "kernel": None} for part in CATEGORIES]
    n = len(CATEGORIES)
    times = np.arange(1, repeat * n + 1).reshape(repeat, n).tolist()
    return Profile(ops, times, [sum(row) + 7 for row in times])


class FakeProgram(Program):
    """A variant that computes, or fails as told.

    Failures count from the second call, so that the check passes first.
    """

    is_traced = False

    def __init__(self, config: Config, seed: int, behavior: str) -> None:
        if behavior == "build_fails":
            raise ValueError("cannot build this")
        if behavior == "unsupported":
            raise NotImplementedError("no such op")
        self._seed, self._behavior = seed, behavior
        self._output: Any = None
        self._arguments = (config, make_weights(config, seed), make_input(config, seed), behavior)
        self._is_small = config.name == "Small"
        self._calls = 0

    def probe(self) -> Verdict:
        """Each probe twice, as the real ones do; one behavior is right the first time only."""
        for config in probes_of(self._arguments[0]):
            weights, x = make_weights(config, self._seed), make_input(config, self._seed)
            reference = block_reference(config, weights, x)
            output = block(config, weights, x, self._behavior)
            for call in ("first", "second"):
                verdict = compare(output, reference)
                if verdict.reason is not None:
                    verdict.reason = f"{config.name}, {call} call: {verdict.reason}"
                    return verdict
                output = output + 1 if self._behavior == "stale" else output
        return Verdict()

    def keep_output(self, phase: str, result: Any) -> None:
        """Keep it."""
        self._output = result

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """Compare with the file."""
        assert reference is not None
        return compare(self._output, Reference.load(reference))

    def call(self, phase: str, prepared: Any) -> Any:
        """Compute, after what its behavior says."""
        self._calls += 1
        print("a library that writes to standard output", flush=True)
        if self._behavior == "slow_first":
            time.sleep(60)
        if self._behavior == "nap" or (self._behavior == "nap_small" and self._is_small):
            time.sleep(0.6)
        if self._calls > 1:
            if self._behavior in ("SIGKILL", "SIGSEGV"):
                os.kill(os.getpid(), getattr(signal, self._behavior))
            if self._behavior == "memory":
                raise MemoryError("no memory left")
        # Computed anew: what only repeats a result is faster than any machine
        return block(*self._arguments)

    def profile(self, phase: str, repeat: int) -> Profile | None:
        """Made-up times, or none where the runtime has no breakdown."""
        return None if self._behavior == "no_profile" else made_up_profile(repeat)

    def needs(self) -> Needs:
        """Made-up bytes."""
        return Needs({"hungry": 1 << 50, "big": 300 << 20}.get(self._behavior, 1000), 1000)

    def built_facts(self) -> dict[str, Any]:
        """Made-up facts."""
        memory = {"weights": 10, "arena": 1000, "scratch": 0, "packed": 0}
        return {"memory": memory, "n_calls": len(CATEGORIES), "timing_overhead_ns": 1.0}


class FakeLoaded(Loaded):
    """Builds with the behavior that the environment names."""

    def __init__(self, config: Config, seed: int) -> None:
        self._arguments = (config, seed)

    def build(self, variant: str) -> FakeProgram:
        """Build a variant."""
        behaviors: dict[str, str] = json.loads(os.environ.get("ABLATION_FAKE", "{}"))
        return FakeProgram(*self._arguments, behaviors.get(variant, ""))


class FakeBlock(type(block_package.SUITE)):  # type: ignore[misc]
    """The block without a runtime."""

    def start(self, worker: str, threads: int) -> None:
        """Import nothing."""

    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """Keep the config, or leave if the environment says so."""
        if "dies_loading" in os.environ.get("ABLATION_FAKE", ""):
            sys.stderr.write("the last words\n")
            sys.stderr.flush()
            os._exit(3)
        return FakeLoaded(config_of(case), seed)


def find_fake_suite(name: str) -> Suite:
    """The block without a runtime, and the fake suite."""
    if name == "fake":
        sys.path.insert(0, str(Path(__file__).parent))
        import fake_suite  # type: ignore[import-not-found]

        found: Suite = fake_suite.SUITE
        return found
    return FakeBlock() if name == "block" else suites.find_suite(name)


def calibrate(count: int) -> list[int]:
    """Made-up times."""
    return [1000] * count


if __name__ == "__main__":
    setattr(worker, "find_suite", find_fake_suite)  # noqa: B010
    sys.modules["ablation_executor.bench.calibration"] = sys.modules["__main__"]
    worker.main()

"""A worker whose runtime is a small numpy block that does wrong what the environment tells it to.

ABLATION_FAKE is a JSON object from variant name to a behavior: a defect of the attention
("head_index", "causal_ignored", "tile_dropped", "no_maximum"), or a failure (see `FakeRunner`).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from typing import Any

import numpy as np

from ablation_executor.bench.configs import PROBES, Config
from ablation_executor.bench.weights import Array
from ablation_executor.bench.worker import PARTS, Worker, open_pipes, serve

TILE = 16
PROBE_NAMES = {probe.name for probe in PROBES}


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
    """The benchmark's block in float32."""

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


class FakeProfile:
    """One made-up operation per category."""

    def __init__(self, repeat: int) -> None:
        self.ops = [{"name": part, "op": part, "category": part, "kernel": None} for part in PARTS]
        self.times_ns = np.arange(1, repeat * len(PARTS) + 1).reshape(repeat, len(PARTS))
        self.total_ns = [int(times.sum()) + 7 for times in self.times_ns]


class FakeRunner:
    """A variant that computes once and then repeats the result, or fails as told.

    Failures count from the runner's second call, so that the check passes first.
    """

    def __init__(self, config: Config, weights: dict[str, Array], x: Array, behavior: str) -> None:
        if behavior == "build_fails":
            raise ValueError("cannot build this")
        if behavior == "unsupported":
            raise NotImplementedError("no such op")
        self._behavior = behavior if config.name not in PROBE_NAMES else behavior + "?"
        defect = behavior
        self._is_stale = behavior == "stale"
        self._result = block(config, weights, x, defect)
        self._is_small = config.name == "Small"
        self._calls = 0

    def __call__(self) -> Any:
        """Repeat the result."""
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
            if self._is_stale:
                return self._result + 1
        return self._result

    def output(self, result: Any) -> Any:
        """Already numpy."""
        return result

    def profile(self, repeat: int) -> FakeProfile:
        """Made-up times."""
        return FakeProfile(repeat)

    def facts(self) -> dict[str, Any]:
        """Made-up facts."""
        return {
            "resident_bytes": {"hungry": 1 << 60, "big": 300 << 20}.get(self._behavior, 1000),
            "transient_bytes": 1000,
            "weights_bytes": 10,
            "arena_bytes": 1000,
            "attention_scratch_bytes": 0,
            "packed_weights_bytes": 0,
            "n_calls": len(PARTS),
            "timing_overhead_ns": 1.0,
            "providers": {},
        }


class FakePrepared:
    """Keeps a config's arrays."""

    def __init__(self, config: Config, weights: dict[str, Array], x: Array) -> None:
        self._arguments = (config, weights, x)

    def build(self, variant: str) -> FakeRunner:
        """A runner with the behavior that the environment names."""
        behaviors: dict[str, str] = json.loads(os.environ.get("ABLATION_FAKE", "{}"))
        return FakeRunner(*self._arguments, behaviors.get(variant, ""))


class FakeRuntime:
    """Prepares at once."""

    def prepare(self, config: Config, weights: dict[str, Array], x: Array) -> FakePrepared:
        """Keep the arrays, or leave if the environment says so."""
        if "dies_loading" in os.environ.get("ABLATION_FAKE", ""):
            sys.stderr.write("the last words\n")
            sys.stderr.flush()
            os._exit(3)
        return FakePrepared(config, weights, x)


def main() -> None:
    """Serve as the real worker does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime")
    parser.add_argument("--threads")
    options = parser.parse_args()
    requests, replies = open_pipes()
    has_kernels = options.runtime == "kernels"
    serve(Worker(FakeRuntime(), (lambda n: [1000] * n) if has_kernels else None), requests, replies)


if __name__ == "__main__":
    main()

"""The real runtimes, in this process: every variant is right, a wrong kernel under one is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablation_executor import ops
from ablation_executor import per_op as per_op_module
from ablation_executor.bench.check import block_reference
from ablation_executor.bench.configs import find_config
from ablation_executor.bench.weights import make_input, make_weights
from ablation_executor.bench.worker import PARTS, Worker
from ablation_executor.variants import VARIANTS

torch = pytest.importorskip("torch")

from ablation_executor.bench import graph_runtime  # noqa: E402
from ablation_executor.bench.torch_runtime import TorchRuntime  # noqa: E402

CONFIG = find_config("Toy")


@pytest.fixture(scope="module")
def reference_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of Toy, as the bench writes it."""
    path: Path = tmp_path_factory.mktemp("reference") / "toy.npz"
    block_reference(CONFIG, make_weights(CONFIG, 0), make_input(CONFIG, 0)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, Worker]]:
    """A worker of each runtime that has loaded Toy."""
    threads = torch.get_num_threads()
    with torch.inference_mode(False):
        runtimes: dict[str, Any] = {
            name: graph_runtime.GraphRuntime(name, 2) for name in ("numpy", "kernels")
        }
        made = {name: Worker(runtime, None) for name, runtime in runtimes.items()}
        for worker in made.values():
            assert "failed" not in worker.handle(load_request())
    runtime = TorchRuntime(1)
    made["torch"] = Worker(runtime, None)
    assert "failed" not in made["torch"].handle(load_request())
    yield made
    runtime.close()
    torch.set_num_threads(threads)


def load_request() -> dict[str, Any]:
    return {"request": "load", "config": CONFIG.to_dict(), "seed": 0}


def ask(worker: Worker, request: str, variant: str, **arguments: Any) -> dict[str, Any]:
    """A reply that is no failure."""
    reply = worker.handle({"request": request, "variant": variant, **arguments})
    assert "failed" not in reply, reply
    return reply


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_variant_is_right_and_its_breakdown_closes(
    workers: dict[str, Worker], reference_file: str, variant: Any
) -> None:
    worker, name = workers[variant.runtime], variant.name
    facts = ask(worker, "build", name)
    assert ask(worker, "probe", name)["reason"] is None
    ask(worker, "first", name)
    check = ask(worker, "check", name, reference=reference_file)
    assert check["reason"] is None
    assert check["worst_ratio"] < 0.5
    turn = ask(worker, "turn", name, discard=1, count=2, limit_ns=10**9, profile=3)
    assert len(turn["samples_ns"]) == 2
    for entry in turn["profile"]:
        assert sum(entry[part] for part in (*PARTS, "dispatch")) == entry["total"]
        assert all(entry[part] > 0 for part in ("attention", "layer_norm", "linear"))
    ops_told = ask(worker, "finish", name)["ops"]
    assert len(ops_told) == facts["n_calls"]
    assert {op["category"] for op in ops_told} <= set(PARTS)


def wrong_attention(defect: str) -> Any:
    """attention(inputs, attributes) of the op's reference, with one defect."""
    right = ops.OPS["attention"].reference

    def run(inputs: Any, attributes: Any) -> Any:
        q, k, v, mask = inputs
        seq_len = k.shape[2]
        if defect == "head_index":
            k = np.roll(k, 1, axis=1)
        elif defect == "causal_ignored":
            attributes, mask = {**attributes, "causal": False}, None
        elif defect == "tile_dropped":
            whole = seq_len - seq_len % 16
            k, v = k[:, :, :whole], v[:, :, :whole]
            mask = None if mask is None else mask[..., :whole]
        elif defect == "no_maximum":
            with np.errstate(all="ignore"):
                scores = (q @ k.swapaxes(-1, -2)) * np.float32(q.shape[-1] ** -0.5)
                weights = np.exp(scores)
                if attributes["causal"] or mask is not None:
                    weights = np.tril(weights)
                return weights @ v / weights.sum(axis=-1, keepdims=True)
        return right([q, k, v, mask], attributes)

    return run


@pytest.mark.parametrize(
    ("defect", "is_right"),
    [
        ("none", True),
        ("head_index", False),
        ("causal_ignored", False),
        ("tile_dropped", False),
        ("no_maximum", False),
    ],
)
def test_a_wrong_attention_in_the_per_op_loop(
    workers: dict[str, Worker], monkeypatch: pytest.MonkeyPatch, defect: str, is_right: bool
) -> None:
    wrong = dataclasses.replace(ops.OPS["attention"], reference=wrong_attention(defect))
    patched = {**ops.OPS, "attention": wrong}
    monkeypatch.setattr(per_op_module, "OPS", patched)
    reply = ask(workers["numpy"], "probe", "percall-numpy")
    assert (reply["reason"] is None) == is_right


def test_a_native_kernel_without_its_causal_mask(
    workers: dict[str, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    # By its name in sys.modules: the package has the function of the same name.
    fusing = sys.modules["ablation_executor.passes.fuse_attention"]
    monkeypatch.setattr(fusing, "mask_value", lambda *given: None)
    reply = ask(workers["kernels"], "probe", "flash-layernorm")
    assert reply["reason"].startswith("probe-causal")
    assert ask(workers["kernels"], "probe", "passes-none")["reason"] is None

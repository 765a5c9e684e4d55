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
from ablation_executor.bench.runtimes import make_adapter
from ablation_executor.bench.suites import find_suite
from ablation_executor.bench.suites.block import models
from ablation_executor.bench.suites.block.configs import Config, find_config
from ablation_executor.bench.suites.block.ladder import BY_NAME, VARIANTS
from ablation_executor.bench.suites.block.programs import BlockInputs, write_reference
from ablation_executor.bench.suites.block.weights import Array
from ablation_executor.bench.worker import Worker
from ablation_executor.passes import fuse_attention
from ablation_report.rows import PARTS

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", params=[1, 2], ids=["one_layer", "two_layers"])
def config(request: pytest.FixtureRequest) -> Config:
    """Toy, as a single block and as two."""
    return find_config("Toy").stacked(request.param)


@pytest.fixture(scope="module")
def reference_file(tmp_path_factory: pytest.TempPathFactory, config: Config) -> str:
    """The reference of a config, as the bench writes it."""
    path: Path = tmp_path_factory.mktemp("reference") / "toy.npz"
    write_reference(config, 0, path)
    return str(path)


@pytest.fixture(scope="module")
def workers(config: Config) -> Iterator[dict[str, Worker]]:
    """A worker of each runtime that has loaded a config."""
    threads = torch.get_num_threads()
    suite: Any = find_suite("block")
    suite._adapters.clear()
    with torch.inference_mode(False):
        for name in ("numpy", "kernels"):
            suite._adapters[name] = make_adapter(name, 2)
        made = {name: Worker(suite, name) for name in ("numpy", "kernels")}
        for worker in made.values():
            assert "failed" not in worker.handle(load_request(config))
    suite._adapters["torch"] = eager = make_adapter("torch", 1)
    made["torch"] = Worker(suite, "torch")
    assert "failed" not in made["torch"].handle(load_request(config))
    yield made
    eager.close()  # type: ignore[attr-defined]
    suite._adapters.clear()
    torch.set_num_threads(threads)


def load_request(config: Config) -> dict[str, Any]:
    case = config.case(2).label
    return {"request": "load", "case": case, "seed": 0, "limit_bytes": None}


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
    facts = ask(worker, "build", name)["facts"]
    assert ask(worker, "probe", name)["reason"] is None
    ask(worker, "first", name, phase="fwd")
    check = ask(worker, "check", name, phases=["fwd"], reference=reference_file)
    assert check["reason"] is None
    assert check["details"]["worst_ratio"] < 0.5
    given = {"phase": "fwd", "discard": 1, "count": 2, "limit_ns": 10**9, "profile": 3}
    turn = ask(worker, "turn", name, **given)
    assert len(turn["samples_ns"]) == len(turn["cpu_ns"]) == 2
    profile = turn["profile"]
    parts = zip(*(profile[part] for part in PARTS), strict=True)
    assert [sum(entry) for entry in parts] == profile["total"]
    assert len(profile["total"]) == 3
    assert all(min(profile[part]) > 0 for part in ("attention", "layer_norm", "linear"))
    ops_told = ask(worker, "finish", name, phase="fwd")["ops"]
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
    monkeypatch.setattr(fuse_attention, "mask_value", lambda *given: None)
    reply = ask(workers["kernels"], "probe", "flash-layernorm")
    assert reply["reason"].startswith("probe: probe-causal")
    assert ask(workers["kernels"], "probe", "passes-none")["reason"] is None


def test_a_layer_with_the_weights_of_another(
    workers: dict[str, Worker], monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    made = models.make_module

    def make_wrong(config: Config, weights: dict[str, Array], kind: str) -> Any:
        wrong = {name: weights[name.replace("1.", "0.")] for name in weights}
        return made(config, wrong, kind)

    monkeypatch.setattr(models, "make_module", make_wrong)
    reason = ask(workers["torch"], "probe", "torch-sdpa")["reason"]
    if config.layers == 1:
        assert reason is None
    else:
        assert reason.startswith("probe: probe-layers, first call")


def test_the_breakdown_of_layers_with_a_mask() -> None:
    config = Config("masked", 16, 2, 5, causal=True, layers=2)
    inputs = BlockInputs(config, 0)
    with torch.inference_mode(False):
        eager = make_adapter("torch", 1)
        profile = eager.build(inputs.model(BY_NAME["torch-naive"])).profile(2)
        eager.close()  # type: ignore[attr-defined]
    assert profile is not None
    assert {op["name"][:2] for op in profile.ops if op["op"] == "Linear"} == {"_0", "_1"}

"""Other runtimes: their registry, what is not installed, and each adapter in a worker."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ablation_executor.bench import runtimes
from ablation_executor.bench.interrupt import UsageError
from ablation_executor.bench.machine import versions
from ablation_executor.bench.memory import environment
from ablation_executor.bench.options import make_parser
from ablation_executor.bench.protocol import WorkerProcess
from ablation_executor.bench.runtimes import DISTRIBUTIONS, OTHERS, RUNTIMES
from ablation_executor.bench.suites import find_suite
from ablation_executor.bench.suites.block.configs import find_config
from ablation_executor.bench.suites.block.ladder import (
    BY_NAME,
    LEAGUE,
    LEAGUE_SELECTION,
    VARIANTS,
)
from ablation_executor.bench.suites.block.programs import write_reference

from .conftest import Measure

# The probes of two layers are those of one and another.
CONFIG = find_config("Toy").stacked(2)
OTHER_NAMES = [runtime.name for runtime in OTHERS]
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# It times its own matrix products for every shape: the probes would take the test a minute more.
SLOW_TO_BUILD = ("torch-compile-max",)


def test_a_line_of_the_registry_is_a_variant_with_a_runtime_of_its_own() -> None:
    assert [rung.name for rung in LEAGUE] == OTHER_NAMES
    assert {rung.runtime for rung in (*VARIANTS, *LEAGUE)} == set(runtimes.BY_NAME)
    assert len(BY_NAME) == len(VARIANTS) + len(LEAGUE)


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
def test_an_adapter_is_a_file_that_hides_no_package(runtime: Any) -> None:
    assert find_spec(f"{runtimes.__name__}.{runtime.adapter}") is not None
    assert runtime.adapter not in {name.replace("-", "_") for name in DISTRIBUTIONS}


def test_the_extra_installs_what_the_adapters_need() -> None:
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    named = {re.split(r"[<>=!~\[]", line)[0] for line in extras["baselines"]}
    assert named == set(DISTRIBUTIONS)
    assert "[baselines]" in runtimes.INSTALL_COMMAND


def test_a_run_records_the_versions_of_the_league() -> None:
    assert set(DISTRIBUTIONS) <= set(versions())


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if everything but OpenVINO were installed."""
    monkeypatch.setattr(runtimes, "is_installed", lambda name: name != "openvino")


@pytest.mark.usefixtures("without_openvino")
def test_a_missing_runtime_is_unsupported_and_tells_how_to_install_it(measure: Measure) -> None:
    rows, progress = measure(["torch-naive", "openvino", "jax"], {})
    row = rows["openvino"]
    assert (row["status"], row["reason"]) == ("unsupported", "not_installed")
    assert row["reason_text"] == f"openvino not installed: {runtimes.INSTALL_COMMAND}"
    assert row["build_ns"] is None and row["memory"]["process_peak"] is None
    assert rows["torch-naive"]["status"] == rows["jax"]["status"] == "ok"
    assert "openvino" not in {name for _, name in progress.turns}


@pytest.mark.usefixtures("without_openvino")
def test_a_config_of_missing_runtimes_alone_ends(measure: Measure) -> None:
    assert measure(["openvino"], {})[0]["openvino"]["status"] == "unsupported"


def test_a_baseline_without_a_breakdown_has_null_and_not_zero(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "is_installed", lambda name: True)
    row = measure(["jax"], {"jax": "no_profile"})[0]["jax"]
    assert row["status"] == "ok"
    assert row["profile"] is None and row["ops"] is None


def chosen(*words: str, given: list[str] | None = None) -> list[str]:
    """The variants of a block's command."""
    suite = find_suite("block")
    return suite.chosen_variants(make_parser(suite).parse_args(words), given)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], OTHER_NAMES),
        (["--baselines", "all"], OTHER_NAMES),
        (["--baselines", "None"], []),
        (["--baselines", "JAX,torch-compile"], ["torch-compile", "jax"]),
    ],
)
def test_choosing_baselines(words: list[str], names: list[str]) -> None:
    assert chosen(*words)[len(VARIANTS) :] == names


def test_an_unknown_baseline_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'openvino'"):
        chosen("--baselines", "openvin")


def test_the_selection_of_the_league() -> None:
    assert chosen("--baselines", "none", given=["League"]) == list(LEAGUE_SELECTION)
    beyond = {variant.name for variant in VARIANTS if variant.group == "Beyond"}
    assert {"torch-naive", "torch-sdpa", "flash-layernorm"} | beyond <= set(LEAGUE_SELECTION)
    assert set(LEAGUE_SELECTION) <= {variant.name for variant in VARIANTS}


@pytest.fixture(scope="module")
def reference_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of Toy, as the bench writes it."""
    path: Path = tmp_path_factory.mktemp("reference") / "toy.npz"
    write_reference(CONFIG, 0, path)
    return str(path)


@pytest.fixture(params=OTHER_NAMES)
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, WorkerProcess]]:
    """The real worker of a runtime with Toy loaded, where the runtime is installed."""
    missing = runtimes.missing_reason(request.param)
    if missing is not None:
        pytest.skip(missing)
    worker = WorkerProcess("block", request.param, 2, tmp_path / "log", environment())
    load = {"request": "load", "case": CONFIG.case(2).label, "seed": 0, "limit_bytes": None}
    worker.request(load, 60)
    yield request.param, worker
    worker.kill()


def test_an_adapter_is_right(worker: tuple[str, WorkerProcess], reference_file: str) -> None:
    name, process = worker

    def ask(request: str, **arguments: Any) -> dict[str, Any]:
        return process.request({"request": request, "variant": name, **arguments}, 600)

    facts = ask("build")["facts"]
    assert facts["memory"]["weights"] == CONFIG.weights_bytes
    if name not in SLOW_TO_BUILD:
        assert ask("probe")["reason"] is None
    ask("first", phase="fwd")
    check = ask("check", phases=["fwd"], reference=reference_file)
    assert check["reason"] is None
    assert check["details"]["worst_ratio"] < 0.5
    turn = ask("turn", phase="fwd", discard=1, count=2, limit_ns=10**9, profile=1)
    assert len(turn["samples_ns"]) == 2
    assert turn["profile"] == {}
    memory = ask("memory", phase="fwd")
    assert memory["method"] == "hwm" or "mem_failed" in memory["details"]
    assert ask("finish", phase="fwd")["ops"] is None


class TwoInputs:
    """A module of two inputs that is no block."""

    def make(self) -> Any:
        """Make it."""
        import torch

        class Scaled(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = torch.nn.Linear(12, 5)

            def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                return torch.relu(self.linear(x)) * y

        torch.manual_seed(0)
        return Scaled().eval().requires_grad_(False)


MODULE_CHILD = """
import sys
import numpy as np
from ablation_executor.bench.runtimes import make_adapter
from ablation_executor.bench.runtimes.adapter import Model
from tests.bench.test_runtimes import TwoInputs
name = sys.argv[1]
draw = np.random.default_rng(0)
inputs = tuple(draw.standard_normal(size, np.float32) for size in ((3, 12), (3, 5)))
make = TwoInputs().make
function = lambda w, x, y: np.maximum(0, 1) * ((x @ w["w"] + w["b"]).clip(0)) * y
state = {key: tensor.numpy() for key, tensor in make().state_dict().items()}
parameters = {"w": state["linear.weight"].T.copy(), "b": state["linear.bias"]}
runner = make_adapter(name, 1).build(Model(make, inputs, function=function, parameters=parameters))
found = runner.output(runner.call(None))
expected = np.maximum(inputs[0] @ state["linear.weight"].T + state["linear.bias"], 0) * inputs[1]
np.testing.assert_allclose(found, expected, atol=1e-5)
"""


@pytest.mark.parametrize("name", [name for name in runtimes.BY_NAME if name not in SLOW_TO_BUILD])
def test_any_module_runs_in_an_adapter(name: str) -> None:
    if (missing := runtimes.missing_reason(name)) is not None:
        pytest.skip(missing)
    command = [sys.executable, "-c", MODULE_CHILD, name]
    subprocess.run(command, check=True, cwd=PYPROJECT.parent, timeout=300)


def test_openvino_tells_nobody_that_it_is_used() -> None:
    pytest.importorskip("openvino")
    code = (
        "import ablation_executor.bench.runtimes.open_vino\n"
        "from openvino.tools.ovc import convert_impl, telemetry_utils\n"
        "print(convert_impl.tm.__name__, telemetry_utils.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub"] * 2

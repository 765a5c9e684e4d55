"""The league: its registry, what is not installed, and each adapter in a worker of its own."""

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

from ablation_executor.bench import baselines
from ablation_executor.bench.baselines import BASELINE_NAMES, BASELINES, DISTRIBUTIONS
from ablation_executor.bench.check import block_reference
from ablation_executor.bench.configs import UsageError, find_config
from ablation_executor.bench.machine import versions
from ablation_executor.bench.options import chosen_baselines, chosen_variants, make_parser
from ablation_executor.bench.protocol import WorkerProcess
from ablation_executor.bench.record import PROFILE_KEYS
from ablation_executor.bench.weights import make_input, make_weights
from ablation_executor.variants import BY_NAME, LEAGUE, LEAGUE_SELECTION, VARIANTS

from .conftest import Measure

CONFIG = find_config("Toy")
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# It times its own matrix products for every shape: the probes would take the test a minute more.
SLOW_TO_BUILD = ("torch-compile-max",)


def test_a_line_of_the_registry_is_a_variant_with_a_runtime_of_its_own() -> None:
    assert [variant.name for variant in LEAGUE] == list(BASELINE_NAMES)
    assert len({variant.runtime for variant in LEAGUE} | {"torch", "numpy", "kernels"}) == 3 + len(
        LEAGUE
    )
    assert len(BY_NAME) == len(VARIANTS) + len(LEAGUE)


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)
def test_an_adapter_is_a_file_that_hides_no_package(baseline: Any) -> None:
    assert find_spec(f"{baselines.__name__}.{baseline.adapter}") is not None
    assert baseline.adapter not in {name.replace("-", "_") for name in DISTRIBUTIONS}


def test_the_extra_installs_what_the_adapters_need() -> None:
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    named = {re.split(r"[<>=!~\[]", line)[0] for line in extras["baselines"]}
    assert named == set(DISTRIBUTIONS)
    assert "[baselines]" in baselines.INSTALL_COMMAND


def test_a_run_records_the_versions_of_the_league() -> None:
    assert set(DISTRIBUTIONS) <= set(versions())


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if everything but OpenVINO were installed."""
    monkeypatch.setattr(baselines, "is_installed", lambda name: name != "openvino")


@pytest.mark.usefixtures("without_openvino")
def test_a_missing_runtime_is_unsupported_and_tells_how_to_install_it(measure: Measure) -> None:
    rows, progress = measure(["torch-naive", "openvino", "jax"], {})
    row = rows["openvino"]
    assert row["status"] == "unsupported"
    assert row["reason"] == f"openvino not installed: {baselines.INSTALL_COMMAND}"
    assert row["build_ns"] is None and row["peak_rss_bytes"] is None
    assert rows["torch-naive"]["status"] == rows["jax"]["status"] == "ok"
    assert "openvino" not in {name for _, name in progress.turns}


@pytest.mark.usefixtures("without_openvino")
def test_a_config_of_missing_runtimes_alone_ends(measure: Measure) -> None:
    assert measure(["openvino"], {})[0]["openvino"]["status"] == "unsupported"


def test_a_baseline_without_a_breakdown_has_null_and_not_zero(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "is_installed", lambda name: True)
    row = measure(["jax"], {"jax": "no_profile"})[0]["jax"]
    assert row["status"] == "ok"
    assert all(row[key] is None for key in (*PROFILE_KEYS, "ops"))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], list(BASELINE_NAMES)),
        (["--baselines", "all"], list(BASELINE_NAMES)),
        (["--baselines", "None"], []),
        (["--baselines", "JAX,torch-compile"], ["torch-compile", "jax"]),
    ],
)
def test_choosing_baselines(words: list[str], names: list[str]) -> None:
    assert chosen_baselines(make_parser().parse_args(words)) == names


def test_an_unknown_baseline_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'openvino'"):
        chosen_baselines(make_parser().parse_args(["--baselines", "openvin"]))


def test_the_selection_of_the_league() -> None:
    chosen = chosen_variants(make_parser().parse_args(["--variants", "League"]))
    assert chosen == list(LEAGUE_SELECTION)
    beyond = {variant.name for variant in VARIANTS if variant.group == "Beyond"}
    assert {"torch-naive", "torch-sdpa", "flash-layernorm"} | beyond <= set(LEAGUE_SELECTION)
    assert set(LEAGUE_SELECTION) <= {variant.name for variant in VARIANTS}


@pytest.fixture(scope="module")
def reference_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of Toy, as the bench writes it."""
    path: Path = tmp_path_factory.mktemp("reference") / "toy.npz"
    block_reference(CONFIG, make_weights(CONFIG, 0), make_input(CONFIG, 0)).save(path)
    return str(path)


@pytest.fixture(params=BASELINE_NAMES)
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerProcess]:
    """The real worker of a baseline with Toy loaded, where the baseline is installed."""
    missing = baselines.missing_reason(request.param)
    if missing is not None:
        pytest.skip(missing)
    worker = WorkerProcess(request.param, 2, tmp_path / "log")
    worker.request({"request": "load", "config": CONFIG.to_dict(), "seed": 0}, 60)
    yield worker
    worker.kill()


def test_an_adapter_is_right(worker: WorkerProcess, reference_file: str) -> None:
    def ask(request: str, **arguments: Any) -> dict[str, Any]:
        message = {"request": request, "variant": worker.runtime, **arguments}
        return worker.request(message, 600)

    facts = ask("build")
    assert facts["weights_bytes"] == CONFIG.weights_bytes
    if worker.runtime not in SLOW_TO_BUILD:
        assert ask("probe")["reason"] is None
    ask("first")
    check = ask("check", reference=reference_file)
    assert check["reason"] is None
    assert check["worst_ratio"] < 0.5
    turn = ask("turn", discard=1, count=2, limit_ns=10**9, profile=1)
    assert len(turn["samples_ns"]) == 2
    assert turn["profile"] == []
    assert ask("finish")["ops"] is None


def test_openvino_tells_nobody_that_it_is_used() -> None:
    pytest.importorskip("openvino")
    code = (
        "import ablation_executor.bench.baselines.open_vino\n"
        "from openvino.tools.ovc import convert_impl, telemetry_utils\n"
        "print(convert_impl.tm.__name__, telemetry_utils.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub"] * 2

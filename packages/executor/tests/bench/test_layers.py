"""Several layers and sequences of the block: weights, cases, and the options that ask for them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from ablation_executor.bench.case import case_of
from ablation_executor.bench.command import main
from ablation_executor.bench.options import make_parser, make_request
from ablation_executor.bench.suites import find_suite
from ablation_executor.bench.suites.block.check import block_reference, compare, reference_bytes
from ablation_executor.bench.suites.block.configs import (
    CONFIGS,
    LAYERS_PROBE,
    PROBES,
    config_of,
    find_config,
    probes_of,
)
from ablation_executor.bench.suites.block.weights import layers_of, make_input, make_weights

from .conftest import run_bench

TOY = find_config("Toy")
SUITE = find_suite("block")


def test_the_first_layer_has_the_weights_of_the_single_block() -> None:
    one, three = make_weights(TOY, 5), make_weights(TOY.stacked(3), 5)
    layers = layers_of(TOY.stacked(3), three)
    assert set(three) == {f"{layer}.{name}" for layer in range(3) for name in one}
    assert [set(layer) for layer in layers] == [set(one)] * 3
    for name, array in one.items():
        np.testing.assert_array_equal(layers[0][name], array)
        values = [layer[name] for layer in layers]
        assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(values))
        assert not np.array_equal(values[0], values[2])
        assert values[1].shape == array.shape and values[1].dtype == np.float32
    np.testing.assert_array_equal(make_input(TOY, 5), make_input(TOY.stacked(3), 5))


def test_labels_come_back_and_a_single_block_keeps_its_own() -> None:
    single = "block/configs full B1 H4 Q32 K32 d16 float32 t2 cpu config=Toy"
    assert TOY.case(2).label == TOY.case(2, 1).label == TOY.stacked(1).case(2).label == single
    for layers in (2, 12):
        case = TOY.case(2, layers)
        assert case.label == f"{single} layers={layers}"
        assert case_of(case.label) == case == TOY.stacked(layers).case(2)
        assert config_of(case) == TOY.stacked(layers)
        assert case.name == f"Toy, {layers} layers"
    assert config_of(TOY.case(2)) == TOY
    with pytest.raises(ValueError, match="layers is 0"):
        TOY.stacked(0)


def test_what_grows_with_the_layers() -> None:
    one, four = (find_config("7B").stacked(n) for n in (1, 4))
    assert four.flops == 4 * one.flops
    assert four.weights_bytes == 4 * one.weights_bytes == 16 * (12 * 4096**2 + 13 * 4096)
    assert four.block_bytes == one.block_bytes
    cases = one.case(2), four.case(2)
    for worker, copies in (("kernels", 1), ("openvino", 2)):
        shared = [SUITE.shared_bytes(worker, case) for case in cases]
        assert shared == [copies * one.weights_bytes, copies * four.weights_bytes]
    # Of the weights two layers at most; of a layer below the last all rows
    assert reference_bytes(one) < reference_bytes(four) < 2**33
    assert reference_bytes(four) == reference_bytes(one.stacked(100))


def test_several_layers_have_a_probe_more() -> None:
    assert probes_of(TOY) == PROBES
    assert probes_of(TOY.stacked(2)) == (*PROBES, LAYERS_PROBE)
    assert find_config(LAYERS_PROBE.name) is LAYERS_PROBE


def test_a_batch_is_a_case_of_its_own_and_every_sequence_is_compared() -> None:
    three = TOY.batched(3)
    case = three.case(2, 4)
    assert case_of(case.label) == case and config_of(case) == three.stacked(4)
    assert (three.case(2).name, case.name) == ("Toy, batch 3", "Toy, 4 layers, batch 3")
    assert three.flops == 3 * TOY.flops and three.weights_bytes == TOY.weights_bytes
    with pytest.raises(ValueError, match="batch is 0"):
        TOY.batched(0)
    weights, x = make_weights(three, 5), make_input(three, 5)
    np.testing.assert_array_equal(x[:1], make_input(TOY, 5))
    reference = block_reference(three, weights, x)
    alone = [block_reference(TOY, weights, x[index : index + 1]) for index in range(3)]
    for name in ("expected", "tolerance"):
        joined = np.concatenate([getattr(each, name) for each in alone])
        np.testing.assert_array_equal(getattr(reference, name), joined)
    output = reference.expected.reshape(x.shape).astype(np.float32)
    assert compare(output, reference).reason is None
    # The second sequence where the third one should be
    told = compare(output[[0, 1, 1]], reference).reason
    assert told is not None and told.startswith("row ")


def labels(*words: str) -> list[str]:
    """The cases of a block's command."""
    request = make_request(SUITE, make_parser(SUITE).parse_args(words), False)
    return [case.label for case in request.cases]


def test_the_option_is_of_every_way_to_choose_cases() -> None:
    asked = ["--threads", "1", "--layers", "3"]
    expected = [config.case(1, 3).label for config in CONFIGS]
    assert labels(*asked) == expected
    assert labels(*asked, "--skip-large") == expected[:-2]
    assert labels(*asked, "--quick") == expected[:4]
    assert labels(*asked, "--configs", "toy,7b") == [expected[0], expected[6]]
    assert labels(*asked, "--cases", "layers=3 config=gpt-2") == [expected[3]]
    assert labels("--threads", "1", "--layers", "1") == labels("--threads", "1")
    batches = [config.batched(2).case(1, 3).label for config in CONFIGS]
    assert labels(*asked, "--batch", "2") == batches
    assert labels("--threads", "1", "--batch", "1") == labels("--threads", "1")


@pytest.mark.parametrize("given", ["0", "129", "two"])
def test_a_number_of_layers_that_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--layers", given])
    assert ended.value.code == 2
    assert "argument --layers" in (told := capsys.readouterr().err)
    assert "accepted: a whole number from 1 to 128" in told


@pytest.mark.parametrize(
    "words", [["--layers", "2"], ["--configs", "GPT-2"], ["--skip-large"], ["--layers=2"]]
)
def test_the_list_of_chosen_cases(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--threads", "1", "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == labels(*words, "--threads", "1")


def test_a_run_of_layers_and_its_table(tmp_path: Path) -> None:
    few = "torch-naive,attention-fused-parallel,layernorm-parallel"
    done = run_bench(
        *("--configs", "Toy", "--layers", "2", "--variants", few, "--baselines", "none"),
        *("--quick", "--samples", "3", "--threads", "1", "--out", "run"),
        folder=tmp_path,
        behaviors={"layernorm-parallel": "first_layer"},
    )
    assert done.returncode == 1, done.stderr
    lines = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
    rows = {row["variant"]: row for row in map(json.loads, lines)}
    right, wrong = rows["torch-naive"], rows["layernorm-parallel"]
    assert (right["status"], right["flops"]) == ("ok", 2 * TOY.flops)
    assert right["sizes"]["layers"] == 2
    assert (wrong["status"], wrong["reason"]) == ("incorrect", "probe")
    assert wrong["reason_text"].startswith("probe: probe-layers, first call")
    assert "Toy, 2 layers: d_model 64" in done.stdout
    assert "Toy, 2 layers layernorm-parallel: incorrect" in done.stdout
    again = run_bench("--resume", "run", "--layers", "3", folder=tmp_path)
    assert again.returncode == 2 and "leave out --layers" in again.stderr

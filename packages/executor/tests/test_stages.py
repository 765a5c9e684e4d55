"""Which calls share a fork-join, and that memory of a stage is not used twice in it."""

from __future__ import annotations

import numpy as np
import pytest

import ablation_executor as ex
import ablation_kernels
from ablation_executor import stages
from ablation_executor.memory import plan_greedy, verify_plan
from ablation_executor.selection import scratch_requirements, select_kernels
from ablation_executor.stages import row_stages


def feed_forward(rows: int = 24, width: int = 8) -> ex.Graph:
    """x + down(relu(up(norm(x)))), a softmax, and a product of two activations."""
    random = np.random.default_rng(7)

    def constant(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    builder = ex.GraphBuilder()
    x = builder.input("x", (1, rows, width))
    vectors = [builder.constant(name, constant(width)) for name in ("weight", "bias")]
    up = builder.constant("up", constant(width, 4 * width))
    down = builder.constant("down", constant(4 * width, width))
    norm = builder.node("layer_norm", [x, *vectors], name="norm")
    hidden = builder.node("matmul", [norm, up, None, None], {"activation": "relu"}, name="up_")
    out = builder.node("matmul", [hidden, down, None, x], name="down_")
    weights = builder.node("softmax", [out], name="softmax")
    turned = builder.node("permute", [weights], {"perm": (0, 2, 1)}, name="turn")
    product = builder.node("matmul", [weights, turned, None, None], name="product")
    return builder.finish(builder.node("relu", [product], name="relu"))


def stages_of(graph: ex.Graph) -> list[tuple[str, ...]]:
    return row_stages(graph, select_kernels(graph, None))


def test_a_stage_ends_where_rows_meet() -> None:
    """The permutation mixes rows, and each row of the last product reads all of another value."""
    assert stages_of(feed_forward()) == [("norm", "up_", "down_", "softmax")]


@pytest.mark.parametrize(("n_weights", "joined"), [(0, True), (3, False)])
def test_a_norm_by_heads_is_no_part_of_a_stage(n_weights: int, joined: bool) -> None:
    """Which weight a row takes depends on where it lies in the whole."""
    builder = ex.GraphBuilder()
    x = builder.input("x", (1, 6, 4, 8))
    weight = builder.constant("weight", np.ones((n_weights, 8) if n_weights else 8, np.float32))
    out = builder.node("relu", [builder.node("rms_norm", [x, weight], name="norm")], name="relu")
    assert (stages_of(builder.finish(out)) == [("norm", "relu")]) == joined


def test_a_long_stage_is_shared_out_call_by_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both products are 24 rows x 8 x 32: one multiply-add less than theirs is too few."""
    monkeypatch.setattr(stages, "LONGEST_STAGE", 2 * 24 * 8 * 32 - 1)
    assert stages_of(feed_forward()) == []
    monkeypatch.setattr(stages, "LONGEST_STAGE", 2 * 24 * 8 * 32)
    assert len(stages_of(feed_forward())) == 1


def test_other_rows_begin_another_stage() -> None:
    graph = feed_forward()
    x = graph.inputs[0]
    builder = ex.GraphBuilder(graph)
    flat = builder.node("reshape", [x], {"shape": (x.size // 4, 4)})
    for name in ("first", "second"):
        flat = builder.node("relu", [flat], name=name)
    graph.outputs.append(flat)
    assert stages_of(graph)[-1] == ("first", "second")


def test_what_lives_in_a_stage_lives_through_all_of_it() -> None:
    """The normalized rows are dead when `down_` runs, but another thread may still read them."""
    graph = feed_forward()
    found = stages_of(graph)
    norm, out = (
        next(node.output for node in graph.nodes if node.name == name) for name in ("norm", "down_")
    )
    assert plan_greedy(graph).offsets[norm] == plan_greedy(graph).offsets[out]
    shared = plan_greedy(graph, None, found)
    assert shared.offsets[norm] != shared.offsets[out]
    assert shared.arena_bytes > plan_greedy(graph).arena_bytes


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sharing_rows_changes_no_bit(threads: int) -> None:
    graph = feed_forward()
    x = np.random.default_rng(1).standard_normal((1, 24, 8)).astype(np.float32)
    apart = ex.compile(graph, threads=threads, share_rows=False)(x)
    shared = ex.compile(graph, threads=threads)(x)
    np.testing.assert_array_equal(shared, apart)
    np.testing.assert_allclose(shared, ex.interpret(graph, [x])[0], rtol=1e-4, atol=1e-4)


PRODUCTS = [info.name for info in ablation_kernels.op_table() if info.op == "matmul"]


@pytest.mark.parametrize("kernel", PRODUCTS)
@pytest.mark.parametrize(("rows", "threads"), [(37, 2), (300, 3), (2, 3)])
def test_each_thread_of_a_stage_has_the_scratch_of_its_rows(
    kernel: str, rows: int, threads: int
) -> None:
    """Also of a kernel that takes scratch for one thread alone where it is called by itself."""
    graph = feed_forward(rows, 96)
    x = np.random.default_rng(1).standard_normal((1, rows, 96)).astype(np.float32)
    program = ex.compile(graph, kernels={"matmul": kernel}, threads=threads)
    assert program.stages == (("norm", "up_", "down_", "softmax"),)
    given = (program.graph, program.kernels, threads)
    verify_plan(program.graph, program.memory, scratch_requirements(*given, program.stages))
    np.testing.assert_allclose(program(x), ex.interpret(graph, [x])[0], rtol=1e-3, atol=1e-3)

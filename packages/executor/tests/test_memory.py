"""Plans: sizes on small graphs, random graphs against the checker, plans that it must reject."""

from __future__ import annotations

import numpy as np
import pytest
from small_graphs import attention_graph

from ablation_executor.ir import Graph, GraphBuilder, Value
from ablation_executor.memory import Plan, PlanError, plan_greedy, plan_naive, verify_plan
from ablation_executor.ops import OPS


def chain(length: int, op: str = "permute") -> Graph:
    """x -> op -> op ... -> output."""
    builder = GraphBuilder()
    value = builder.input("x", (4, 4))
    for _ in range(length):
        value = builder.node(op, [value], {"perm": (1, 0)} if op == "permute" else {})
    return builder.finish(value)


def test_naive_gives_everything_its_own_place() -> None:
    plan = plan_naive(chain(4), {"permute": 100, "permute_3": 64})
    assert sorted(plan.offsets.values()) == [0, 64, 128]
    assert plan.scratch_offsets == {"permute": 192, "permute_3": 320}
    assert (plan.arena_bytes, plan.scratch_bytes) == (384, 100)
    assert plan.attention_scratch_bytes == 0


def test_greedy_takes_turns_between_two_places() -> None:
    graph = chain(9)
    plan = plan_greedy(graph)
    assert plan.arena_bytes == 128
    verify_plan(graph, plan)


def test_greedy_works_in_place_where_the_op_allows_it() -> None:
    graph = chain(9, "relu")
    plan = plan_greedy(graph)
    assert plan.arena_bytes == 64
    verify_plan(graph, plan)


def test_a_value_that_is_read_later_is_not_overwritten() -> None:
    builder = GraphBuilder()
    first = builder.node("relu", [builder.input("x", (4, 4))])
    second = builder.node("gelu", [first])
    graph = builder.finish(builder.node("add", [first, second]))
    plan = plan_greedy(graph)
    assert plan.offsets[first] != plan.offsets[second]
    verify_plan(graph, plan)


def test_a_value_that_is_read_twice_by_the_call_is_not_overwritten() -> None:
    """In place, a product's addend must not be the memory of its operand."""
    builder = GraphBuilder()
    a = builder.node("relu", [builder.input("x", (4, 4))])
    out = builder.node("matmul", [a, builder.input("b", (4, 4)), None, a])
    graph = builder.finish(builder.node("relu", [out]))
    plan = plan_greedy(graph)
    assert plan.offsets[a] != plan.offsets[out]
    verify_plan(graph, plan)


def test_a_residual_is_added_in_place() -> None:
    builder = GraphBuilder()
    residual = builder.node("relu", [builder.input("x", (4, 4))])
    out = builder.node(
        "matmul", [builder.input("a", (4, 4)), builder.input("b", (4, 4)), None, residual]
    )
    graph = builder.finish(builder.node("softmax", [out]))
    plan = plan_greedy(graph)
    assert plan.offsets[residual] == plan.offsets[out] == 0
    verify_plan(graph, plan)


def test_a_broadcast_input_is_not_overwritten() -> None:
    builder = GraphBuilder()
    row = builder.node("relu", [builder.input("x", (4,))])
    out = builder.node("add", [row, builder.input("y", (4, 4))])
    graph = builder.finish(builder.node("permute", [out], {"perm": (1, 0)}))
    plan = plan_greedy(graph)
    assert plan.offsets[row] != plan.offsets[out]
    verify_plan(graph, plan)


def test_a_reshape_shares_its_source_and_keeps_it_alive() -> None:
    builder = GraphBuilder()
    first = builder.node("relu", [builder.input("x", (4, 4))])
    flat = builder.node("reshape", [first], {"shape": (16,)})
    other = builder.node("gelu", [builder.input("y", (4, 4))])
    graph = builder.finish(
        builder.node("permute", [other], {"perm": (1, 0)}), builder.node("relu", [flat])
    )
    plan = plan_greedy(graph)
    assert plan.offsets[first] == plan.offsets[flat] != plan.offsets[other]
    verify_plan(graph, plan)


def test_outputs_inputs_and_constants_take_no_arena() -> None:
    graph = chain(1)
    assert plan_greedy(graph) == Plan({}, {}, 0, 0, 0)


def test_scratch_lies_apart_from_what_its_call_reads_and_writes() -> None:
    graph = attention_graph(mask=np.zeros((4, 5), np.float32))
    needs = {node.name: 200 for node in graph.nodes}
    plan = plan_greedy(graph, needs)
    verify_plan(graph, plan, needs)
    assert set(plan.scratch_offsets) == set(needs)
    assert plan.arena_bytes < plan_naive(graph, needs).arena_bytes


def test_attention_scratch_is_told_apart() -> None:
    builder = GraphBuilder()
    q = builder.input("q", (1, 1, 4, 8))
    graph = builder.finish(builder.node("softmax", [builder.node("attention", [q, q, q])]))
    plan = plan_greedy(graph, {"attention": 640, "softmax": 1000})
    assert (plan.attention_scratch_bytes, plan.scratch_bytes) == (640, 1000)


def random_graph(generator: np.random.Generator) -> tuple[Graph, dict[str, int]]:
    """Up to 40 nodes that read anything made so far, reshapes and several outputs among them."""
    builder = GraphBuilder()
    values: list[Value] = [builder.input(f"x{i}", (int(n), 4)) for i, n in enumerate((4, 4, 8))]
    for _ in range(generator.integers(2, 40)):
        value = values[generator.integers(len(values))]
        same = [other for other in values if other.shape == value.shape]
        other = same[generator.integers(len(same))]
        kind = generator.choice(["relu", "add", "permute", "reshape", "slice", "softmax"])
        if kind == "add":
            made = builder.node("add", [value, other])
        elif kind == "permute":
            made = builder.node("permute", [value], {"perm": (1, 0)})
        elif kind == "reshape":
            made = builder.node("reshape", [value], {"shape": value.shape[::-1]})
        elif kind == "slice":
            middle = max(1, value.shape[0] // 2)
            made = builder.node("slice", [value], {"axis": 0, "start": 0, "stop": middle})
        else:
            made = builder.node(kind, [value])
        values.append(made)
    made_by_nodes = values[3:]
    count = generator.integers(1, 4)
    picked = generator.choice(len(made_by_nodes), min(int(count), len(made_by_nodes)), False)
    graph = builder.finish(*[made_by_nodes[int(index)] for index in picked])
    needs = {
        node.name: int(generator.integers(0, 3)) * 100
        for node in graph.nodes
        if not OPS[node.op].is_alias
    }
    return graph, needs


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    graph, needs = random_graph(np.random.default_rng(seed))
    naive, greedy = plan_naive(graph, needs), plan_greedy(graph, needs)
    verify_plan(graph, naive, needs)
    verify_plan(graph, greedy, needs)
    assert greedy.arena_bytes <= naive.arena_bytes


def overlapping() -> tuple[Graph, Plan]:
    """Two values alive at once, planned apart."""
    builder = GraphBuilder()
    x = builder.input("x", (4, 4))
    first = builder.node("relu", [x], name="first")
    second = builder.node("permute", [first], {"perm": (1, 0)}, name="second")
    graph = builder.finish(builder.node("add", [first, second]))
    return graph, plan_greedy(graph)


def test_a_plan_that_overlaps_is_rejected() -> None:
    graph, plan = overlapping()
    first, second = (node.output for node in graph.nodes[:2])
    verify_plan(graph, plan)
    plan.offsets[second] = plan.offsets[first]
    with pytest.raises(PlanError, match=r"'second': %second \[0, 64\) overlaps %first \[0, 64\)"):
        verify_plan(graph, plan)


def test_a_plan_that_overlaps_in_part_is_rejected_even_in_place() -> None:
    graph = chain(3, "relu")
    plan = plan_greedy(graph)
    verify_plan(graph, plan)
    plan.offsets[graph.nodes[0].output] = 64
    plan.arena_bytes = 192
    verify_plan(graph, plan)
    wide = GraphBuilder()
    first = wide.node("relu", [wide.input("x", (8, 4))], name="first")
    second = wide.node("relu", [first], name="second")
    graph = wide.finish(wide.node("relu", [second]))
    plan = Plan({first: 0, second: 64}, {}, 192, 0, 0)
    with pytest.raises(PlanError, match=r"%second .* overlaps %first"):
        verify_plan(graph, plan)


def test_scratch_over_a_live_value_is_rejected() -> None:
    graph, plan = overlapping()
    needs = {"second": 10}
    plan.scratch_offsets["second"] = plan.offsets[graph.nodes[0].output]
    with pytest.raises(PlanError, match=r"the scratch of 'second' .* overlaps %first"):
        verify_plan(graph, plan, needs)


def test_scratch_over_its_own_output_is_rejected() -> None:
    graph, plan = overlapping()
    needs = {"second": 10}
    plan.scratch_offsets["second"] = plan.offsets[graph.nodes[1].output]
    with pytest.raises(PlanError, match=r"the scratch of 'second' .* overlaps %second"):
        verify_plan(graph, plan, needs)


def test_plans_that_break_other_rules_are_rejected() -> None:
    graph, plan = overlapping()
    first = graph.nodes[0].output
    for offset, message in ((8, "no multiple of 64"), (6400, "ends at 6464"), (-64, "multiple")):
        broken = Plan({**plan.offsets, first: offset}, {}, plan.arena_bytes, 0, 0)
        with pytest.raises(PlanError, match=message):
            verify_plan(graph, broken)
    without = {value: offset for value, offset in plan.offsets.items() if value is not first}
    with pytest.raises(PlanError, match="%first has no offset"):
        verify_plan(graph, Plan(without, {}, plan.arena_bytes, 0, 0))
    with pytest.raises(PlanError, match="the scratch of 'second' has no offset"):
        verify_plan(graph, plan, {"second": 64})


def test_a_reshape_away_from_its_source_is_rejected() -> None:
    builder = GraphBuilder()
    first = builder.node("relu", [builder.input("x", (4, 4))])
    flat = builder.node("reshape", [first], {"shape": (16,)}, name="flat")
    graph = builder.finish(builder.node("relu", [flat]))
    plan = plan_greedy(graph)
    plan.offsets[flat] = 64
    with pytest.raises(PlanError, match="%flat does not lie where %relu does"):
        verify_plan(graph, plan)

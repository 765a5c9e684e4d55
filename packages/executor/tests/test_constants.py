"""A graph owns its constants: a program stays the model of the export and holds a weight once."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_graphs import inputs_of, ops_of, random
from torch import nn

from ablation_executor.bench.runtimes.ours import Adapter
from ablation_executor.bench.runtimes.parameters import take_weights
from ablation_executor.bench.suites.block.configs import Config
from ablation_executor.bench.suites.block.ladder import BY_NAME
from ablation_executor.bench.suites.block.programs import BlockInputs
from ablation_executor.compiler import CompiledProgram, compile
from ablation_executor.constants import ReleasedConstantError, owned
from ablation_executor.exporter import export
from ablation_executor.interpreter import interpret
from ablation_executor.ir import Array, Graph, GraphBuilder, verify
from ablation_executor.passes import optimize
from ablation_executor.per_op import PerOp
from ablation_executor.refusal import ExportError

PACKED = {"matmul": "packed_simd_parallel"}
UNPACKED = {"matmul": "blas_parallel"}

RUNNERS: dict[str, Callable[[Graph], Any]] = {
    "packed": lambda graph: compile(graph, kernels=PACKED),
    "unpacked": lambda graph: compile(graph, kernels=UNPACKED),
    "per_op numpy": lambda graph: PerOp(graph, "numpy"),
    "per_op kernels": lambda graph: PerOp(graph, "kernels"),
}


class Scaled(nn.Module):
    """Two linear layers, a norm and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(32, 32), nn.LayerNorm(32), nn.Linear(32, 32)
        self.factor: torch.Tensor
        self.register_buffer("factor", torch.rand(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.norm(torch.relu(self.first(x)))) * self.factor


class Repeated(nn.Module):
    """One linear layer, used several times."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.layer = count, nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.count):
            x = torch.relu(self.layer(x))
        return x


class Attention(nn.Module):
    """Self-attention, used several times with the same weights."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.query, self.key, self.value = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.count):
            q, k, v = (
                part(x).view(2, 5, 4, 8).transpose(1, 2)
                for part in (self.query, self.key, self.value)
            )
            weights = torch.softmax(q @ k.transpose(-2, -1) / 8**0.5, dim=-1)
            x = (weights @ v).transpose(1, 2).reshape(2, 5, 32)
        return x


def matrix_program(matrix: Any, kernels: dict[str, str]) -> tuple[Graph, CompiledProgram]:
    builder = GraphBuilder()
    x = builder.input("x", (4, 24))
    weight = builder.constant("weight", matrix)
    graph = builder.finish(builder.node("matmul", [x, weight]))
    return graph, compile(graph, kernels=kernels)


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_change_of_the_module_does_not_reach_what_was_exported(runner: str) -> None:
    module, x = Scaled().eval(), torch.randn(8, 32)
    graph, _ = optimize(export(module, (x,)))
    program = RUNNERS[runner](graph)
    want = module(x).detach().numpy()
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.add_(torch.randn_like(tensor))
    assert np.abs(module(x).detach().numpy() - want).max() > 0.1
    np.testing.assert_allclose(program(x), want, rtol=0, atol=1e-5)
    np.testing.assert_allclose(RUNNERS[runner](graph)(x), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernels", [PACKED, UNPACKED], ids=["packed", "unpacked"])
def test_a_change_of_an_array_does_not_reach_the_graph_that_was_given_it(
    kernels: dict[str, str],
) -> None:
    matrix, x = random(24, 16), random(4, 24)
    want = x @ matrix
    view = matrix.view()
    view.flags.writeable = False
    programs = [matrix_program(given, kernels)[1] for given in (matrix, view)]
    matrix[:] = 0
    for program in programs:
        np.testing.assert_allclose(program(x), want, rtol=1e-5, atol=1e-5)


def test_what_nobody_can_write_to_is_not_copied() -> None:
    matrix = random(24, 16)
    assert not np.shares_memory(owned(matrix), matrix)
    view = matrix.view()
    view.flags.writeable = False
    assert not np.shares_memory(owned(view), matrix)
    matrix.flags.writeable = False
    assert owned(matrix) is matrix
    row = matrix[3]
    assert owned(row) is row
    graph, program = matrix_program(matrix, UNPACKED)
    assert [array is matrix for array in graph.constants.values()] == [True]
    assert program._program.copied_bytes == 0
    with pytest.raises(ValueError, match="read-only"):
        owned(random(3))[0] = 1


def test_tied_weights_are_one_constant() -> None:
    module = nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU(), nn.Linear(64, 64, bias=False))
    module[2].weight = module[0].weight
    graph = export(module.eval(), (torch.randn(8, 64),))
    assert len(graph.constants) == 1
    program = compile(optimize(graph)[0], kernels=PACKED)
    assert program.packed_weights_bytes < 1.5 * 64 * 64 * 4


@pytest.mark.parametrize("passes", [("fold_constants",), ("absorb_into_matmul",), None])
def test_a_layer_that_is_used_n_times_is_packed_once(passes: tuple[str, ...] | None) -> None:
    module, x = Repeated(5).eval(), torch.randn(8, 64)
    graph = export(module, (x,))
    graph, log = optimize(graph) if passes is None else optimize(graph, passes)
    program = compile(graph, kernels=PACKED)
    assert program.packed_weights_bytes < 1.5 * 64 * 64 * 4
    np.testing.assert_allclose(program(x), module(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    if passes == ("fold_constants",):
        assert log.fired("fold") == 5 and len(graph.constants) == 2


def test_one_weight_read_in_both_directions_is_packed_for_each() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (4, 32))
    weight = builder.constant("weight", random(32, 32))
    straight = builder.node("matmul", [x, weight])
    turned = builder.node("matmul", [straight, weight], {"transpose_b": True})
    scaled = builder.node("matmul", [turned, weight], {"alpha": 0.5, "activation": "relu"})
    graph = builder.finish(scaled)
    program = compile(graph, kernels=PACKED)
    assert (
        program.packed_weights_bytes
        == 2 * compile(matrix_graph(32), kernels=PACKED).packed_weights_bytes
    )
    inputs = inputs_of(graph)
    np.testing.assert_allclose(
        program(*inputs), interpret(graph, inputs, np.float64)[0], rtol=1e-4, atol=1e-4
    )


def matrix_graph(size: int) -> Graph:
    builder = GraphBuilder()
    x, weight = builder.input("x", (4, size)), builder.constant("weight", random(size, size))
    return builder.finish(builder.node("matmul", [x, weight]))


def test_joined_weights_of_an_attention_that_is_used_twice_are_one() -> None:
    module, x = Attention(2).eval(), torch.randn(2, 5, 32)
    graph, log = optimize(export(module, (x,)))
    assert log.fired("merge_qkv") == 2 and ops_of(graph).count("attention") == 2
    assert sorted(value.shape for value in graph.constants) == [(96,), (96, 32)]
    np.testing.assert_allclose(compile(graph)(x), module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def released_graph() -> tuple[CompiledProgram, Array]:
    graph = matrix_graph(32)
    return compile(graph, kernels=PACKED), random(4, 32)


@pytest.mark.parametrize(
    "use",
    [
        compile,
        verify,
        optimize,
        Graph.copy,
        lambda graph: interpret(graph, [random(4, 32)]),
        lambda graph: PerOp(graph, "numpy"),
        lambda graph: PerOp(graph, "kernels"),
        lambda graph: list(graph.constants.values()),
        lambda graph: graph.constants[next(iter(graph.constants))],
    ],
)
def test_the_graph_of_a_program_refuses_what_needs_a_released_constant(
    use: Callable[[Graph], Any],
) -> None:
    program, x = released_graph()
    before = program(x)
    with pytest.raises(ReleasedConstantError, match=r"%weight was packed .* given to"):
        use(program.graph)
    assert "matmul(%x, %weight)" in str(program.graph)
    np.testing.assert_array_equal(program(x), before)


def test_a_graph_can_be_compiled_twice_copied_and_pickled() -> None:
    graph, x = matrix_graph(32), random(4, 32)
    want = compile(graph, kernels=PACKED)(x)
    for other in (graph, graph.copy(), copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        verify(other)
        np.testing.assert_array_equal(compile(other, kernels=PACKED)(x), want)
        assert not any(array.flags.writeable for array in other.constants.values())


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_program_says_that_it_cannot_be_copied(duplicate: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="CompiledProgram cannot be copied or pickled"):
        duplicate(released_graph()[0])


def test_an_output_that_is_a_constant_is_the_callers_own() -> None:
    builder = GraphBuilder()
    x, constant = builder.input("x", (3,)), builder.constant("c", np.arange(4))
    program = compile(builder.finish(builder.node("relu", [x]), constant))
    first = program(random(3))[1]
    first[:] = -1
    np.testing.assert_array_equal(program(random(3))[1], np.arange(4))


def test_export_takes_arrays_without_a_copy() -> None:
    module, x = Scaled().eval(), torch.randn(8, 32)
    weights = take_weights(module)
    graph = export(module, (x,), arrays=weights)
    stored = {value.name: array for value, array in graph.constants.items()}
    assert weights.keys() == {name for name, _ in module.named_parameters()}
    for name, array in weights.items():
        assert stored[name] is array
        assert np.shares_memory(array, module.get_parameter(name).detach().numpy())
    assert not np.shares_memory(stored["factor"], module.factor.numpy())
    np.testing.assert_allclose(
        compile(optimize(graph)[0])(x), module(x).detach().numpy(), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"third.weight": random(32, 32)}, "'third.weight', which is no parameter"),
        ({"first.weight": random(32, 31)}, r"float32\[32, 31\], the module as torch.float32"),
        ({"first.weight": np.zeros((32, 32))}, r"'first.weight' as float64\[32, 32\]"),
    ],
)
def test_export_refuses_arrays_that_are_not_the_modules(
    arrays: dict[str, Array], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export(Scaled().eval(), (torch.randn(8, 32),), arrays=arrays)


def test_the_bench_holds_the_weights_of_a_config_once() -> None:
    config = Config("Tiny", batch=1, seq_len=8, d_model=32, n_heads=2, causal=False)
    inputs = BlockInputs(config, 0)
    exported = Adapter("kernels", 1).export(inputs.model(BY_NAME["passes-none"]))
    stored = {id(array) for array in exported.graph.constants.values()}
    assert {id(array) for array in inputs.weights.values()} <= stored

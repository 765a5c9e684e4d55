"""What a program does in a call, counted by hand for small models."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import ablation_kernels
from ablation_executor import export, optimize
from ablation_executor.census import Census, census
from ablation_executor.compiler import compile, plan_program
from ablation_executor.ir import GraphBuilder


def test_a_linear_layer() -> None:
    graph, _ = optimize(export(nn.Linear(8, 5).eval(), (torch.randn(3, 8),)))
    plan = plan_program(graph, kernels={"matmul": "blas"}, threads=1)
    read, written = 4 * (3 * 8 + 5 * 8 + 5), 4 * 3 * 5
    flops = 3 * 5 * (2 * 8 + 1)
    assert census(plan) == Census(1, flops, read, written, 0, 0, 0, 1)
    assert census(plan, is_loop=True) == census(plan)


@pytest.mark.parametrize("kernel", ["blas", "packed_simd"])
def test_packed_constants_are_those_of_the_program(kernel: str) -> None:
    """A weight that two layers share is packed once."""
    layer = nn.Linear(24, 24)
    graph, _ = optimize(
        export(nn.Sequential(layer, nn.ReLU(), layer).eval(), (torch.randn(3, 24),))
    )
    plan = plan_program(graph, kernels={"matmul": kernel}, threads=1)
    program = compile(graph, kernels={"matmul": kernel}, threads=1)
    found = census(plan)
    assert found.packed_bytes == program.packed_weights_bytes
    assert (found.packed_bytes > 0) == (kernel == "packed_simd")
    assert found.launches == 2
    # 3 rows of 24 float32, in whole lines of 64 bytes.
    assert found.arena_bytes == 320


class Attend(nn.Module):
    def __init__(self, is_causal: bool) -> None:
        super().__init__()
        self.is_causal = is_causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=self.is_causal)


@pytest.mark.parametrize(("is_causal", "pairs"), [(False, 6 * 6), (True, 6 * 7 // 2)])
def test_attention(is_causal: bool, pairs: int) -> None:
    graph, _ = optimize(export(Attend(is_causal).eval(), (torch.randn(2, 3, 6, 4),)))
    found = census(plan_program(graph, threads=1))
    assert found.flops == 2 * 3 * pairs * (4 * 4 + 1)
    assert found.bytes_written == 4 * 2 * 3 * 6 * 4
    assert found.bytes_read == 3 * found.bytes_written


@pytest.mark.parametrize(("softcap", "each"), [(0.0, 1), (5.0, 4)])
def test_attention_of_one_array_whose_heads_share_keys(softcap: float, each: int) -> None:
    builder = GraphBuilder()
    qkv = builder.input("qkv", (2, 6, 4 + 2 * 2, 8))
    settings = {"layout": "qkv", "n_heads": 4, "softcap": softcap}
    found = census(
        plan_program(builder.finish(builder.node("attention", [qkv], settings)), threads=1)
    )
    assert found.flops == 2 * 4 * 6 * 6 * (2 * 2 * 8 + each)
    assert found.bytes_read == 2 * found.bytes_written


@pytest.mark.parametrize(
    ("queries", "keys", "window", "pairs"),
    [(6, 6, 0, 21), (6, 6, 1, 6), (6, 6, 2, 11), (6, 4, 3, 12), (9, 3, 2, 6), (3, 6, 9, 6)],
)
def test_attention_with_shared_keys(queries: int, keys: int, window: int, pairs: int) -> None:
    """Four heads read two; the values have a head size of their own; hidden keys cost nothing."""
    builder = GraphBuilder()
    q = builder.input("q", (2, 4, queries, 8))
    k, v = builder.input("k", (2, 2, keys, 8)), builder.input("v", (2, 2, keys, 5))
    causal = {"causal": True, "window": window}
    plan = plan_program(builder.finish(builder.node("attention", [q, k, v], causal)), threads=1)
    found = census(plan)
    assert found.flops == 2 * 4 * pairs * (2 * (8 + 5) + 1)
    assert found.bytes_read == 4 * 2 * (4 * queries * 8 + 2 * keys * (8 + 5))
    assert found.bytes_written == 4 * 2 * 4 * queries * 5


def test_a_fork_join_that_is_shared_is_one_launch() -> None:
    before = ablation_kernels.get_num_threads()
    try:
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)).eval()
        graph, _ = optimize(export(model, (torch.randn(64, 8),)))
        apart = census(plan_program(graph, threads=2, share_rows=False))
        shared = census(plan_program(graph, threads=2))
    finally:
        ablation_kernels.set_num_threads(before)
    assert (apart.launches, shared.launches) == (2, 1)
    assert apart.flops == shared.flops


class Both(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1, torch.relu(x) * 2


def test_a_loop_allocates_every_result_and_a_program_its_outputs() -> None:
    graph, _ = optimize(export(Both().eval(), (torch.randn(4, 4),)))
    plan = plan_program(graph, threads=1)
    assert census(plan).allocations == 2
    assert census(plan, is_loop=True).allocations == census(plan).launches == 3


def test_results_of_a_stage_live_through_all_of_it() -> None:
    layers = [layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.ReLU())]
    graph, _ = optimize(export(nn.Sequential(*layers).eval(), (torch.randn(64, 64),)))
    apart, shared = (
        plan_program(graph, kernels={"matmul": "blas_parallel"}, threads=2, share_rows=share)
        for share in (False, True)
    )
    assert shared.stages and shared.memory.scratch_bytes == 0
    assert census(apart).arena_bytes == apart.memory.arena_bytes
    assert census(shared).arena_bytes == shared.memory.arena_bytes > apart.memory.arena_bytes

"""Integers and booleans through export: what torch computes, exactly, or a refusal."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ablation_executor import (
    ExportError,
    Graph,
    GraphBuilder,
    GraphError,
    Integers,
    PerOp,
    Range,
    export,
    interpret,
    optimize,
    verify,
)
from ablation_executor.compiler import compile
from ablation_executor.integers import DTYPES, LIMIT
from ablation_executor.ir import Result

IDS = torch.tensor([[0, 3, 7], [1, 0, 4]])
MASK = torch.tensor([[True, False, True], [False, False, True]])
X = torch.tensor([[0.5, -2.0, 1.25], [3.0, -0.0, -7.5]])


class Function(nn.Module):
    """A function as a module, with an embedding of 10 rows."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        generator = torch.Generator().manual_seed(3)
        self.table = nn.Parameter(torch.randn(10, 4, generator=generator))

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


EXACT: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
    lambda ids, mask, x: ids.float() * x,
    lambda ids, mask, x: x * ids - ids / 2,
    lambda ids, mask, x: ids + 1,
    lambda ids, mask, x: torch.sub(ids, ids.view(3, 2).t(), alpha=3),
    lambda ids, mask, x: 5 - ids.int(),
    lambda ids, mask, x: ids.int() + ids,
    lambda ids, mask, x: ids[:, 1:].unsqueeze(0).transpose(1, 2),
    lambda ids, mask, x: torch.stack([ids, -ids], 1),
    lambda ids, mask, x: ids.unbind(1)[2] - ids.split(1, 1)[0].flatten(),
    lambda ids, mask, x: ids.unsqueeze(1).expand(2, 4, 3),
    # An integer zero has no sign
    lambda ids, mask, x: x / (-ids).float(),
    lambda ids, mask, x: x / (ids * -2).float(),
    lambda ids, mask, x: torch.where(mask, x, -1.0),
    lambda ids, mask, x: x.masked_fill(mask, 7.0),
    lambda ids, mask, x: torch.where(mask, ids, 5) * mask,
    lambda ids, mask, x: (1.0 - mask.float()) * -1e9 + x,
    lambda ids, mask, x: mask.long() + 3,
    lambda ids, mask, x: mask.view(6),
    lambda ids, mask, x: torch.arange(3) - 1,
    lambda ids, mask, x: torch.arange(3) > 1,
    lambda ids, mask, x: ids.short().to(torch.uint8),
    lambda ids, mask, x: ids.bool(),
    lambda ids, mask, x: torch.where((x / x.masked_fill(mask, 0.0) - 1).bool(), x, 2.0),
    lambda ids, mask, x: ids.to(mask.dtype).float() + mask.type_as(x),
    lambda ids, mask, x: ids,
]


def test_what_torch_computes() -> None:
    """Each runner gives the same bits in torch's type."""
    args = (IDS, MASK, X)
    module = Function(lambda *args: tuple(function(*args) for function in EXACT)).eval()
    with torch.no_grad():
        want = [part.numpy() for part in module(*args)]
    graph = export(module, args, ranges={"args_0": (0, 9)})
    optimized, _ = optimize(graph)
    runs = [interpret(each, args) for each in (graph, optimized, graph.copy())]
    runs += [compile(optimized)(*args), PerOp(graph)(*args), PerOp(optimized, "kernels")(*args)]
    for results in runs:
        for index, (got, expected) in enumerate(zip(results, want, strict=True)):
            assert got.dtype == expected.dtype, index
            np.testing.assert_array_equal(got, expected, err_msg=f"function {index}")


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (
            lambda ids: ids * ids,
            (IDS,),
            r"aten.mul.Tensor.*its result can be in \[-281474976710656, 281474976710656\]",
        ),
        (lambda ids: torch.add(ids, ids, alpha=2), (IDS,), r"a product can be in \["),
        (lambda ids: ids + 2**25, (IDS.short(),), r"an argument can be in \[33554432, 33554432\]"),
        (lambda ids: ids - torch.tensor(2**25), (IDS.short(),), "constant .* can be in"),
        (lambda ids: ids + 200, (IDS.to(torch.uint8),), r"in \[200, 455\], which uint8 does not"),
        (lambda mask: mask + mask, (MASK,), r"in \[0, 2\], which bool does not hold"),
        (lambda x: x.long(), (X,), "makes integers of float32, whose range nobody knows"),
        (lambda ids: ids.double(), (IDS,), "gives torch.float64 on cpu"),
        (lambda ids: torch.tensor([2**25]), (IDS,), r"result 'output': the range \[33554432, "),
        (lambda ids: ids.relu().float(), (IDS,), "takes int64 here, and export knows it for"),
    ],
)
def test_what_is_not_exact_is_refused(
    function: Callable[..., Any], args: tuple[Tensor, ...], message: str
) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        export(Function(function).eval(), args)
    assert len(caught.value.refusals) == 1


def test_a_range_that_the_caller_vouches_for() -> None:
    square = Function(lambda ids: ids * ids).eval()
    graph = export(square, (IDS,), ranges={"args_0": (-4096, 4096)})
    assert graph.inputs[0].integers == Integers("int64", Range(-4096, 4096))
    assert graph.results == (Result("output", Integers("int64", Range(-LIMIT, LIMIT))),)
    assert str(graph).splitlines()[0] == "graph(%args_0: int64[2, 3] of [-4096, 4096]):"
    assert str(graph).splitlines()[-1].endswith(f": int64 of [-{LIMIT}, {LIMIT}]")
    with pytest.raises(ExportError, match=r"its result can be in \[-16785409, 16785409\]"):
        export(square, (IDS,), ranges={"args_0": (-4097, 4097)})
    for each in (optimize(graph)[0], graph.copy(), compile(graph).graph):
        verify(each)
        assert each.inputs[0].integers == graph.inputs[0].integers and each.results == graph.results


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"ids": (0, 1)}, "ranges has 'ids', which is no integer input.*these are: 'args_0'"),
        ({"args_1": (0, 1)}, "ranges has 'args_1', which is no integer input"),
        ({"args_0": 7}, r"ranges has 'args_0' as 7, expected \(lowest, highest\)"),
        ({"args_0": (0.0, 1.0)}, "two whole numbers"),
        ({"args_0": (2, 1)}, r"the range \[2, 1\] of int32 has no number"),
        ({"args_0": (0, 2**40)}, "does not fit int32"),
        ({"args_0": (0, 2**25)}, r"is beyond 2\^24"),
    ],
)
def test_wrong_ranges_are_refused(ranges: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(Function(lambda ids, x: x * ids).eval(), (IDS.int(), X), ranges=ranges)


class Language(nn.Module):
    """Ids to logits over the rows of the embedding, whose table is the weight of the head."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.words, self.places = nn.Embedding(10, 4), nn.Embedding(5, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.words.weight
        for weight in (self.words.weight, self.places.weight):
            weight.data = torch.randn(weight.shape, generator=generator)

    def forward(self, ids: Tensor, places: Tensor, mask: Tensor) -> dict[str, Tensor]:
        x = self.words(ids.reshape(-1).int()).view(*ids.shape, 4) + self.places(places[:, :2]).sum(
            1
        )
        return {"logits": self.head(x), "shown": ids * mask}


def test_ids_are_checked_against_the_rows_of_their_embedding() -> None:
    module, args = Language().eval(), (IDS[0], IDS[:1, :3], MASK[0])
    graph = export(module, args, ranges={"places": (0, 7)})
    assert [value.integers and value.integers.range for value in graph.inputs] == [
        Range(0, 9),
        Range(0, 7),  # a part of it is looked up
        Range(0, 1),
    ]
    tables = [value for value in graph.constants if value.shape == (10, 4)]
    assert len(tables) == 1
    program, looped = compile(optimize(graph)[0]), PerOp(graph, "kernels")
    want = module(*args)
    for found in (program.named(*args), looped.named(*args)):
        np.testing.assert_allclose(found["logits"], want["logits"].detach(), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found["shown"], want["shown"])
    with pytest.raises(
        ValueError, match=r"input 'ids' has the value 10 at \[2\], expected int64 in"
    ):
        program(IDS[0] + 3, args[1], args[2])
    with pytest.raises(IndexError, match="7"):
        program(IDS[0], torch.tensor([[0, 7, 0]]), args[2])
    with pytest.raises(
        ExportError, match=r"'ids' as \[10, 12\], and it is looked up in .* 10 rows"
    ):
        export(module, args, ranges={"ids": (10, 12)})


def scaled() -> Graph:
    """x * ids, with ids in [0, 9]."""
    builder = GraphBuilder()
    ids = builder.input("ids", (2, 3), Integers("int64", Range(0, 9)))
    return builder.finish(builder.node("mul", [ids, builder.input("x", (2, 3))]))


@pytest.mark.parametrize(
    "ids",
    [
        IDS,
        IDS.int(),
        IDS.numpy(),
        IDS.numpy().astype(np.uint8),
        np.asfortranarray(IDS.numpy()),
        IDS.t().contiguous().t(),
        IDS.tolist(),
        MASK,
    ],
)
def test_integers_may_be_given_in_any_integer_type(ids: Any) -> None:
    want = np.asarray(ids) * X.numpy()
    for run in (compile(scaled()), PerOp(scaled()), PerOp(scaled(), "kernels")):
        np.testing.assert_array_equal(run(ids, X), want)
    np.testing.assert_array_equal(interpret(scaled(), (ids, X))[0], want)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (
            IDS + 3,
            ValueError,
            r"input 'ids' has the value 10 at \[0, 2\], expected int64 in \[0, 9",
        ),
        (IDS.numpy() - 1, ValueError, r"input 'ids' has the value -1 at \[0, 0\]"),
        (np.full((2, 3), 2**63, np.uint64), ValueError, "has the value 9223372036854775808"),
        (IDS[0], ValueError, r"input 'ids' has shape \[3\], expected \[2, 3\]"),
        (X, TypeError, "input 'ids' is float32, expected int64 or another integer type"),
        (X.bfloat16(), TypeError, "input 'ids' is a Tensor, expected an array or CPU tensor of"),
        ("ids", TypeError, "input 'ids' is <U3, expected int64"),
    ],
)
def test_a_wrong_integer_is_named_with_input_and_range(ids: Any, error: Any, message: str) -> None:
    for run in (compile(scaled()), PerOp(scaled()), lambda *args: interpret(scaled(), args)):
        with pytest.raises(error, match=message):
            run(ids, X)


def test_outputs_of_integers_may_be_written_to_arrays() -> None:
    module = Function(lambda ids, x: (ids + 1, x * 2)).eval()
    graph = export(module, (IDS, X), ranges={"args_0": (0, 9)})
    for run in (compile(graph), PerOp(graph)):
        outs = [np.zeros((2, 3), np.int64), torch.zeros(2, 3)]
        results = run(IDS, X, out=outs)
        np.testing.assert_array_equal(outs[0], IDS + 1)
        np.testing.assert_array_equal(results[1], X * 2)
        assert results[0] is outs[0] and np.shares_memory(results[1], outs[1].numpy())
        with pytest.raises(
            ValueError, match=r"out\[0\] is float32\[2, 3\], expected int64\[2, 3\]"
        ):
            run(IDS, X, out=[np.zeros((2, 3), np.float32), outs[1]])
        with pytest.raises(ValueError, match="out has 1 arrays, expected 2"):
            run(IDS, X, out=outs[:1])


def test_verify_checks_declarations() -> None:
    graph = scaled()
    graph.nodes[0].output.integers = Integers("bool", Range(0, 1))
    with pytest.raises(GraphError, match=r"%mul is declared bool of \[0, 1\], and is no input"):
        verify(graph)
    graph = scaled()
    graph.results = (Result("a"), Result("b"))
    with pytest.raises(GraphError, match="has 1 outputs and 2 results"):
        verify(graph)
    graph.outputs, graph.results = graph.outputs * 2, (Result("a"), Result("a"))
    with pytest.raises(GraphError, match="two outputs are named 'a'"):
        verify(graph)
    for dtype, found in (("float64", Range(0, 1)), ("bool", Range(0, 2)), ("int64", Range(1, 0))):
        with pytest.raises(ValueError, match=f"{dtype}"):
            Integers(dtype, found)


def random_integers(seed: int) -> tuple[Callable[..., Tensor], tuple[int, int]]:
    """A function of ids and mask made of a few random calls, and the range of ids."""
    draw = random.Random(seed)
    low = draw.randint(-90, 5)
    steps: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
        lambda v, ids, mask: v + ids,
        lambda v, ids, mask: torch.sub(v, ids, alpha=2),
        lambda v, ids, mask: v * ids,
        lambda v, ids, mask: -v,
        lambda v, ids, mask: 3 - v,
        lambda v, ids, mask: v * -7,
        lambda v, ids, mask: v * v,
        lambda v, ids, mask: v * 1000,
        lambda v, ids, mask: torch.where(mask, v, ids),
        lambda v, ids, mask: v.masked_fill(mask, -9),
        lambda v, ids, mask: v * mask,
        lambda v, ids, mask: v.transpose(0, 1).reshape(2, 3),
        lambda v, ids, mask: v.to(torch.int32).to(torch.int16).long(),
        lambda v, ids, mask: v[:, :1] + v,
    ]
    chosen = [draw.choice(steps) for _ in range(draw.randint(1, 7))]

    def function(ids: Tensor, mask: Tensor) -> Tensor:
        value = ids
        for step in chosen:
            value = step(value, ids, mask)
        return value

    return function, (low, low + draw.randint(0, 99))


def test_random_integer_modules() -> None:
    """Exact for the ends of the range as well, and within the range that the graph declares."""
    outcomes = []
    for seed in range(14):
        function, (low, high) = random_integers(seed)
        generator = np.random.default_rng(seed)
        module = Function(function).eval()
        try:
            graph = export(module, (IDS, MASK), ranges={"args_0": (low, high)})
        except ExportError:
            outcomes.append("refused")
            continue
        program = compile(optimize(graph)[0])
        for ends in (True, False):
            ids = generator.integers(low, high + 1, (2, 3))
            ids = np.where(ids > (low + high) / 2, high, low) if ends else ids
            mask = generator.integers(0, 2, (2, 3)).astype(bool)
            want = module(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
            np.testing.assert_array_equal(program(ids, mask), want, err_msg=f"seed {seed}")
            integers = graph.results[0].integers
            assert integers is not None and integers.range.low <= want.min()
            assert want.max() <= integers.range.high and DTYPES["int64"].holds(integers.range)
        outcomes.append("exact")
    assert min(outcomes.count("exact"), outcomes.count("refused")) >= 3, outcomes

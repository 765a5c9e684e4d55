"""torch.compile(backend="ablation"): what runs here, what PyTorch runs, and that both are right."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compiled_models import (
    HEADS,
    SEQUENCE,
    WIDTH,
    Function,
    blocks,
    check_same,
    compiled,
    counted,
    flat,
    mixed,
    shared_memory,
    small_parts_run_here,
    x_of,
)
from torch import Tensor, nn
from torch.nn import functional

from ablation_executor import ExportError
from ablation_executor.torch_backend import entry
from ablation_executor.torch_backend.cost import Costs

LOGGER = "ablation_executor.torch_backend"

__all__ = ["small_parts_run_here"]


def encoder(**settings: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, batch_first=True, **settings).eval()


def attention_and_mlp(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.attention(x, x, x, need_weights=False)[0]
    return y + self.b(y)


def cross(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.attention(x, 2 * x, 2 * x, need_weights=False)[0]
    return self.a(y)


COVERED: dict[str, Callable[[], nn.Module]] = {
    "blocks": blocks,
    "encoder layer": encoder,
    "encoder layer, norm first, gelu": lambda: encoder(norm_first=True, activation="gelu"),
    "attention": lambda: Function(
        attention_and_mlp, attention=nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    ).eval(),
    "cross-attention": lambda: Function(
        cross, attention=nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    ).eval(),
    "tied weights": lambda: Function(
        lambda self, x: functional.linear(functional.linear(self.a(x), self.w).relu(), self.w.T),
        w=nn.Parameter(x_of(WIDTH, WIDTH, seed=3)),
    ).eval(),
    "a block that is used twice": lambda: Function(lambda self, x: self.a(self.a(x))).eval(),
    "a constant mask": lambda: Function(
        lambda self, x: self.a(x).masked_fill(self.keep[:SEQUENCE] == 0, 0.5) @ self.keep,
        keep=torch.tril(torch.ones(WIDTH, WIDTH)),
    ).eval(),
}


@pytest.mark.parametrize("name", COVERED)
def test_a_covered_model_is_one_part_and_says_nothing(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    module, x = COVERED[name](), x_of(2, SEQUENCE, WIDTH)
    call = compiled(module)
    with torch.no_grad(), counted() as change:
        check_same(call(x), module(x))
        check_same(call(x + 1), module(x + 1))
    assert (change.parts, change.programs, change.calls_here) == (1, 1, 2)
    assert change.ops == change.ops_here > 0 and not change.ops_eager
    assert not change.calls_eager and not change.parts_eager and not change.rebuilds
    assert not caplog.records


def test_an_uncovered_op_divides_the_graph(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    module, x = mixed(), x_of()
    call = compiled(module)
    with torch.no_grad(), counted() as change:
        check_same(call(x), module(x))
    assert (change.parts, change.programs, change.calls_here) == (2, 2, 1)
    assert not change.parts_eager
    ((told, count),) = change.ops_eager.items()
    assert told.startswith("aten.sort.default: it is not supported") and count == 1
    assert change.ops == change.ops_here + 1
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.INFO and "in 2 parts; PyTorch runs aten.sort" in message
    assert " x 1 (it is not supported" in message


def diamond(self: Any, x: Tensor) -> Tensor:
    """A part whose result goes on here and through PyTorch, and meets again."""
    y = self.a(x)
    return self.b(y + y.sort(-1).values) + self.a(y)


def side_by_side(self: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    first, second = self.a(x), self.a(y).sort(-1).values
    return self.b(first) + second.sort(0).values, self.b(second) @ first.mT


def split_over_parts(self: Any, x: Tensor) -> Tensor:
    """Items of one split that are read in different parts."""
    one, other = self.a(x).chunk(2, dim=1)
    return self.b(one) + self.b(other + one.sort(-1).values)


def drawing(self: Any, x: Tensor) -> Tensor:
    """Draws that have to keep their order, whatever they depend on."""
    late = functional.dropout(self.a(x).sort(-1).values, 0.5, training=True)
    early = functional.dropout(x, 0.5, training=True)
    return self.b(late) + self.a(early) + torch.rand(1)


DIVIDED: dict[str, tuple[Callable[..., Any], int]] = {
    "diamond": (diamond, 2),
    "side by side": (side_by_side, 2),
    "split over parts": (split_over_parts, 2),
    "drawing": (drawing, 2),
}


@pytest.mark.parametrize("name", DIVIDED)
def test_divided_graphs(name: str) -> None:
    function, count = DIVIDED[name]
    module = Function(function).eval()
    args = [x_of(2, SEQUENCE, WIDTH, seed=i) for i in range(1 + (function is side_by_side))]
    call = compiled(module)
    with torch.no_grad(), counted() as change:
        for seed in range(2):
            torch.manual_seed(seed)
            got = call(*args)
            torch.manual_seed(seed)
            check_same(got, module(*args))
    assert change.parts >= count and change.calls_here == 2 and not change.parts_eager


def tokens(self: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    places = torch.arange(ids.shape[1])
    return self.a(self.words(ids) + self.places(places)), ids + 1


def test_token_ids() -> None:
    """An embedding runs here; an id without a row is PyTorch's error."""
    words, places = nn.Embedding(50, WIDTH), nn.Embedding(SEQUENCE, WIDTH)
    module = Function(tokens, words=words, places=places).eval()
    call = compiled(module)
    ids = torch.arange(SEQUENCE)[None].flip(1)
    with torch.no_grad(), counted() as change:
        for dtype in (torch.int64, torch.int32):
            check_same(call(ids.to(dtype)), module(ids.to(dtype)))
        assert not change.parts_eager
        for wrong in (ids + 40, ids - 5):
            with pytest.raises(IndexError):
                call(wrong)
    assert change.calls_here == 4


def test_islands_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product alone, and ops without one, do not pay for the entry of a call; a block does."""
    monkeypatch.setattr(entry, "costs", lambda: Costs(30_000.0, 3_000.0))
    with torch.no_grad(), counted() as change:
        compiled(blocks())(x_of())
    assert change.calls_here == 1
    layer = nn.Linear(WIDTH, WIDTH)
    module = nn.Sequential(layer, nn.ReLU(), nn.Softmax(-1)).eval()
    functions = [module, lambda x: x.relu().softmax(-1) * 2 + x, layer]
    for function in functions:
        with torch.no_grad(), counted() as change:
            call = torch.compile(function, backend="ablation")
            check_same(call(x_of()), function(x_of()))
        assert change.calls_eager == {"no part is large enough to gain": 1}
    for function, here in zip(functions, (1, 0, 1), strict=True):
        with torch.no_grad(), counted() as change:
            call = torch.compile(function, backend="ablation", options={"every_part": True})
            check_same(call(x_of()), function(x_of()))
        assert change.calls_here == here


# Memory -------------------------------------------------------------------------------------------


def lain_down(self: Any, x: Tensor) -> Any:
    """Results whose axes do not lie in their order, as PyTorch gives them."""
    q, k, v = self.qkv(self.b(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    attended = functional.scaled_dot_product_attention(q, k, v)
    return attended, (q * 2).relu(), q, k.transpose(1, 2), attended.transpose(1, 2).flatten(2)


def written_views(self: Any, x: Tensor) -> Any:
    y = self.a(x)
    first = y[0]
    first.add_(1)
    return y, first


def written_inside(self: Any, x: Tensor) -> Any:
    y = self.a(x).clone()
    y[:, 0] = 0
    y.mul_(2)
    return self.b(y)


def changed_input(self: Any, x: Tensor) -> Any:
    x.mul_(2)
    return self.a(x), x


MEMORY: dict[str, tuple[Callable[..., Any], bool]] = {
    "views of a result": (lambda self, x: (y := self.a(x), y[0], y.mT, y.flatten()), True),
    "two views without their base": (lambda self, x: self.a(x).chunk(2, dim=-1), True),
    "a result that is an input": (lambda self, x: (self.a(x), x), True),
    "a result that is a view of an input": (lambda self, x: (self.a(x), x[:, 1:].mT), True),
    "one result twice": (lambda self, x: [self.a(x)] * 2, True),
    "a weight": (lambda self, x: (self.a(x), self.a.up.weight, self.a.up.weight[0]), True),
    "results of other layouts": (lain_down, True),
    "an expanded result": (lambda self, x: self.a(x)[:, :1].expand(-1, 5, -1), True),
    "a view of what is written to": (written_views, False),
    "memory that is written to inside": (written_inside, True),
    "an input that is written to": (changed_input, False),
}


@pytest.mark.parametrize("name", MEMORY)
def test_memory_is_shared_as_in_pytorch(name: str) -> None:
    """Results share memory with each other and with inputs where they do in PyTorch, there alone.

    They have PyTorch's strides, and a later call leaves them as they are.
    """
    function, is_here = MEMORY[name]
    module = Function(function).eval()
    call, mine, theirs = compiled(module), x_of(2, SEQUENCE, WIDTH), x_of(2, SEQUENCE, WIDTH)
    weights = list(module.parameters())
    with torch.no_grad(), counted() as change:
        got, want = call(mine), module(theirs)
        kept = [part.detach().clone() for part in flat(got)]
        assert shared_memory([mine, *weights, *flat(got)]) == shared_memory(
            [theirs, *weights, *flat(want)]
        )
        check_same([got, mine], [want, theirs])
        call(x_of(2, SEQUENCE, WIDTH, seed=1))
    check_same([part.detach().clone() for part in flat(got)], kept)
    assert change.calls_here == (2 if is_here else 0) and not change.parts_eager
    assert bool(change.calls_eager) != is_here


def test_results_own_their_memory() -> None:
    with torch.no_grad():
        y = compiled(blocks())(x_of())
    assert y.untyped_storage().nbytes() == y.numel() * 4 and y._base is None
    y.resize_(2 * y.numel())


STRIDED: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "contiguous": lambda x: (x, x + 1),
    "one tensor twice": lambda x: (x, x),
    "overlapping": lambda x: (x, x[:, 1:].mT.contiguous().mT),
    "transposed": lambda x: (x.mT.contiguous().mT, x),
    "every other": lambda x: (x.repeat_interleave(2, -1)[..., ::2], x[:, ::2]),
    "expanded": lambda x: (x[:, :1].expand_as(x), x[..., :1].expand_as(x)),
    "flipped signs": lambda x: (torch.complex(x, x).conj().imag, x),
}


@pytest.mark.parametrize("name", STRIDED)
def test_inputs_of_any_strides(name: str) -> None:
    module = Function(lambda self, x, y: self.a(x).sum() + self.b(y).mean() + self.b(x)).eval()
    args = STRIDED[name](x_of())
    call = compiled(module)
    with torch.no_grad():
        for _ in range(2):
            check_same(call(*args), module(*args))


# Options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"thread": 2}, "unknown option 'thread'; did you mean 'threads'"),
        ({"threads": 0}, "option 'threads' is 0; accepted: 1 to 1024"),
        ({"threads": "2"}, "option 'threads' is '2'; accepted: a whole number"),
        ({"threads": True}, "option 'threads' is True; accepted: a whole number"),
        ({"dryrun": 1}, "option 'dryrun' is 1; accepted: True or False"),
        ({"every_part": 1}, "option 'every_part' is 1; accepted: True or False"),
        ({"require_full": None}, "option 'require_full' is None; accepted: True or False"),
        ({"kernels": ["matmul"]}, "option 'kernels' is ['matmul']; accepted: a dict"),
        ({"kernels": {"attention": 1}}, "option 'kernels' is {'attention': 1}; accepted: a dict"),
        ({"kernels": {"attentio": "x"}}, "unknown op 'attentio'; did you mean 'attention'"),
        ({"kernels": {"attention": "flush"}}, "attention has no kernel 'flush'"),
    ],
)
def test_wrong_options_are_refused(options: Any, words: str) -> None:
    with pytest.raises(Exception, match="backend=") as caught, torch.no_grad():
        compiled(blocks(), options=options)(x_of())
    assert words in str(caught.value)


def test_require_full() -> None:
    """Each op runs here, those of small parts too, or there is an error for each call."""
    small = nn.Linear(4, 4).eval()
    with torch.no_grad(), counted() as change:
        check_same(compiled(small, options={"require_full": True})(x_of(4, 4)), small(x_of(4, 4)))
        call = compiled(mixed(), options={"require_full": True})
        for _ in range(2):
            with pytest.raises(ExportError, match=r"aten\.sort") as caught:
                call(x_of())
    assert [part.op for part in caught.value.refusals] == ["aten.sort.default"]
    assert change.calls_here == 1


def test_dryrun(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    module = blocks()
    with torch.no_grad(), counted() as change:
        got = compiled(module, options={"dryrun": True})(x_of())
    assert torch.equal(got, module(x_of()))
    assert change.calls_eager == {"dryrun": 1} and change.programs == 0
    (record,) = caplog.records
    assert "dryrun: 38 of 38 ops run here, in 1 part" in record.getMessage()


def test_kernels_and_threads() -> None:
    module = blocks()
    options = {"kernels": {"matmul": "scalar", "attention": "fused_scalar"}, "threads": 1}
    with torch.no_grad(), counted() as change:
        check_same(compiled(module, options=options)(x_of()), module(x_of()))
    assert change.calls_here == 1 and not change.parts_eager


PAGE = Path(__file__).parents[3] / "docs" / "torch-compile.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the tests are alone, without the documentation")
def test_the_example_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    example = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    with counted() as change:
        exec(compile(example, str(PAGE), "exec"), {})
    assert change.calls_here == 1 and not change.calls_eager and not change.parts_eager
    assert "calls_here=" in capsys.readouterr().out


# What a call costs --------------------------------------------------------------------------------


def test_the_cost_of_a_call_is_measured_once_and_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    entry.costs.cache_clear()
    with counted() as change:
        first = entry.costs()
    assert first.entry_ns > 0 and first.dispatch_ns > 0
    assert entry.costs() is first
    assert (change.programs, change.parts_eager) == (0, {})


@pytest.mark.parametrize(("entry_ns", "calls"), [(1.0, 1), (1e12, 0)])
def test_a_part_that_would_not_gain_is_pytorchs(
    entry_ns: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "costs", lambda: Costs(entry_ns, 3000.0))
    module = blocks()
    with torch.no_grad(), counted() as change:
        check_same(compiled(module)(x_of()), module(x_of()))
    assert change.calls_here == calls
    assert change.calls_eager == ({} if calls else {"no part is large enough to gain": 1})

"""What depends on constants alone is torch's own result; masks of attention, constant or given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_graphs import ops_of
from torch import Tensor, nn
from torch.nn import functional

from ablation_executor import export, optimize
from ablation_executor.compiler import compile
from ablation_executor.interpreter import interpret


def x_of(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Uses(nn.Module):
    """A function of a table (12, 8) of parameters and the arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.table = nn.Parameter(x_of(12, 8, seed=1))
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(self.table, *args)


def check(module: nn.Module, *args: Tensor) -> None:
    """The program computes what the module does in float64, with all passes and without."""
    module.eval()
    graph = export(module, args)
    with torch.no_grad():
        want = module.double()(*(part.double() for part in args))
    module.float()
    wanted = want if isinstance(want, tuple) else (want,)
    for each in (graph, optimize(graph)[0]):
        got = compile(each)(*args)
        for mine, theirs in zip(got if isinstance(got, list) else [got], wanted, strict=True):
            np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-4, atol=1e-5)


CONSTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "expanded": lambda table: table[:1, None].expand(2, 6, 8),
    "every second row": lambda table: table[::2],
    "backwards": lambda table: table[:6].flip(0),
    "cube": lambda table: table[0].pow(3),
    "centered": lambda table: table[:6] - table.mean(0, keepdim=True),
    "normalized": lambda table: functional.normalize(table[6:], dim=0),
    "joined": lambda table: torch.cat([table[:3], table[9:]]),
    "gathered": lambda table: table[torch.tensor([3, 1, 4, 1, 5, 9])],
    "softmax": lambda table: table[:6].softmax(0),
    "sines": lambda table: torch.outer(torch.arange(6.0), torch.arange(8.0)).sin(),
    "integers": lambda table: torch.arange(8) // 3,
    "bool": lambda table: torch.arange(8) > 3,
    "uint8": lambda table: torch.arange(8, dtype=torch.uint8),
    "float16": lambda table: (torch.arange(8) / 7).half().exp(),
    "bfloat16": lambda table: (torch.arange(8) / 7).bfloat16().exp(),
    "float64 as a scalar": lambda table: torch.tensor(1 / 3, dtype=torch.float64).exp(),
    "float64, converted": lambda table: (torch.arange(8).double() / 7).exp().float(),
    "complex, its angle": lambda table: torch.polar(table[0].abs(), table[1]).angle(),
    "large integers": lambda table: torch.tensor([2**40 + 1, -(2**53) - 1, 3, 0, 1, 2, 7, 5]),
    "a number": lambda table: table[0, 0].item(),
    "attention": lambda table: functional.scaled_dot_product_attention(*[table[:6]] * 3),
}


def test_what_depends_on_constants_alone_is_computed_by_torch() -> None:
    """One export of all: a node each, and the very bits that torch computes."""
    x = x_of(2, 6, 8)
    module = Uses(lambda table, x: tuple(x * make(table) for make in CONSTANTS.values())).eval()
    graph = export(module, (x,))
    assert set(ops_of(graph)) <= {"mul", "slice", "reshape"}
    with torch.no_grad():
        wanted = module(x)
    for name, got, want in zip(CONSTANTS, interpret(graph, (x,)), wanted, strict=True):
        np.testing.assert_array_equal(got, want.numpy(), err_msg=name)


def test_moves_of_a_weight_stay_nodes_that_passes_see_through() -> None:
    module = Uses(lambda table, x: x @ table.view(8, 12).t().contiguous()[:, :4])
    graph = export(module.eval(), (x_of(3, 12),))
    assert ops_of(graph) == ["reshape", "permute", "slice", "matmul"]
    assert [value.name for value in graph.constants] == ["table"]


# Masks

PADDING = torch.zeros(2, 6, dtype=torch.bool)
PADDING[1, 4:] = True
ADDED = torch.zeros(2, 6).masked_fill(PADDING, -torch.inf)
CAUSAL = nn.Transformer.generate_square_subsequent_mask(6)


class Masked(nn.Module):
    """A module called with masks that are buffers."""

    def __init__(self, inner: nn.Module, n_inputs: int = 1, **masks: Any) -> None:
        super().__init__()
        self.inner, self.n_inputs, self.names = inner, n_inputs, tuple(masks)
        for name, mask in masks.items():
            self.register_buffer(f"held_{name}", mask)

    def forward(self, *args: Tensor) -> Any:
        masks = {name: self.get_buffer(f"held_{name}") for name in self.names}
        floats = {
            name: mask.to(args[0].dtype) if mask.is_floating_point() else mask
            for name, mask in masks.items()
        }
        if isinstance(self.inner, nn.MultiheadAttention):
            return self.inner(*args * 3, need_weights=False, **floats)[0]
        return self.inner(*args, **floats)


class GivenPadding(nn.Module):
    """A module called with a padding mask that is an argument."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        return self.inner(x, src_key_padding_mask=mask)


def layer(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, **{"batch_first": True, **options})


@pytest.mark.parametrize(
    "module",
    [
        Masked(layer(), src_key_padding_mask=PADDING),
        Masked(layer(), src_key_padding_mask=ADDED),
        Masked(layer(norm_first=True), src_key_padding_mask=PADDING, src_mask=CAUSAL < 0),
        Masked(nn.TransformerEncoder(layer(), 2), mask=CAUSAL, src_key_padding_mask=ADDED),
        Masked(nn.TransformerEncoder(layer(), 1), mask=CAUSAL),
        Masked(nn.MultiheadAttention(8, 2, batch_first=True), key_padding_mask=PADDING),
        Masked(
            nn.MultiheadAttention(8, 2, batch_first=True),
            key_padding_mask=ADDED,
            attn_mask=CAUSAL.expand(4, 6, 6),
        ),
    ],
)
def test_masks_that_are_constants(module: nn.Module) -> None:
    check(module, x_of(2, 6, 8))


def test_masks_of_a_decoder() -> None:
    inner = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    masks = {"tgt_mask": CAUSAL, "tgt_key_padding_mask": ADDED, "memory_key_padding_mask": ADDED}
    check(Masked(nn.TransformerDecoder(inner, 1), **masks), x_of(2, 6, 8), x_of(2, 6, 8, seed=2))


def test_a_padding_mask_that_is_an_argument() -> None:
    check(GivenPadding(layer()), x_of(2, 6, 8), ADDED)
    whole = ADDED.clone()
    whole[0] = -torch.inf  # hides all keys of a sequence
    module = GivenPadding(layer()).eval()
    program = compile(optimize(export(module, (x_of(2, 6, 8), ADDED)))[0])
    # With gradients: torch's fused path for inference gives NaN there, its attention 0.
    want = module(x_of(2, 6, 8), whole).detach().numpy()
    np.testing.assert_allclose(program(x_of(2, 6, 8), whole), want, rtol=1e-4, atol=1e-5)


def test_attention_with_its_weights_and_the_sequence_first() -> None:
    for average in (True, False):
        inner = nn.MultiheadAttention(8, 2)
        check(
            Uses(
                lambda _, x, inner=inner, average=average: inner.to(x.dtype).eval()(
                    x, x, x, average_attn_weights=average
                )
            ),
            x_of(6, 2, 8),
        )


def test_a_mask_and_the_causal_flag_hold_together() -> None:
    mask = x_of(6, 6)
    mask[2, :3] = -torch.inf  # row 2 sees nothing: the flag hides what the mask leaves
    for given in (mask, x_of(6, 6)):
        check(
            Uses(
                lambda _, x, given=given: functional.scaled_dot_product_attention(
                    x, x, x, given.to(x.dtype), is_causal=True
                )
            ),
            x_of(1, 2, 6, 8),
        )

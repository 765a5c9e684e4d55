"""export: each kind of module computes what torch does, before and after the passes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_graphs import ops_of
from torch import nn
from torch.nn import functional
from torch_modules import Block, Gpt2Block

from ablation_executor import ExportError, UnsupportedOpError, export, optimize, verify
from ablation_executor.compiler import compile
from ablation_executor.exporter import supported_ops
from ablation_executor.interpreter import interpret
from ablation_executor.ir import Graph
from ablation_executor.rewrite import RewriteLog


def by_torch(module: nn.Module, *args: torch.Tensor) -> np.ndarray[Any, Any]:
    """The module's output in float64."""
    with torch.no_grad():
        result = module.double()(*[argument.double() for argument in args]).numpy()
    module.float()
    return np.asarray(result)


def check(module: nn.Module, *args: torch.Tensor) -> tuple[Graph, Graph, RewriteLog]:
    """Export, compare with torch in float64, optimize, compare again, run the kernels."""
    torch.manual_seed(3)
    module.eval()
    want = by_torch(module, *args)
    graph = export(module, args)
    verify(graph)
    optimized, log = optimize(graph)
    verify(optimized)
    for each in (graph, optimized):
        # Scalars and folded constants are float32: 1e-7 of the largest element.
        np.testing.assert_allclose(
            interpret(each, args, np.float64)[0], want, rtol=1e-6, atol=2e-7 * np.abs(want).max()
        )
        np.testing.assert_allclose(
            compile(each)(*args), want, rtol=1e-4, atol=1e-5 * np.abs(want).max()
        )
    return graph, optimized, log


def x_of(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("mask", ["none", "sdpa"])
def test_block_without_mask(mask: str) -> None:
    _, optimized, log = check(Block(mask=mask), x_of(2, 6, 16))
    assert log.fired("attention") == 1
    assert ops_of(optimized).count("matmul") == 4
    assert log.fired("bias_relu") == log.fired("merge_qkv") == 1


@pytest.mark.parametrize(
    "mask",
    [
        "masked_fill",
        "where",
        "added",
        "inline",
        "sdpa_causal",
        "sdpa_bool",
        "sdpa_added",
    ],
)
def test_causal_blocks_end_as_causal_attention(mask: str) -> None:
    _, optimized, log = check(Block(mask=mask, activation="gelu"), x_of(2, 6, 16))
    assert log.fired("attention") == 1, log
    (attention,) = [node for node in optimized.nodes if node.op == "attention"]
    if mask in ("masked_fill", "inline", "sdpa_causal"):
        assert attention.attribute("causal") is True and attention.inputs[3] is None
    else:
        assert attention.attribute("mask_is_causal") is True
        assert attention.attribute("mask_replaces") is (mask == "where")


@pytest.mark.parametrize("split", ["chunk", "split", "select", "unbind"])
def test_merged_projections(split: str) -> None:
    graph, _, log = check(Block(split=split, activation="gelu_tanh"), x_of(2, 6, 16))
    assert ops_of(graph).count("slice") == 3 and log.fired("attention") == 1


class Written(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, self.weight)


def norm_by_hand(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


@pytest.mark.parametrize(
    ("module", "ops"),
    [
        (nn.RMSNorm(16), ["rms_norm"]),
        (nn.RMSNorm(16, eps=0.1, elementwise_affine=False), ["rms_norm"]),
        (nn.RMSNorm((6, 16)), ["reshape", "rms_norm", "reshape"]),
        (Written(norm_by_hand), ["rms_norm"]),
        (Written(lambda x, w: functional.silu(x) * (x + w)), ["add", "silu_mul"]),
        (Written(lambda x, w: functional.silu(x + w)), ["add", "silu"]),
        (Written(lambda x, w: x.square().mean(-1)), ["mul", "matmul", "reshape"]),
        (Written(lambda x, w: x[0, 0].mean(0, keepdim=True)), None),
        (Written(lambda x, w: torch.stack([x, x * w, x + w], dim=1)), None),
        (Written(lambda x, w: torch.stack((x, x * w), dim=-1).flatten(-2)), None),
    ],
)
def test_what_language_models_are_written_with(module: nn.Module, ops: list[str] | None) -> None:
    _, optimized, _ = check(module, x_of(2, 6, 16))
    if ops is not None:
        assert sorted(ops_of(optimized)) == sorted(ops)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformer_encoder_layer(norm_first: bool, activation: str) -> None:
    layer = nn.TransformerEncoderLayer(
        16, 2, 32, batch_first=True, norm_first=norm_first, activation=activation
    )
    fast_path = torch.backends.mha.get_fastpath_enabled()
    _, optimized, log = check(layer, x_of(3, 5, 16))
    assert torch.backends.mha.get_fastpath_enabled() == fast_path
    assert log.fired("attention") == 1
    assert log.fired("bias_relu") == (activation == "relu")
    assert ops_of(optimized).count("layer_norm") == 2


def test_transformer_encoder_layer_with_a_causal_mask() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    graph, _, _ = check(layer, x_of(2, 5, 16), mask)
    assert ops_of(graph).count("attention") == 1  # the mask is an input, unknown at export
    held = HoldsMask(layer, mask)
    _, optimized, log = check(held, x_of(2, 5, 16))
    (attention,) = [node for node in optimized.nodes if node.op == "attention"]
    assert log.fired("attention") == 1 and attention.attribute("causal") is True


class HoldsMask(nn.Module):
    """A layer called with a mask that is a buffer."""

    def __init__(self, layer: nn.Module, mask: torch.Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, src_mask=self.mask, is_causal=True)


def test_transformer_encoder_of_two_layers_with_a_final_norm() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False)
    _, optimized, log = check(encoder, x_of(2, 4, 16))
    assert log.fired("attention") == 2
    assert {"layers.1.self_attn", "norm"} <= {node.module_path for node in optimized.nodes}


def test_gpt2_block() -> None:
    graph, optimized, log = check(Gpt2Block(), x_of(2, 6, 16))
    (attention,) = [node for node in optimized.nodes if node.op == "attention"]
    assert attention.attribute("mask_is_causal") is attention.attribute("mask_replaces") is True
    assert log.fired("add_to_bias") == 4
    assert not any(
        node.op == "permute" and node.inputs[0] in graph.constants for node in graph.nodes
    )


def test_a_stack_of_blocks_shares_nothing_it_should_not() -> None:
    _, _, log = check(nn.Sequential(Block(), Block(mask="sdpa"), Block()), x_of(1, 6, 16))
    assert log.fired("attention") == 3 and log.fired("add_to_addend") == 6


def test_a_module_used_twice_has_its_constants_once() -> None:
    linear = nn.Linear(4, 4)
    graph, _, _ = check(nn.Sequential(linear, nn.ReLU(), linear), x_of(3, 4))
    assert sorted(value.name[2:] for value in graph.constants) == ["bias", "weight"]


def test_einsum_is_taken_apart() -> None:
    graph, _, _ = check(Block(mask="einsum"), x_of(2, 6, 16))
    assert ops_of(graph).count("matmul") == 8


def test_a_permutation_of_axes_of_size_one_moves_nothing() -> None:
    graph, _, _ = check(Function(lambda x: x.transpose(0, 1) + 1.0), x_of(1, 3, 4))
    assert ops_of(graph) == ["reshape", "add"]


def test_weights_are_transposed_at_run_time_until_a_pass_says_otherwise() -> None:
    graph, _, _ = check(nn.Linear(4, 3, bias=False), x_of(2, 4))
    assert [str(node) for node in graph.nodes] == [
        "%permute = permute(%weight, perm=(1, 0))  # [4, 3]",
        "%matmul = matmul(%x, %permute)  # [2, 3]".replace("%x", f"%{graph.inputs[0].name}"),
    ]


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args)


FUNCTIONS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda x: (x - 1.0) * 2.0 / (3.0 - x * 0.1) + torch.add(x, x, alpha=0.5),
    lambda x: -x + torch.sub(x, x * x, alpha=2) - torch.rsub(x, 1.0, alpha=3),
    lambda x: x.softmax(dim=1),
    lambda x: x.flatten(1).unflatten(1, (3, -1)).squeeze().unsqueeze(0),
    lambda x: x[:, 1:, :-1].transpose(0, 2).contiguous().view(-1),
    lambda x: x @ torch.ones(4, dtype=x.dtype),
    lambda x: torch.ones(3, dtype=x.dtype) @ x[0],
    lambda x: functional.layer_norm(x, (3, 4)),
    lambda x: functional.layer_norm(x, (4,), torch.arange(4.0).to(x.dtype), eps=0.1),
    lambda x: x @ torch.arange(8.0).view(1, 4, 2).to(x.dtype),
    lambda x: torch.baddbmm(x[:, :, :3], x, x.transpose(1, 2), beta=0.5, alpha=2.0),
    lambda x: x.masked_fill(torch.eye(3, 4).bool(), 7.0),
    lambda x: torch.where(torch.arange(4) > 1, x, 0.5),
    lambda x: x / torch.sqrt(torch.tensor(8.0)) + torch.arange(4) * 2,
    lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True),
    lambda x: functional.dropout(x, 0.5, training=False).expand(2, 3, 4).to(torch.float32),
    lambda x: x.reshape(6, 4).t() @ x.view(6, 4),
]


def test_functions() -> None:
    """One export of all: each output computes what torch does."""
    x = x_of(2, 3, 4)
    graph = export(Function(lambda x: tuple(function(x) for function in FUNCTIONS)).eval(), (x,))
    optimized, _ = optimize(graph)
    results = [interpret(each, (x,), np.float64) for each in (graph, optimized)]
    results.append(compile(optimized)(x))
    for index, function in enumerate(FUNCTIONS):
        want = function(x.double()).numpy()
        for got in results:
            np.testing.assert_allclose(
                got[index], want, rtol=1e-5, atol=1e-5, err_msg=f"function {index}"
            )


def test_several_inputs_and_outputs() -> None:
    module = Function(lambda x, y: (x + y, x, x.view(6), torch.ones(2), x + y)).eval()
    args = (x_of(2, 3), x_of(1, 3))
    graph = export(module, args)
    want = [part.numpy() for part in module(*args)]
    for results in (interpret(graph, args), compile(graph)(*args)):
        for got, expected in zip(results, want, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_a_mask_that_hides_a_whole_row_gives_zero_as_in_torch() -> None:
    mask = torch.tril(torch.ones(4, 4)).bool()
    mask[2] = False
    for given in (mask, torch.log(mask.float())):
        module = Function(
            lambda x, given=given: functional.scaled_dot_product_attention(x, x, x, given)
        )
        graph, _, _ = check(module, x_of(1, 2, 4, 8))
        assert ops_of(graph) == ["attention"]


def test_a_mask_that_is_an_input() -> None:
    module = Function(lambda x, mask: functional.scaled_dot_product_attention(x, x, x, mask))
    mask = torch.zeros(4, 4)
    mask[1] = -np.inf
    check(module, x_of(1, 2, 4, 8), mask)


# What is refused


class Floor(nn.Module):
    """An op outside the op set."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.floor(x)


def test_an_unsupported_op_is_named_with_its_module() -> None:
    with pytest.raises(UnsupportedOpError) as caught:
        export(Function(nn.Sequential(nn.Linear(4, 4), Floor())).eval(), (x_of(2, 4),))
    error = caught.value
    assert isinstance(error, ExportError) and isinstance(error, NotImplementedError)
    assert (error.op, error.module_path) == ("aten.floor.default", "function.1")
    assert re.fullmatch(
        r"aten\.floor\.default, made by module 'function\.1' \(Floor\) at .*test_export\.py:\d+: it"
        r" is not supported; the supported ops with the nearest names: (aten\.\w+\.\w+(, |\. )){3}"
        r"What works: ops of.*",
        str(error),
    )
    assert "aten.linear.default" in supported_ops() and "aten.floor.default" not in supported_ops()


def test_an_unsupported_op_of_the_root_module() -> None:
    with pytest.raises(UnsupportedOpError, match="made by the root module"):
        export(Function(torch.floor).eval(), (x_of(2, 4),))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x + torch.ones(4, dtype=torch.float64), "expected torch.float32"),
        (lambda x: x.double(), "expected torch.float32"),
        (lambda x: functional.dropout(x, 0.5, training=True), "draws random numbers"),
    ],
)
def test_what_cannot_be_exported(
    function: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export(Function(function).eval(), (x_of(2, 4),))


def test_training_mode_is_refused() -> None:
    with pytest.raises(ExportError, match=r"training mode.*call module.eval\(\)"):
        export(Block(), (x_of(1, 6, 16),))


def test_arguments_must_be_float32_tensors_and_the_module_a_module() -> None:
    with pytest.raises(TypeError, match="module is a builtin"):
        export(torch.relu, (x_of(2, 4),))  # a function is not a module
    with pytest.raises(TypeError, match=r"args is a Tensor"):
        export(nn.Linear(4, 4).eval(), x_of(2, 4))


class Counter(nn.Module):
    """Forward writes to a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.calls


def test_a_buffer_that_forward_writes_is_refused() -> None:
    with pytest.raises(ExportError, match="forward writes to 'calls'"):
        export(Counter().eval(), (x_of(2),))


def test_export_alone_needs_torch() -> None:
    program = """
import sys
sys.modules["torch"] = None
import ablation_executor as ae
try:
    ae.export(None, ())
except ImportError:
    print("no torch")
"""
    command = [sys.executable, "-c", program]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout == "no torch\n"
    )


class PassedOn(nn.Module):
    """Partial rotary embeddings that turn all of a head: what is passed on is empty."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Join what is turned and what is not."""
        width = x.shape[-1]
        return torch.cat((-x[..., :width], x[..., width:]), dim=-1)


def test_an_empty_slice_is_left_out_of_a_join_and_is_no_result() -> None:
    x = torch.randn(2, 3)
    graph = export(PassedOn().eval(), (x,))
    assert not [node for node in graph.nodes if node.op in ("slice", "concat")]
    check(PassedOn(), x)

    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 3:]

    with pytest.raises(ExportError, match="result 'output' has no element"):
        export(Nothing().eval(), (x,))

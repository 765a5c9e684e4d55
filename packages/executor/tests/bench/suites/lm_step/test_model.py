"""The language model: its sizes, and its arithmetic against float64 in other operations."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from ablation_executor.bench.suites.lm_step import model as lm_model
from ablation_executor.bench.suites.lm_step.checks import norm_error
from ablation_executor.bench.suites.lm_step.model import (
    ATTENTIONS,
    FILL_BLOCK,
    LanguageModel,
    RMSNorm,
    RotaryEmbedding,
    make_batch,
    make_model,
    make_optimizer,
    next_token_loss,
)
from ablation_executor.bench.suites.lm_step.reference import float64_weights, reference_loss, rotate
from ablation_executor.bench.suites.lm_step.sizes import COURSE, TINY, UNFUSED, ModelShape

VOCAB = 10_000
# From the sizes alone, as the course's tables give them.
PARAMETERS = {
    "small": 128_625_408,
    "medium": 423_183_360,
    "large": 969_411_840,
    "xl-2025": 1_998_235_200,
    "2.7B-2025": 3_406_809_600,
}
SMALL = ModelShape(d_model=32, d_ff=48, n_layers=2, n_heads=2, vocab=41, context=29)


def attentions() -> list[Any]:
    """All of them; ours is skipped where its operator is not installed."""
    marked = []
    for name in ATTENTIONS:
        marks = []
        if name == "ablation":
            try:
                from ablation_executor import torch_ops  # noqa: F401
            except ImportError as error:
                marks = [pytest.mark.skip(reason=f"no operator of our kernels: {error}")]
        marked.append(pytest.param(name, marks=marks))
    return marked


def loss_and_gradients(attention: str, shape: ModelShape, batch: int) -> tuple[float, float]:
    """Relative error of the loss and the largest one of a gradient, against float64."""
    model = make_model(shape, attention, 5)
    inputs, targets = make_batch(shape, batch, 5)
    loss = next_token_loss(model(inputs), targets)
    loss.backward()
    weights = float64_weights(model)
    expected = reference_loss(weights, shape, inputs, targets)
    expected.backward()
    errors = [
        norm_error(parameter.grad.double(), weights[name].grad)
        for name, parameter in model.named_parameters()
    ]
    return abs(loss.item() - expected.item()) / expected.item(), max(errors)


@pytest.mark.parametrize("name", COURSE)
def test_parameters_of_the_course_s_sizes(name: str) -> None:
    shape = COURSE[name].shape(VOCAB, 128)
    with torch.device("meta"):
        model = LanguageModel(shape, ATTENTIONS["sdpa"])
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == shape.n_params == PARAMETERS[name]


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="d_model 30 with n_heads 4"):
        ModelShape(30, 48, 1, 4, 10, 10)


@pytest.mark.parametrize("attention", attentions())
def test_loss_and_gradients_against_float64(attention: str) -> None:
    loss, gradient = loss_and_gradients(attention, SMALL, 3)
    assert loss < 1e-6
    assert gradient < 2e-5


def test_the_tiny_model_against_float64() -> None:
    loss, gradient = loss_and_gradients(UNFUSED, TINY["tiny"].shape(200, 32), 2)
    assert loss < 1e-6
    assert gradient < 2e-5


def wrong_attentions() -> dict[str, Any]:
    def without_mask(q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    def without_scale(q: Any, k: Any, v: Any) -> Any:
        q = q * q.shape[-1] ** 0.5
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def with_another_head(q: Any, k: Any, v: Any) -> Any:
        return lm_model.sdpa(q, k.roll(1, dims=1), v)

    return {"mask": without_mask, "scale": without_scale, "head": with_another_head}


@pytest.mark.parametrize("defect", wrong_attentions())
def test_float64_tells_a_wrong_attention(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {**ATTENTIONS, "sdpa": wrong_attentions()[defect]}
    monkeypatch.setattr(lm_model, "ATTENTIONS", wrong)
    _, gradient = loss_and_gradients("sdpa", SMALL, 3)
    assert gradient > 1e-3


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e12])
def test_rms_norm_against_float64(scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    x = scale * torch.randn(3, 5, 67, generator=generator)
    norm = RMSNorm(67)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(67, generator=generator))
        given = norm(x)
    wide, weight = x.numpy().astype("float64"), norm.weight.detach().numpy().astype("float64")
    expected = wide / ((wide**2).mean(-1, keepdims=True) + 1e-5) ** 0.5 * weight
    assert abs(given.numpy() - expected).max() <= 1e-6 * abs(expected).max()


def test_rms_norm_of_bfloat16_sums_in_float32() -> None:
    x = torch.randn(4, 4096, generator=torch.Generator().manual_seed(2)).bfloat16()
    norm = RMSNorm(4096)
    with torch.no_grad():
        norm.weight.fill_(1.0)
        given = norm(x)
    assert given.dtype == torch.bfloat16
    wide = x.double()
    expected = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    # One rounding to eight bits at the end, and nothing of it before
    assert ((given.double() - expected).abs() <= 2.0**-8 * 1.001 * expected.abs()).all()


def test_rotation_against_complex_numbers() -> None:
    x = torch.randn(2, 3, 1024, 16, generator=torch.Generator().manual_seed(3))
    given = RotaryEmbedding(16, 1024)(x)
    assert torch.equal(given[:, :, 0], x[:, :, 0])
    error = (given.double() - rotate(x.double())).abs().max()
    assert error < 2e-6


def test_rotated_products_depend_on_the_distance_alone() -> None:
    rotary = RotaryEmbedding(32, 600)
    q, k = torch.randn(2, 32, generator=torch.Generator().manual_seed(4))
    turned_q = rotary(q.expand(1, 1, 600, 32))[0, 0].double()
    turned_k = rotary(k.expand(1, 1, 600, 32))[0, 0].double()
    products = turned_q @ turned_k.T
    for distance in (0, 1, 17, 256):
        along = products.diagonal(-distance)
        assert (along - along[0]).abs().max() < 1e-5
    # Which is no matter of course: without rotation all products are the same.
    assert (products[0] - products[0, 0]).abs().max() > 0.1


@pytest.mark.parametrize("attention", attentions())
def test_later_tokens_change_nothing_before_them(attention: str) -> None:
    model = make_model(SMALL, attention, 0)
    inputs, _ = make_batch(SMALL, 1, 0)
    other = inputs.clone()
    other[0, 20] = (other[0, 20] + 1) % SMALL.vocab
    with torch.no_grad():
        before, after = model(inputs), model(other)
    assert (before - after)[0, :20].abs().max() < 1e-6
    assert (before - after)[0, 20:].abs().amax(-1).min() > 1e-4


def test_initial_weights_have_their_spread_and_are_cut_off() -> None:
    model = make_model(ModelShape(256, 1024, 1, 4, 500, 8), "sdpa", 0)
    # A normal distribution cut off at three deviations has 0.9866 of its spread left.
    for weight, spread in (
        (model.embedding, 1.0),
        (model.head.weight, math.sqrt(2 / 756)),
        (model.blocks[0].feed_forward.w2.weight, math.sqrt(2 / 1280)),
        (model.blocks[0].attention.key.weight, math.sqrt(2 / 512)),
    ):
        assert abs(weight.std().item() / spread - 0.9866) < 0.01
        assert 2.9 * spread < weight.abs().max().item() <= 3 * spread * (1 + 1e-6)
        assert abs(weight.mean().item()) < 0.02 * spread
        # Drawn again, not set to the cut: a normal distribution has 0.27% beyond three deviations.
        assert (weight.abs() > 2.9999 * spread).float().mean().item() < 1e-4


def test_weights_of_several_blocks_are_drawn_to_the_last() -> None:
    weight = torch.full((2 * FILL_BLOCK + 5,), math.nan)
    lm_model._fill(weight, 0.5, torch.Generator().manual_seed(0))
    assert abs(weight.std().item() / 0.5 - 0.9866) < 0.01
    assert weight.unique().numel() > 0.9 * weight.numel()


def test_weights_on_another_device_are_drawn_on_the_cpu() -> None:
    """A device without memory stands for a GPU, which a generator of the CPU would refuse."""
    here, there = (torch.Generator().manual_seed(0) for _ in range(2))
    lm_model._fill(torch.empty(100), 1.0, here)
    lm_model._fill(torch.empty(100, device="meta"), 1.0, there)
    assert torch.equal(here.get_state(), there.get_state())


def test_the_seed_gives_the_weights_and_the_batch() -> None:
    first, again, other = (make_model(SMALL, "sdpa", seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    inputs, targets = make_batch(SMALL, 2, 1)
    assert inputs.shape == targets.shape == (2, 29)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert not torch.equal(inputs, make_batch(SMALL, 2, 3)[0])


def test_the_first_loss_is_that_of_equal_probabilities() -> None:
    shape = TINY["tiny"].shape(2000, 64)
    inputs, targets = make_batch(shape, 4, 0)
    with torch.no_grad():
        loss = next_token_loss(make_model(shape, "sdpa", 0)(inputs), targets)
    assert abs(loss.item() - math.log(2000)) < 0.5


def test_optimizer_against_the_formula_in_float64() -> None:
    """Loshchilov and Hutter, Decoupled weight decay regularization, 2019."""
    parameter = torch.nn.Parameter(torch.linspace(-2, 3, 50))
    holder = torch.nn.ParameterList([parameter])
    optimizer = make_optimizer(holder)
    weight = parameter.detach().double().clone()
    first, second = torch.zeros(50).double(), torch.zeros(50).double()
    generator = torch.Generator().manual_seed(7)
    for step in range(1, 6):
        gradient = torch.randn(50, generator=generator)
        parameter.grad = gradient.clone()
        optimizer.step()
        wide = gradient.double()
        first = 0.9 * first + 0.1 * wide
        second = 0.999 * second + 0.001 * wide**2
        weight = weight - 1e-3 * 0.01 * weight
        unbiased = first / (1 - 0.9**step), second / (1 - 0.999**step)
        weight = weight - 1e-3 * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
        assert (parameter.detach().double() - weight).abs().max() < 1e-6


def train(attention: str, steps: int) -> list[float]:
    shape = ModelShape(64, 128, 2, 4, 100, 48)
    model = make_model(shape, attention, 0)
    optimizer = make_optimizer(model)
    inputs, targets = make_batch(shape, 4, 0)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = next_token_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_loss_of_one_batch_falls() -> None:
    losses = train("sdpa", 20)
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("attention", attentions())
def test_every_attention_trains_along_the_same_curve(attention: str) -> None:
    curve, expected = train(attention, 20), train("sdpa", 20)
    assert max(abs(a - b) for a, b in zip(curve, expected, strict=True)) < 1e-3

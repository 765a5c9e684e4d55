"""Gates, activations, and what stands behind a linear layer."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import Value
from ._example import WIDTH, Builder, Examples, S

EXAMPLES = Examples()


def _x(b: Builder) -> Value:
    return b.input("x", (S, WIDTH))


def _gated(b: Builder, product: Value) -> Value:
    """gelu(first half) * second half."""
    half = product.shape[-1] // 2
    gate = b.do("gelu", b.cut(product, 1, 0, half), approximate="none")
    return b.do("mul", gate, b.cut(product, 1, half, 2 * half))


@EXAMPLES.add(
    "split_gates",
    "A gate with its two parts of one linear layer, and a bias that is an input",
    "Make the bias a parameter, or use a layer for each part.",
)
def _bias_of_gates(b: Builder) -> Value:
    product = b.linear(_x(b), "gate_up", 2 * WIDTH)
    return _gated(b, b.do("add", product, b.input("bias", (2 * WIDTH,))))


@EXAMPLES.add(
    "split_gates",
    "A gate with its two parts of one linear layer, to which another is added",
    "Use a layer for each part, or add the second weight to the first (as a merged LoRA).",
)
def _sum_of_gates(b: Builder) -> Value:
    product = b.linear(_x(b), "gate_up", 2 * WIDTH)
    return _gated(b, b.do("add", product, b.input("other", (S, 2 * WIDTH))))


@EXAMPLES.add(
    "split_gates",
    "A gate with its two parts of one linear layer that is returned as well",
    "Return the result alone.",
)
def _parts_are_read(b: Builder) -> Sequence[Value]:
    product = b.linear(_x(b), "gate_up", 2 * WIDTH)
    return _gated(b, product), product


@EXAMPLES.add(
    "fuse_silu_mul",
    "A gate whose activation is returned",
    "Return the product alone.",
)
def _gate_is_read(b: Builder) -> Sequence[Value]:
    a, other = b.inputs("a b", S, WIDTH)
    gate = b.do("silu", a)
    return b.do("mul", gate, other), gate


@EXAMPLES.add(
    "fuse_silu_mul",
    "A gate by another function than SiLU",
    "Use SiLU if the weights allow it. GELU, SiLU and ReLU of a linear layer are joined with it.",
)
def _sigmoid_gate(b: Builder) -> Value:
    a, other = b.inputs("a b", S, WIDTH)
    return b.do("mul", b.do("sigmoid", a), other)


@EXAMPLES.add(
    "fuse_gelu",
    "A GELU that doubles x before it halves it",
    "Halve first: `0.5 * x * (1 + torch.erf(x / 2**0.5))`.",
)
def _doubled_first(b: Builder) -> Value:
    x = _x(b)
    total = b.do("add", b.do("erf", b.do("mul", x, 0.5**0.5)), 1.0)
    return b.do("mul", b.do("mul", x, total), 0.5)


@EXAMPLES.add(
    "fuse_gelu",
    "A SiLU whose sigmoid is returned",
    "Return the result alone.",
)
def _sigmoid_is_read(b: Builder) -> Sequence[Value]:
    x = _x(b)
    inner = b.do("sigmoid", x)
    return b.do("mul", x, inner), inner


# Behind a linear layer ----------------------------------------------------------------------------


@EXAMPLES.add(
    "fuse_matmul_add",
    "A linear layer with two residuals",
    "Add the residuals to each other first; then one sum is left.",
)
def _two_residuals(b: Builder) -> Value:
    product = b.linear(_x(b), "linear")
    for residual in b.inputs("residual other", S, WIDTH):
        product = b.do("add", product, residual)
    return product


@EXAMPLES.add(
    "fuse_matmul_add",
    "A linear layer with two biases",
    "Add the biases to each other once, before the export.",
)
def _two_biases(b: Builder) -> Value:
    product = b.linear(_x(b), "linear")
    for name in ("bias", "other"):
        product = b.do("add", product, b.weight(name, WIDTH))
    return product


@EXAMPLES.add(
    "fuse_matmul_add",
    "A linear layer with a number for each row",
    "Make it a residual of the full shape, or a bias of the columns.",
)
def _sum_of_each_row(b: Builder) -> Value:
    return b.do("add", b.linear(_x(b), "linear"), b.input("offset", (S, 1)))


@EXAMPLES.add(
    "fuse_matmul_add",
    "A residual behind an activation",
    "Add the residual before the activation, if the weights allow it.",
)
def _residual_behind_activation(b: Builder) -> Value:
    active = b.do("relu", b.linear(_x(b), "linear"))
    return b.do("add", active, b.input("residual", (S, WIDTH)))


@EXAMPLES.add(
    "absorb_into_matmul",
    "A linear layer with a factor above 1 behind its bias",
    "Multiply weight and bias by the factor once, before the export.",
)
def _large_factor_behind_a_bias(b: Builder) -> Value:
    product = b.do("add", b.linear(_x(b), "linear"), b.weight("bias", WIDTH))
    return b.do("mul", product, 2.0)


@EXAMPLES.add(
    "absorb_into_matmul",
    "A linear layer with a factor behind its residual",
    "Multiply the weight and the residual by the factor, before they are added.",
)
def _factor_behind_a_residual(b: Builder) -> Value:
    product = b.do("add", b.linear(_x(b), "linear"), b.input("residual", (S, WIDTH)))
    return b.do("mul", product, 0.5)


@EXAMPLES.add(
    "absorb_into_matmul",
    "A linear layer with a factor below 1, then one above",
    "Multiply the two factors with each other, in Python.",
)
def _two_factors(b: Builder) -> Value:
    return b.do("mul", b.do("mul", b.linear(_x(b), "linear"), 0.5), 4.0)


@EXAMPLES.add(
    "absorb_into_matmul",
    "A linear layer with a factor of 0, or of 1e30",
    "Multiply the weight by the factor once, before the export.",
)
def _huge_factor(b: Builder) -> Value:
    return b.do("mul", b.linear(_x(b), "linear"), 1e30)

"""The element-wise ops, one function each.

`ablation_kernels.functions` describes what all functions of ops share.
"""

from __future__ import annotations

from typing import Literal

from ablation_kernels._call import Array, Float32Array, call

__all__ = [
    "abs",
    "add",
    "bias_relu",
    "cos",
    "div",
    "equal",
    "erf",
    "exp",
    "gelu",
    "less",
    "less_equal",
    "log",
    "maximum",
    "minimum",
    "mul",
    "pow",
    "relu",
    "rsqrt",
    "sigmoid",
    "silu",
    "silu_mul",
    "sin",
    "sqrt",
    "sub",
    "tanh",
    "where",
]


def add(a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return a + b with NumPy's broadcasting. out may be an input of the output's shape."""
    return call("add", (a, b), {}, kernel, out)


def sub(a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return a - b with NumPy's broadcasting. out may be an input of the output's shape."""
    return call("sub", (a, b), {}, kernel, out)


def mul(a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return a * b with NumPy's broadcasting. out may be an input of the output's shape."""
    return call("mul", (a, b), {}, kernel, out)


def div(a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return a / b with NumPy's broadcasting. out may be an input of the output's shape."""
    return call("div", (a, b), {}, kernel, out)


def maximum(
    a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """Return the larger of a and b with NumPy's broadcasting, NaN if either is.

    out may be an input of the output's shape.
    """
    return call("maximum", (a, b), {}, kernel, out)


def minimum(
    a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """Return the lesser of a and b with NumPy's broadcasting, NaN if either is.

    out may be an input of the output's shape.
    """
    return call("minimum", (a, b), {}, kernel, out)


def pow(a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return a to the power of b with NumPy's broadcasting.

    out may be an input of the output's shape.
    """
    return call("pow", (a, b), {}, kernel, out)


def equal(
    a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """Return 1 where a equals b, else 0, with NumPy's broadcasting; NaN equals nothing.

    out may be an input of the output's shape.
    """
    return call("equal", (a, b), {}, kernel, out)


def less(
    a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """Return 1 where a < b, else 0, with NumPy's broadcasting; NaN is less than nothing.

    out may be an input of the output's shape.
    """
    return call("less", (a, b), {}, kernel, out)


def less_equal(
    a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """Return 1 where a <= b, else 0, with NumPy's broadcasting; NaN gives 0.

    out may be an input of the output's shape.
    """
    return call("less_equal", (a, b), {}, kernel, out)


def where(
    condition: Array,
    x: Array,
    y: Array,
    *,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Return x where condition is not zero, else y, with NumPy's broadcasting.

    condition is float32.
    """
    return call("where", (condition, x, y), {}, kernel, out)


def exp(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return e to the power of x, any shape. out may be x."""
    return call("exp", (x,), {}, kernel, out)


def log(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return the natural logarithm of x: -infinity for 0, NaN for x < 0. out may be x."""
    return call("log", (x,), {}, kernel, out)


def sqrt(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return the square root of x, NaN for x < 0. out may be x."""
    return call("sqrt", (x,), {}, kernel, out)


def tanh(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return the hyperbolic tangent of x. out may be x."""
    return call("tanh", (x,), {}, kernel, out)


def sigmoid(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return 1 / (1 + exp(-x)), any shape. out may be x."""
    return call("sigmoid", (x,), {}, kernel, out)


def erf(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return the error function of x. out may be x."""
    return call("erf", (x,), {}, kernel, out)


def abs(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return the magnitude of x. out may be x."""
    return call("abs", (x,), {}, kernel, out)


def sin(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return the sine of x in radians. out may be x."""
    return call("sin", (x,), {}, kernel, out)


def cos(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return the cosine of x in radians. out may be x."""
    return call("cos", (x,), {}, kernel, out)


def relu(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return max(x, 0), any shape. out may be x."""
    return call("relu", (x,), {}, kernel, out)


def gelu(
    x: Array,
    *,
    approximate: Literal["none", "tanh", "sigmoid"] = "none",
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Return x * Phi(x), or an approximation of it (Hendrycks and Gimpel, 2016). out may be x.

    "tanh": 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))); "sigmoid": x / (1 + exp(-1.702 x)).
    """
    return call("gelu", (x,), {"approximate": approximate}, kernel, out)


def silu(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return x / (1 + exp(-x)), any shape. out may be x."""
    return call("silu", (x,), {}, kernel, out)


def silu_mul(
    a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """Return silu(a) * b, of one shape: the middle of SwiGLU (Shazeer, 2020).

    out may be a or b.
    """
    return call("silu_mul", (a, b), {}, kernel, out)


def rsqrt(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return 1 / sqrt(x), any shape: infinity for 0, NaN for x < 0. out may be x."""
    return call("rsqrt", (x,), {}, kernel, out)


def bias_relu(
    x: Array, bias: Array, *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """Return max(x + bias, 0) with x (..., N) and bias (N,). out may be x."""
    return call("bias_relu", (x, bias), {}, kernel, out)

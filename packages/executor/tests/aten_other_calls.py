"""Calls of ATen overloads that export takes apart, that it only meets directly, or refuses."""

from __future__ import annotations

from typing import Any

import torch
from aten_inputs import IMAGE_KERNELS, KEEP, KERNELS, Function, ops
from torch.nn import functional

#: Ops that PyTorch takes apart into those of the table, or evaluates, as it knows their shape.
TAKEN_APART: dict[str, list[Function]] = {
    "addcdiv.default": [lambda x, y, v: torch.addcdiv(x, y, v, value=0.5)],
    "addcmul.default": [
        lambda x, y, v: torch.addcmul(x, y, v),
        lambda x, v: ops.addcmul(v, x, x, value=-2),
    ],
    "all.default": [lambda mask: mask.all()],
    "all.dim": [lambda mask: mask.all(-1), lambda x: (x.relu() + KEEP).all(1, keepdim=True)],
    "all.dims": [lambda mask: torch.all(mask, (0, 2))],
    "clamp_max.default": [lambda x: ops.clamp_max(x, 0.5)],
    "clamp_max.Tensor": [lambda x, v: ops.clamp_max.Tensor(x, v)],
    "clamp_min.default": [lambda x: x.clamp_min(0.5), lambda ids: ids.clamp_min(2)],
    "clamp_min.Tensor": [lambda x, v: ops.clamp_min.Tensor(x, v)],
    "conv1d.default": [
        lambda x: functional.conv1d(
            x, KERNELS.to(x.dtype)[:, :3], KERNELS.to(x.dtype)[:, 0, 0], padding=1
        ),
        lambda x: functional.conv1d(
            x, KERNELS.to(x.dtype)[:, :3], None, stride=2, padding=2, dilation=2
        ),
        lambda x: functional.conv1d(x[0], KERNELS.to(x.dtype)[:6, :1], groups=3),
        lambda x: functional.conv1d(
            x, KERNELS.to(x.dtype)[:3, :1], KERNELS.to(x.dtype)[:3, 0, 0], padding=2, groups=3
        ),
        lambda x, y: functional.conv1d(x, y[..., :2], y[:, 0, 0], stride=2),
    ],
    "conv1d.padding": [
        lambda x: functional.conv1d(x, KERNELS.to(x.dtype)[:, :3], padding="same"),
        lambda x: functional.conv1d(x, KERNELS.to(x.dtype)[:, :3], padding="valid"),
    ],
    "conv2d.default": [
        lambda image: functional.conv2d(
            image,
            IMAGE_KERNELS.to(image.dtype),
            IMAGE_KERNELS.to(image.dtype)[:, 0, 0, 0],
            stride=(3, 2),
        ),
        lambda image: functional.conv2d(
            image, IMAGE_KERNELS.to(image.dtype), None, 2, (2, 1), (1, 2)
        ),
        lambda image: functional.conv2d(
            image, IMAGE_KERNELS.to(image.dtype)[:, :2], groups=2, padding=1
        ),
        lambda image: functional.conv2d(image[0], IMAGE_KERNELS.to(image.dtype)[..., :1, :1]),
    ],
    "conv2d.padding": [
        lambda image: functional.conv2d(image, IMAGE_KERNELS.to(image.dtype), padding="same")
    ],
    "conv3d.default": [
        lambda image: functional.conv3d(
            image[None], KERNELS.to(image.dtype)[:, :1, None, :2, None], stride=(1, 2, 1)
        ),
        lambda image: functional.conv3d(
            image[None], KERNELS.to(image.dtype)[:, :1, None, :2, None], padding=1
        ),
    ],
    "fill.Scalar": [lambda x: torch.zeros_like(x).fill_(3) * 2],
    "fill.Tensor": [lambda x, v: torch.zeros_like(x).fill_(v[0]) * 2],
    "full_like.default": [
        lambda x: torch.full_like(x, 2.5) + x,
        lambda ids: torch.full_like(ids, 5) + ids,
    ],
    "glu.default": [lambda x: functional.glu(x), lambda x: functional.glu(x[:, :2], 1)],
    "hardsigmoid.default": [lambda x: functional.hardsigmoid(x * 3)],
    "hardswish.default": [lambda x: functional.hardswish(x * 3)],
    "isfinite.default": [lambda x: x.isfinite()],
    "lerp.Scalar": [lambda x, y: torch.lerp(x, y, 0.3), lambda x, y: torch.lerp(x, y, 0.8)],
    "log_sigmoid.default": [lambda x: functional.logsigmoid(x * 30)],
    "log_softmax.int": [lambda x: functional.log_softmax(x * 20, 1)],
    "logsumexp.default": [lambda x: x.logsumexp(1), lambda x: x.logsumexp((0, 2), keepdim=True)],
    "mish.default": [lambda x: functional.mish(x * 5)],
    "new_full.default": [lambda x: x + x.new_full((4,), 2.0)],
    "new_ones.default": [lambda x: x + x.new_ones(4)],
    "new_zeros.default": [lambda x, ids: torch.cat([ids, ids.new_zeros(2, 1)], 1)],
    "ones_like.default": [
        lambda x: torch.ones_like(x) - x,
        lambda ids: torch.ones_like(ids).cumsum(-1),
    ],
    "reflection_pad1d.default": [lambda x: functional.pad(x, (2, 3), "reflect")],
    "reflection_pad2d.default": [lambda x: functional.pad(x, (2, 3, 1, 2), "reflect")],
    "relu6.default": [lambda x: functional.relu6(x * 9)],
    "replication_pad1d.default": [lambda x: functional.pad(x, (2, 5), "replicate")],
    "replication_pad2d.default": [lambda x: functional.pad(x, (2, 5, 1, 1), "replicate")],
    "select_scatter.default": [lambda x, y: torch.select_scatter(x, y[0], 0, -1)],
    "sgn.default": [lambda x: x.sgn()],
    "softplus.default": [
        lambda x: functional.softplus(x * 30, 0.5, 10),
        lambda x: functional.softplus(x),
    ],
    "std.correction": [lambda x: x.std(1), lambda x: x.std((0, 2), correction=0, keepdim=True)],
    "std_mean.correction": [lambda x: torch.std_mean(x, 1)],
    "sum.default": [lambda x: x.sum(), lambda ids: ids.sum()],
    "threshold.default": [lambda x: functional.threshold(x, 0.2, -3.0)],
    "zeros_like.default": [lambda x: torch.zeros_like(x) - x],
}

#: Overloads that torch.export of this version takes apart, called with x and these arguments.
DIRECT: list[tuple[str, tuple[Any, ...]]] = [
    ("chunk.default", (3, -1)),
    ("chunk.default", (2, 1)),
    ("contiguous.default", ()),
    ("dropout.default", (0.5, False)),
    ("feature_dropout.default", (0.5, False)),
    ("flatten.using_ints", (-2, -1)),
    ("flatten.using_ints", (0, 1)),
    ("lift_fresh_copy.default", ()),
    ("reshape.default", ([3, -1],)),
    ("to.dtype", (torch.float32, False, True)),
    ("to.dtype_layout", ()),
    ("unflatten.int", (-1, [2, -1])),
    ("unflatten.int", (1, [3, 1])),
]

#: Arguments that the op set lacks, and the reason that is given.
REFUSED: list[tuple[Function, str]] = [
    (lambda x, y, v, q: ops._to_copy(x, dtype=torch.float64), "gives torch.float64"),
    (lambda x, y, v, q: ops.to.dtype(x, torch.int64), "makes integers of float32"),
    (lambda x, y, v, q: x.softmax(-1, dtype=torch.float64), "gives torch.float64"),
    (lambda x, y, v, q: ops.mean.dim(x, [1], dtype=torch.float64), "gives torch.float64"),
    (lambda ids: ids // 2, "not supported"),
    (lambda ids: ids & 1, "works on the bits of int64"),
    (lambda ids: ids**16, "only whole numbers up to 2.24"),
    (lambda x: x[..., :1].var(-1), "variance of 1 elements with the correction 1"),
    (lambda x: functional.conv_transpose1d(x, KERNELS[:3]), "a transposed convolution"),
    (lambda x, v: x.index_put((torch.tensor([1]),), v, accumulate=True), "accumulate"),
    (lambda x, v: x.index_put((torch.tensor([1, 1]),), v), "to one place twice"),
    (lambda x, ids, v: x.index_put((ids[:, 0] * 0,), v), "places that are made at run time"),
    (lambda x: ops.elu(x, 1.0, 1.0, -1.0), "input_scale is -1.0"),
    (lambda x, y, v, q: torch.div(x, 2, rounding_mode="floor"), "not supported"),
    (lambda x, y, v, q: x + torch.ones(4, dtype=torch.float64), "torch.float64, expected"),
    (lambda x, y, v, q: x * torch.ones(4, dtype=torch.complex64), "torch.complex64, expected"),
    (lambda x, y, v, q: torch.where(KEEP, x, torch.zeros(4).double()), "torch.float64, expected"),
    # Noted where they reach the result.
    (lambda x, y, v, q: torch.dropout(x, 0.5, True), "draws random numbers"),
    (lambda x, y, v, q: torch.feature_dropout(x, 0.5, True), "draws random numbers"),
    (
        lambda x, y, v, q: ops.scaled_dot_product_attention(q, q, q, None, 0.1),
        "draws random numbers",
    ),
]

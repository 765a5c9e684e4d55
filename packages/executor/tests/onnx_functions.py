"""ONNX nodes that are more than one torch call; see `onnx_ops.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def as_list(array: Any) -> list[int]:
    return [int(number) for number in np.asarray(array).reshape(-1)]


def all_axes(x: Tensor, axes: Any) -> list[int]:
    return list(range(x.dim())) if axes is None or not len(axes) else as_list(axes)


def gemm(
    a: Tensor, b: Tensor, c: Any = None, *, alpha: float = 1.0, beta: float = 1.0,
    transA: int = 0, transB: int = 0,
) -> Tensor:  # fmt: skip
    a, b = a.t() if transA else a, b.t() if transB else b
    return alpha * (a @ b) if c is None else torch.addmm(c, a, b, alpha=alpha, beta=beta)


def reshape(x: Tensor, shape: Any, *, allowzero: int = 0) -> Tensor:
    sizes = [x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(as_list(shape))]
    return x.reshape(sizes)


def slice_(x: Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Tensor:
    starts, ends = as_list(starts), as_list(ends)
    axes = list(range(len(starts))) if axes is None else as_list(axes)
    steps = [1] * len(starts) if steps is None else as_list(steps)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen = range(x.shape[axis])[slice(start, end, step)]
        if step > 0:
            parts = [slice(None)] * x.dim()
            parts[axis] = slice(start, end, step)
            x = x[tuple(parts)]
        else:
            x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))
    return x


def pad(
    x: Tensor, pads: Any, value: Any = None, axes: Any = None, *, mode: str = "constant"
) -> Tensor:
    pads, count = as_list(pads), len(as_list(pads)) // 2
    sizes = dict.fromkeys(range(x.dim()), (0, 0))
    for place, axis in enumerate(range(x.dim()) if axes is None else as_list(axes)):
        sizes[axis % x.dim()] = (pads[place], pads[place + count])
    flat = [size for axis in reversed(range(x.dim())) for size in sizes[axis]]
    if mode == "constant":
        return functional.pad(x, flat, value=0 if value is None else np.asarray(value).item())
    while flat[-2:] == [0, 0]:
        del flat[-2:]
    return functional.pad(x, flat, mode={"edge": "replicate", "wrap": "circular"}.get(mode, mode))


def split(
    x: Tensor, sizes: Any = None, *, axis: int = 0, num_outputs: int | None = None, n: int
) -> Any:
    if sizes is not None:
        return x.split(as_list(sizes), axis)
    return x.split(math.ceil(x.shape[axis] / (num_outputs or n)), axis)


def gather(x: Tensor, ids: Tensor, *, axis: int = 0) -> Tensor:
    places: list[Any] = [slice(None)] * x.dim()
    places[axis] = ids
    return x[tuple(places)]


def squeeze(x: Tensor, axes: Any = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(as_list(axes)))


def unsqueeze(x: Tensor, axes: Any) -> Tensor:
    rank = x.dim() + len(as_list(axes))
    for axis in sorted(number % rank for number in as_list(axes)):
        x = x.unsqueeze(axis)
    return x


def position(x: Tensor, name: str, axis: int, keepdims: int, last: int) -> Tensor:
    function = getattr(torch, name)
    if not last:
        return function(x, axis, bool(keepdims))
    return x.shape[axis] - 1 - function(x.flip(axis), axis, bool(keepdims))


def cumsum(x: Tensor, axis: Any, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    number = int(axis)
    x = x.flip(number) if reverse else x
    total = x.cumsum(number, dtype=x.dtype)
    total = total - x if exclusive else total
    return total.flip(number) if reverse else total


def trilu(x: Tensor, k: Any = None, *, upper: int = 1) -> Tensor:
    diagonal = 0 if k is None else int(k)
    return x.triu(diagonal) if upper else x.tril(diagonal)


def layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5,
    stash_type: int = 1, n: int = 1,
) -> Any:  # fmt: skip
    shape = x.shape[axis:]
    if n == 1:
        bias = None if bias is None else bias.expand(shape)
        return functional.layer_norm(x, shape, scale.expand(shape), bias, epsilon)
    axes = list(range(axis % x.dim(), x.dim()))
    mean = x.mean(axes, keepdim=True)
    inverse = torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + epsilon)
    out = (x - mean) * inverse * scale
    return (out if bias is None else out + bias, mean, inverse)[:n]


def rms_norm(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return functional.rms_norm(x, x.shape[axis:], scale.expand(x.shape[axis:]), epsilon)


def conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, auto_pad: str = "NOTSET",
    dilations: Any = None, group: int = 1, kernel_shape: Any = None, pads: Any = None,
    strides: Any = None,
) -> Tensor:  # fmt: skip
    rank = x.dim() - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    begins, ends = _padding(x, weight.shape[2:], auto_pad, pads, strides, dilations)
    if begins != ends:
        x = functional.pad(
            x, [n for pair in zip(begins[::-1], ends[::-1], strict=True) for n in pair]
        )
        begins = [0] * rank
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    return function(x, weight, bias, strides, begins, dilations, group)


def _padding(
    x: Tensor, kernel: Any, auto_pad: str, pads: Any, strides: Any, dilations: Any
) -> tuple[list[int], list[int]]:
    rank = len(kernel)
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        pads = pads or [0] * 2 * rank
        return list(pads[:rank]), list(pads[rank:])
    totals = [
        max(0, (math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n)
        for n, s, k, d in zip(x.shape[2:], strides, kernel, dilations, strict=True)
    ]
    less, more = [n // 2 for n in totals], [n - n // 2 for n in totals]
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


def max_pool(
    x: Tensor, *, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    dilations: Any = None, pads: Any = None, storage_order: int = 0, strides: Any = None,
    n: int = 1,
) -> Any:  # fmt: skip
    rank = len(kernel_shape)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    begins, ends = _padding(x, kernel_shape, auto_pad, pads, strides, dilations)
    if begins != ends or n > 1:
        raise NotImplementedError("padding of one side, or positions")
    function = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[rank - 1]
    return function(x, kernel_shape, strides, begins, dilations, bool(ceil_mode))


def average_pool(
    x: Tensor, *, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    count_include_pad: int = 0, dilations: Any = None, pads: Any = None, strides: Any = None,
) -> Tensor:  # fmt: skip
    rank = len(kernel_shape)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    begins, ends = _padding(x, kernel_shape, auto_pad, pads, strides, dilations)
    if begins != ends or set(dilations) != {1}:
        raise NotImplementedError("padding of one side, or dilation")
    function = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[rank - 1]
    return function(x, kernel_shape, strides, begins, bool(ceil_mode), bool(count_include_pad))


def batch_norm(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *,
    epsilon: float = 1e-5, momentum: float = 0.9, training_mode: int = 0,
) -> Tensor:  # fmt: skip
    if training_mode:
        raise NotImplementedError("training mode")
    return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)


def rotary(
    x: Tensor, cos: Tensor, sin: Tensor, places: Tensor | None = None, *, interleaved: int = 0,
    num_heads: int = 0, rotary_embedding_dim: int = 0,
) -> Tensor:  # fmt: skip
    flat = x.dim() == 3
    y = x.unflatten(-1, (num_heads, -1)) if flat else x.transpose(1, 2)
    size = rotary_embedding_dim or y.shape[-1]
    if places is not None:
        cos, sin = cos[places], sin[places]
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    part, rest = y[..., :size], y[..., size:]
    if interleaved:
        a, b = part[..., ::2], part[..., 1::2]
        part = torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
    else:
        a, b = part.chunk(2, -1)
        part = torch.cat((a * cos - b * sin, a * sin + b * cos), -1)
    y = torch.cat((part, rest), -1) if size < y.shape[-1] else part
    return y.flatten(2) if flat else y.transpose(1, 2)


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, past_key: Tensor | None = None,
    past_value: Tensor | None = None, filled: Tensor | None = None, *, is_causal: int = 0,
    kv_num_heads: int = 0, q_num_heads: int = 0, qk_matmul_output_mode: int = 0,
    scale: float | None = None, softcap: float = 0.0, softmax_precision: int = 1,
    left_window_size: int = -1, right_window_size: int = -1, n: int = 1,
) -> Any:  # fmt: skip
    """ONNX's attention, by scaled_dot_product_attention unless scores are capped or asked for."""
    if filled is not None:
        raise NotImplementedError("nonpad_kv_seqlen")
    flat = q.dim() == 3
    if flat:
        q = q.unflatten(-1, (q_num_heads, -1)).transpose(1, 2)
        k, v = (part.unflatten(-1, (kv_num_heads, -1)).transpose(1, 2) for part in (k, v))
    offset = 0 if past_key is None else past_key.shape[2]
    if past_key is not None and past_value is not None:
        k, v = torch.cat((past_key, k), 2), torch.cat((past_value, v), 2)
    queries, keys = q.shape[2], k.shape[2]
    if mask is not None and mask.shape[-1] < keys:
        fill = False if mask.dtype == torch.bool else -math.inf
        mask = functional.pad(mask, (0, keys - mask.shape[-1]), value=fill)
    apart = torch.arange(queries)[:, None] + offset - torch.arange(keys)
    seen = torch.ones(queries, keys, dtype=torch.bool)
    seen = apart >= 0 if is_causal else seen
    seen = seen & (apart <= left_window_size) if left_window_size >= 0 else seen
    seen = seen & (-apart <= right_window_size) if right_window_size >= 0 else seen
    if is_causal or left_window_size >= 0 or right_window_size >= 0:
        if mask is None:
            mask = seen
        elif mask.dtype == torch.bool:
            mask = mask & seen
        else:
            mask = mask + torch.zeros(queries, keys).masked_fill(~seen, -math.inf)
    present = (k, v)
    if n < 4 and not softcap:
        y = functional.scaled_dot_product_attention(
            q, k, v, mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        scores = None
    else:
        y, scores = _by_scores(q, k, v, mask, scale, softcap, qk_matmul_output_mode)
    y = y.transpose(1, 2).flatten(2) if flat else y
    return (y, *present, scores)[:n] if n > 1 else y


def _by_scores(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None, cap: float, mode: int
) -> tuple[Tensor, Tensor]:
    times = q.shape[1] // k.shape[1]
    k, v = (part.repeat_interleave(times, 1) if times > 1 else part for part in (k, v))
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    told = scores
    if cap:
        scores = cap * torch.tanh(scores / cap)
    told = scores if mode == 1 else told
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
    scores = scores if mask is None else scores + mask
    told = scores if mode == 2 else told
    weights = scores.softmax(-1)
    # A query that sees nothing gets nothing
    weights = torch.where(scores.amax(-1, keepdim=True) == -math.inf, 0.0, weights)
    return weights @ v, weights if mode == 3 else told


def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def one_hot(ids: Tensor, depth: Any, values: Tensor, *, axis: int = -1) -> Tensor:
    count = int(np.asarray(depth).item())
    axis = axis + ids.dim() + 1 if axis < 0 else axis
    shape = [1] * (ids.dim() + 1)
    shape[axis] = count
    wrapped = torch.where(ids < 0, ids + count, ids)
    return torch.where(wrapped.unsqueeze(axis) == torch.arange(count).view(shape),
                       values[1], values[0])  # fmt: skip


def group_norm(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5, num_groups: int,
    stash_type: int = 1,
) -> Tensor:  # fmt: skip
    return functional.group_norm(x, num_groups, scale, bias, epsilon)


def power(base: Tensor, exponent: Tensor) -> Tensor:
    """A power of the type of the base."""
    return torch.pow(base, exponent).to(base.dtype)


def dropout(
    x: Tensor, ratio: Any = None, training: Any = None, *, seed: int = 0, n: int = 1
) -> Any:
    """The input, and that all of it stays; NotImplementedError where the case draws."""
    if training is not None and bool(training) and (ratio is None or float(ratio) > 0):
        raise NotImplementedError("Dropout in training draws, as no other implementation does")
    return x if n == 1 else (x, torch.ones_like(x, dtype=torch.bool))


def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    y = functional.pixel_unshuffle(x, blocksize)
    if mode == "CRD":
        return y
    return y.unflatten(1, (-1, blocksize**2)).transpose(1, 2).flatten(1, 2)


def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    b, c, h, w = x.shape
    if mode == "CRD":
        return functional.pixel_shuffle(x, blocksize)
    y = x.view(b, blocksize, blocksize, c // blocksize**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(b, c // blocksize**2, h * blocksize, w * blocksize)


def mean_variance(x: Tensor, *, axes: Any = (0, 2, 3)) -> Tensor:
    centered = x - x.mean(list(axes), keepdim=True)
    return centered / (centered.square().mean(list(axes), keepdim=True).sqrt() + 1e-9)


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, past: Tensor | None = None, *,
    activation: str = "none", n: int = 1,
) -> Any:  # fmt: skip
    """A convolution of each channel with what came before."""
    before = weight.shape[2] - 1
    padded = functional.pad(x, (before, 0)) if past is None else torch.cat((past, x), 2)
    y = functional.conv1d(padded, weight, bias, groups=x.shape[1])
    y = y if activation == "none" else functional.silu(y)
    return (y, padded[:, :, padded.shape[2] - before :])[:n] if n > 1 else y


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, past: Tensor | None = None, decay: Tensor | None = None,
    beta: Tensor | None = None, *, q_num_heads: int, kv_num_heads: int, chunk_size: int = 64,
    scale: float = 0.0, update_rule: str = "gated_delta", n: int = 1,
) -> Any:  # fmt: skip
    """A state of keys times values, one step for each query."""
    heads = (q_num_heads, kv_num_heads, kv_num_heads)
    q, k, v = (
        x.unflatten(-1, (h, -1)).transpose(1, 2) for x, h in zip((q, k, v), heads, strict=True)
    )
    state = q.new_zeros(q.shape[0], kv_num_heads, k.shape[-1], v.shape[-1])
    state = state if past is None else past
    scale = scale or q.shape[-1] ** -0.5
    outputs = []
    for step in range(q.shape[2]):
        if decay is not None:
            state = state * decay[:, step].unflatten(-1, (kv_num_heads, -1)).exp()[..., None]
        key, value = k[:, :, step, :, None], v[:, :, step, None, :]
        if beta is not None:
            value = beta[:, step, :, None, None] * (value - (state * key).sum(2, keepdim=True))
        state = state + key * value
        read = state.repeat_interleave(q_num_heads // kv_num_heads, 1)
        outputs.append(scale * (q[:, :, step, None] @ read).squeeze(2))
    y = torch.stack(outputs, 1).flatten(2)
    return (y, state)[:n] if n > 1 else y

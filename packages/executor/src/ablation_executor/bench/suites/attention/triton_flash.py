"""The forward of FlashAttention-2 as a Triton kernel (Dao 2023, arXiv:2307.08691, algorithm 1).

One program computes one block of queries of one head. It walks over blocks of keys with the running
maximum m and sum l of each row, and divides by l once at the end. Scores exist only as one tile in
registers; under a causal mask, blocks of keys that no query of the block sees are not visited.

Operations: 4 d for each pair of a query and a key in the tiles visited. Global memory: q, o and lse
once, k and v once for each block of queries.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

BLOCK_QUERIES, BLOCK_KEYS = 64, 64
DTYPES = (torch.float32, torch.float16)


@triton.jit  # type: ignore[untyped-decorator]
def flash_forward_kernel(
    q_pointer: Any,
    k_pointer: Any,
    v_pointer: Any,
    out_pointer: Any,
    lse_pointer: Any,
    length_q: Any,
    length_k: Any,
    scale: Any,
    head_dim: tl.constexpr,
    head_dim_padded: tl.constexpr,
    causal: tl.constexpr,
    block_queries: tl.constexpr,
    block_keys: tl.constexpr,
) -> None:
    """Arrays are contiguous (heads, length, head_dim), lse (heads, length) float32."""
    first_query = tl.program_id(0) * block_queries
    head = tl.program_id(1).to(tl.int64)
    queries = first_query + tl.arange(0, block_queries)
    features = tl.arange(0, head_dim_padded)
    is_feature = features[None, :] < head_dim
    is_query = queries[:, None] < length_q

    q_at = (head * length_q + queries[:, None]) * head_dim + features[None, :]
    q = tl.load(q_pointer + q_at, mask=is_query & is_feature, other=0.0)

    largest = tl.full((block_queries,), float("-inf"), tl.float32)
    total = tl.zeros((block_queries,), tl.float32)
    out = tl.zeros((block_queries, head_dim_padded), tl.float32)

    end = length_k
    if causal:
        end = tl.minimum(length_k, first_query + block_queries)
    for first_key in range(0, end, block_keys):
        keys = first_key + tl.arange(0, block_keys)
        at = (head * length_k + keys[:, None]) * head_dim + features[None, :]
        is_key = keys[:, None] < length_k
        k = tl.load(k_pointer + at, mask=is_key & is_feature, other=0.0)
        v = tl.load(v_pointer + at, mask=is_key & is_feature, other=0.0)

        # IEEE products of float32: the tensor cores' TF32 would keep ten bits of each factor
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        is_seen = keys[None, :] < length_k
        if causal:
            is_seen = is_seen & (keys[None, :] <= queries[:, None])
        scores = tl.where(is_seen, scores, float("-inf"))

        # Key 0 is seen by every query, so that no maximum stays at -infinity
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        shrink = tl.exp(largest - new_largest)
        weights = tl.exp(scores - new_largest[:, None])
        total = total * shrink + tl.sum(weights, 1)
        out = out * shrink[:, None]
        out += tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        largest = new_largest

    out = out / total[:, None]
    tl.store(out_pointer + q_at, out.to(q.dtype), mask=is_query & is_feature)
    tl.store(lse_pointer + head * length_q + queries, largest + tl.log(total), queries < length_q)


def flash_forward(q: Any, k: Any, v: Any, *, causal: bool, scale: float) -> tuple[Any, Any]:
    """Output like q (B, H, Nq, d) and log-sum-exp (B, H, Nq) float32, of k and v (B, H, Nk, d).

    Tensors are float32 or float16 on one device; other layouts than contiguous are copied. causal
    hides key j from query i where j > i, from the top left. Raises ValueError for another type.
    """
    if q.dtype not in DTYPES:
        accepted = ", ".join(str(dtype) for dtype in DTYPES)
        raise ValueError(f"q has dtype {q.dtype}; accepted: {accepted}")
    q, k, v = (tensor.contiguous() for tensor in (q, k, v))
    batch, heads, length_q, head_dim = q.shape
    out = torch.empty_like(q)
    lse = torch.empty((batch, heads, length_q), dtype=torch.float32, device=q.device)
    grid = (triton.cdiv(length_q, BLOCK_QUERIES), batch * heads)
    flash_forward_kernel[grid](
        q,
        k,
        v,
        out,
        lse,
        length_q,
        k.shape[2],
        scale,
        head_dim=head_dim,
        # tl.dot takes no dimension below 16
        head_dim_padded=max(16, triton.next_power_of_2(head_dim)),
        causal=causal,
        block_queries=BLOCK_QUERIES,
        block_keys=BLOCK_KEYS,
    )
    return out, lse

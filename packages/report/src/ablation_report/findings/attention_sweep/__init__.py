"""Findings of attention-sweep: the published comparison with SDPA, and our kernels against it."""

from __future__ import annotations

SUITE = "attention-sweep"
SDPA, FLASH, TRITON = "torch_sdpa_flash", "ablation_flash", "triton_flash"
FLASH_BF16 = "ablation_flash_bf16"
# An unfused einsum, and the name that it was published under.
EINSUM, PUBLISHED_EINSUM = "torch_unfused_einsum", "scaled_dot_prod_attention"
PUBLISHED_TRITON = "flash_attention_triton"

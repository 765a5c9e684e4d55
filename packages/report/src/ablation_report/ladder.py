"""The ladder as the report knows it: order, parents, and which variants are whose.

Recorded rows carry parent and group themselves; the published ones carry neither parent nor axis.
"""

from __future__ import annotations

from collections.abc import Mapping

NAIVE, SDPA = "torch-naive", "torch-sdpa"
# Neither a graph of ours nor compiled
NOT_COMPILED = (NAIVE, SDPA, "percall-numpy", "percall-native")
# The group of the runtimes of others, which stand below the ladder
LEAGUE = "League"
# The same program under two names each: what their times differ by is noise
AA_PAIRS = (
    ("attention-fused-parallel", "layernorm-parallel"),
    ("attention-flash-parallel", "flash-layernorm"),
)
DEFAULT = "beyond-default"

# Variant to parent, in the order of the table
PARENTS: Mapping[str, str | None] = {
    NAIVE: None,
    SDPA: NAIVE,
    "percall-numpy": "percall-native",
    "percall-native": "attention-fused-parallel",
    "passes-none": NAIVE,
    "passes-fold": "passes-none",
    "passes-absorb": "passes-fold",
    "passes-matmul-add": "passes-absorb",
    "passes-bias-relu": "passes-matmul-add",
    "attention-unfused-scalar": "passes-bias-relu",
    "attention-fused-scalar": "attention-unfused-scalar",
    "attention-fused-simd": "attention-fused-scalar",
    "attention-fused-parallel": "attention-fused-simd",
    "attention-flash-parallel": "attention-fused-parallel",
    "layernorm-scalar": "attention-fused-parallel",
    "layernorm-simd": "layernorm-scalar",
    "layernorm-parallel": "layernorm-simd",
    "flash-layernorm": "layernorm-parallel",
    "beyond-packed": "flash-layernorm",
    "beyond-epilogues": "beyond-packed",
    "beyond-attention": "beyond-epilogues",
    "beyond-layout": "beyond-attention",
    "beyond-qkv": "beyond-layout",
    "beyond-rows": "beyond-qkv",
    DEFAULT: "beyond-rows",
}
LADDER = tuple(PARENTS)
# What tables call a variant that a source does not have; where it has it, its own row says so
PRINTED_NAMES: Mapping[str, str] = {
    NAIVE: "PT naive",
    SDPA: "PT SDPA",
    "percall-numpy": "Numpy per-op",
    "percall-native": "C per-op",
    "passes-none": "No passes",
    "passes-fold": "+ fold/DCE",
    "passes-absorb": "+ BLAS absorb",
    "passes-matmul-add": "+ MATMUL_ADD",
    "passes-bias-relu": "+ BIAS_RELU",
    "attention-unfused-scalar": "Attn: prim scalar",
    "attention-fused-scalar": "Attn: fused scalar",
    "attention-fused-simd": "Attn: fused SIMD",
    "attention-fused-parallel": "Attn: fused parallel",
    "attention-flash-parallel": "Attn: flash parallel",
    "layernorm-scalar": "LN: scalar",
    "layernorm-simd": "LN: SIMD",
    "layernorm-parallel": "LN: SIMD+parallel",
    "flash-layernorm": "Flash + LN opt",
    "beyond-packed": "+ packed weights",
    "beyond-epilogues": "+ fused epilogues",
    "beyond-attention": "+ packed attention",
    "beyond-layout": "+ direct layout",
    "beyond-qkv": "+ merged QKV",
    "beyond-rows": "+ shared fork-joins",
    DEFAULT: "Tuned default",
    "torch-compile": "torch.compile",
    "torch-compile-max": "torch.compile max",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "jax": "JAX jit",
}
# The nine sizes of the ladder, smallest first
CONFIGS = ("Toy", "Small", "Medium", "GPT-2", "1B", "3B", "7B", "7B-4K", "1B-8K")


def rank(variant: str) -> int:
    """Place of a variant in the table; what the ladder does not know comes last."""
    return LADDER.index(variant) if variant in PARENTS else len(LADDER)


def is_ours(variant: str, group: str) -> bool:
    """True for a compiled variant of this project, whatever its rung."""
    return variant not in NOT_COMPILED and group != LEAGUE

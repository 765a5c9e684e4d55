"""The ladder as data: every variant is its parent with exactly one axis changed.

Axes: `executor` (who runs the graph, and how), `passes`, `attention` (unfused, or the fused
kernel), `softmax` (the kernel of an unfused softmax), `layer_norm`, `matmul` (the kernel of every
product), `kernels` (given by the variant, or chosen by compile) and `arithmetic` (other: products
by Strassen's scheme where that is expected to pay). The pass `fuse_attention` belongs to the
attention axis. While attention varies, LayerNorm stays at `simd_parallel`, so that
`attention-fused-parallel` and `layernorm-parallel` are the same program: the run's A/A pair.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from ...runtimes import BY_NAME as RUNTIMES
from ...runtimes import OTHERS
from ...suite import Variant
from ..kernel_sets import kernel_set

FOLD = ("fold_constants",)
ABSORB = ("absorb_into_matmul", "fold_constants")
MATMUL_ADD = (*ABSORB, "fuse_matmul_add")
BIAS_RELU = (*MATMUL_ADD, "fuse_bias_relu")
ALL = (*BIAS_RELU, "fuse_attention")  # of the published ladder
EPILOGUES = (*ALL, "fuse_activation")
LAYOUT = (*EPILOGUES, "direct_layout")
# All passes that find something in the block; the others are for language models.
MERGED = (*LAYOUT, "merge_qkv")

# The group of what rounds otherwise than every other variant: never compared as one of them.
OTHER_ARITHMETIC = "Other arithmetic"


@dataclass(frozen=True)
class Rung:
    """One rung: `name` is the identifier everywhere, `changed` is the one axis that `parent` lacks.

    `runtime` is a name of `bench.runtimes`; `executor` is torch, per_op, compiled or the adapter of
    another runtime; `kernels` has a kernel for every op, or is empty where
    compile chooses; `module` is the PyTorch block it starts from, manual (softmax written out) or
    sdpa.
    """

    name: str
    printed_name: str
    printed_name_apple: str
    group: str
    parent: str | None
    changed: str
    runtime: str
    executor: str
    passes: tuple[str, ...]
    kernels: dict[str, str]
    module: str = "manual"
    share_rows: bool = False
    arithmetic: str = "same"

    def axes(self) -> dict[str, object]:
        """What this variant is on each axis; None where the axis has no meaning for it."""
        native = self.runtime == "kernels"
        fused = "fuse_attention" in self.passes
        if self.runtime == "torch":
            attention: str | None = "sdpa" if self.module == "sdpa" else "unfused"
        elif fused:
            attention = self.kernels.get("attention") if native else "fused"
        else:
            attention = "unfused"
        return {
            "executor": (self.runtime, self.executor),
            "passes": tuple(name for name in self.passes if name != "fuse_attention"),
            "attention": attention,
            "softmax": None if fused else self.kernels.get("softmax"),
            "layer_norm": self.kernels.get("layer_norm"),
            "matmul": self.kernels.get("matmul"),
            "kernels": ("given" if self.kernels else "chosen") if native else None,
            "share_rows": self.share_rows,
            "arithmetic": self.arithmetic,
        }

    def variant(self) -> Variant:
        """This rung as the bench knows it."""
        printed = self.printed_name_apple if platform.system() == "Darwin" else self.printed_name
        axes = self.axes()
        named = {name: axes[name] for name in ("attention", "softmax", "layer_norm", "matmul")}
        factors = {name: value for name, value in named.items() if isinstance(value, str)}
        origin = "-" if self.parent is None else f"{self.parent}, other {self.changed}"
        return Variant(
            self.name,
            RUNTIMES[self.runtime].origin,
            what=f"{printed:<22} {origin.replace('_', ' ')}",
            worker=self.runtime,
            printed_name=printed,
            group=self.group,
            parent=self.parent,
            changed=self.changed or None,
            factors={
                "executor": self.executor,
                **factors,
                "share_rows": self.share_rows,
                "arithmetic": self.arithmetic,
            },
            passes=self.passes,
        )


def changed_axes(child: Rung, parent: Rung) -> list[str]:
    """The axes on which two variants differ, where both have a meaning for them.

    A kernel axis is compared only within one runtime, another one having kernels of its own, and
    only where both variants give their kernels.
    """
    mine, theirs = child.axes(), parent.axes()
    same_runtime = child.runtime == parent.runtime
    both_given = same_runtime and mine["kernels"] == theirs["kernels"]
    fused = ("fuse_attention" in child.passes) == ("fuse_attention" in parent.passes)
    comparable = ["executor", "passes"]
    if both_given or not fused:
        comparable.append("attention")
    if both_given:
        comparable += ["layer_norm", "matmul"] + (["softmax"] if fused else [])
    if same_runtime:
        comparable += ["kernels", "share_rows", "arithmetic"]
    return [axis for axis in comparable if mine[axis] != theirs[axis]]


def _torch(name: str, printed: str, parent: str | None, changed: str, module: str) -> Rung:
    return Rung(
        name, printed, printed, "Baselines", parent, changed, "torch", "torch", (), {}, module
    )


def _compiled(
    name: str,
    printed: str,
    group: str,
    parent: str,
    changed: str,
    passes: tuple[str, ...] = ALL,
    **kernels: str,
) -> Rung:
    elsewhere = printed.replace("GCD", "parallel")
    return Rung(
        name,
        elsewhere,
        printed,
        group,
        parent,
        changed,
        "kernels",
        "compiled",
        passes,
        kernel_set(**kernels),
    )


def _per_op(name: str, printed: str, parent: str, runtime: str) -> Rung:
    kernels = kernel_set() if runtime == "kernels" else {}
    return Rung(
        name, printed, printed, "Python exec", parent, "executor", runtime, "per_op", ALL, kernels
    )


def _beyond(
    name: str,
    printed: str,
    parent: str,
    changed: str,
    passes: tuple[str, ...],
    attention: str | None = None,
    share_rows: bool = False,
) -> Rung:
    """A rung behind the published ones, with packed products; compile chooses without attention."""
    kernels = {} if attention is None else kernel_set(attention=attention, matmul=_PACKED_MATMUL)
    return Rung(
        name,
        printed,
        printed,
        "Beyond",
        parent,
        changed,
        "kernels",
        "compiled",
        passes,
        kernels,
        share_rows=share_rows,
    )


_FUSION, _ATTENTION, _NORM = "Incremental fusion", "Attention variants", "LayerNorm variants"
_FLASH, _PACKED_FLASH = "attention_flash_simd_parallel", "attention_flash_packed_simd_parallel"
_PACKED_MATMUL = "matmul_packed_simd_parallel"

VARIANTS: tuple[Rung, ...] = (
    _torch("torch-naive", "PT naive", None, "", "manual"),
    _torch("torch-sdpa", "PT SDPA", "torch-naive", "attention", "sdpa"),
    _per_op("percall-numpy", "Numpy per-op", "percall-native", "numpy"),
    _per_op("percall-native", "C per-op", "attention-fused-parallel", "kernels"),
    _compiled("passes-none", "No passes", _FUSION, "torch-naive", "executor", ()),
    _compiled("passes-fold", "+ fold/DCE", _FUSION, "passes-none", "passes", FOLD),
    _compiled("passes-absorb", "+ BLAS absorb", _FUSION, "passes-fold", "passes", ABSORB),
    _compiled("passes-matmul-add", "+ MATMUL_ADD", _FUSION, "passes-absorb", "passes", MATMUL_ADD),
    _compiled("passes-bias-relu", "+ BIAS_RELU", _FUSION, "passes-matmul-add", "passes", BIAS_RELU),
    _compiled(
        "attention-unfused-scalar",
        "Attn: prim scalar",
        _ATTENTION,
        "passes-bias-relu",
        "softmax",
        BIAS_RELU,
        softmax="softmax_scalar",
    ),
    _compiled(
        "attention-fused-scalar",
        "Attn: fused scalar",
        _ATTENTION,
        "attention-unfused-scalar",
        "attention",
        attention="attention_fused_scalar",
    ),
    _compiled(
        "attention-fused-simd",
        "Attn: fused SIMD",
        _ATTENTION,
        "attention-fused-scalar",
        "attention",
        attention="attention_fused_simd",
    ),
    _compiled(
        "attention-fused-parallel",
        "Attn: fused GCD",
        _ATTENTION,
        "attention-fused-simd",
        "attention",
    ),
    _compiled(
        "attention-flash-parallel",
        "Attn: flash GCD",
        _ATTENTION,
        "attention-fused-parallel",
        "attention",
        attention=_FLASH,
    ),
    _compiled(
        "layernorm-scalar",
        "LN: scalar",
        _NORM,
        "attention-fused-parallel",
        "layer_norm",
        layer_norm="layer_norm_scalar",
    ),
    _compiled(
        "layernorm-simd",
        "LN: SIMD",
        _NORM,
        "layernorm-scalar",
        "layer_norm",
        layer_norm="layer_norm_simd",
    ),
    _compiled("layernorm-parallel", "LN: SIMD+GCD", _NORM, "layernorm-simd", "layer_norm"),
    _compiled(
        "flash-layernorm",
        "Flash + LN opt",
        "Full optimization",
        "layernorm-parallel",
        "attention",
        attention=_FLASH,
    ),
    _beyond("beyond-packed", "+ packed weights", "flash-layernorm", "matmul", ALL, _FLASH),
    _beyond("beyond-epilogues", "+ fused epilogues", "beyond-packed", "passes", EPILOGUES, _FLASH),
    _beyond(
        "beyond-attention",
        "+ packed attention",
        "beyond-epilogues",
        "attention",
        EPILOGUES,
        _PACKED_FLASH,
    ),
    _beyond(
        "beyond-layout", "+ direct layout", "beyond-attention", "passes", LAYOUT, _PACKED_FLASH
    ),
    _beyond("beyond-qkv", "+ merged QKV", "beyond-layout", "passes", MERGED, _PACKED_FLASH),
    _beyond(
        "beyond-rows",
        "+ shared fork-joins",
        "beyond-qkv",
        "share_rows",
        MERGED,
        _PACKED_FLASH,
        share_rows=True,
    ),
    _beyond(
        "beyond-default",
        "Tuned default",
        "beyond-rows",
        "kernels",
        MERGED,
        share_rows=True,
    ),
    Rung(
        "other-strassen",
        "Strassen products",
        "Strassen products",
        OTHER_ARITHMETIC,
        "beyond-default",
        "arithmetic",
        "kernels",
        "compiled",
        MERGED,
        {},
        share_rows=True,
        arithmetic="other",
    ),
)

# The runtimes of others, each PT SDPA under another executor. Not rungs of the ladder: a selection
# of variants leaves them alone, `--baselines` chooses among them.
LEAGUE: tuple[Rung, ...] = tuple(
    Rung(
        name=runtime.name,
        printed_name=runtime.printed_name,
        printed_name_apple=runtime.printed_name,
        group="League",
        parent="torch-sdpa",
        changed="executor",
        runtime=runtime.name,
        executor=runtime.adapter,
        passes=(),
        kernels={},
        module="manual" if runtime.takes_function else "sdpa",
    )
    for runtime in OTHERS
)

BY_NAME: dict[str, Rung] = {variant.name: variant for variant in (*VARIANTS, *LEAGUE)}

# What the league is played with: both baselines, the best of the published ladder with the other
# half of its A/A pair, without which no difference is resolved, all that goes beyond it, and other
# arithmetic, which has a column of its own.
LEAGUE_SELECTION: tuple[str, ...] = (
    "torch-naive",
    "torch-sdpa",
    "attention-fused-parallel",
    "layernorm-parallel",
    "flash-layernorm",
    *(variant.name for variant in VARIANTS if variant.group in ("Beyond", "Other arithmetic")),
)

# For d_model >= 2048, where the other rungs take too long: the published selection, Beyond, and
# other arithmetic, which pays most at these sizes.
LARGE_VARIANTS: tuple[str, ...] = (
    "torch-naive",
    "torch-sdpa",
    "passes-none",
    "attention-fused-scalar",
    "attention-fused-parallel",
    "attention-flash-parallel",
    "layernorm-parallel",
    "flash-layernorm",
    "beyond-packed",
    "beyond-epilogues",
    "beyond-attention",
    "beyond-layout",
    "beyond-qkv",
    "beyond-rows",
    "beyond-default",
    "other-strassen",
)

# Pairs that are the same program under two names: the difference between their times is noise.
SAME_PROGRAM_PAIRS: tuple[tuple[str, str], ...] = (
    ("attention-fused-parallel", "layernorm-parallel"),
    ("attention-flash-parallel", "flash-layernorm"),
)

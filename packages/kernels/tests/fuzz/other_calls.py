"""Calls of bfloat16 attention, the teaching set, and the questions about ops and kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import reference
import tolerance
from harness import Float32
from numpy.typing import NDArray

import ablation_kernels
from ablation_kernels import teaching
from fuzz import foreign, hostile
from fuzz.case import Case, Chance, Expected, require_close
from fuzz.op_calls import CALLS, Call, qkv_of
from fuzz.op_cases import KERNELS

_native: Any = ablation_kernels._native
NATIVE_BF16 = ablation_kernels.attention_bf16_instruction_set() in ("amx_bf16", "avx512_bf16")


def _bits(x: Float32) -> NDArray[np.uint16]:
    """The upper halves, which are numbers of bfloat16 as well."""
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def _float32(bits: Any) -> Float32:
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


def bf16(chance: Chance) -> Case:
    """attention_bf16, and the bytes that it takes."""
    arrays: list[Any] = [_bits(x) for x in qkv_of(chance)]
    keywords: dict[str, Any] = {
        "causal": chance.choice((False, True, np.True_)),
        "scale": chance.choice((None, 0.25, np.float32(0.5))),
    }
    expected: Expected = "taken"
    wide = [_float32(x) for x in arrays]
    out = None
    if chance.is_one_of(3):
        out = np.zeros(arrays[0].shape, np.uint16)
    if chance.is_one_of(3):
        expected = "refused"
        slot = chance.randrange(3)
        spoiled = chance.choice(foreign.DEFECTS)(chance, wide[slot])
        if getattr(spoiled, "dtype", None) == np.uint16 or "bfloat16" in str(
            getattr(spoiled, "dtype", "")
        ):
            expected = "any"
        arrays[slot] = spoiled
    elif chance.is_one_of(6):
        expected = "any"
        keywords[chance.choice(("causal", "scale", "out"))] = hostile.junk(chance)
    keywords.setdefault("out", out)

    def check(result: Any) -> None:
        if expected != "taken":
            return
        output, lse = result
        settings = {"causal": bool(keywords["causal"]), "scale": keywords["scale"]}
        right = reference.attention_lse(wide[0], wide[1], wide[2], **settings)
        size = wide[0].shape[-1]
        allowed = tolerance.attention_bf16(right.attention, wide[2], size, NATIVE_BF16)
        require_close(_float32(output), right.attention.value, allowed)
        require_close(lse, right.lse, tolerance.lse_bf16(right, size))

    parts = ("attention_bf16", [type(x).__name__ for x in arrays], keywords)
    return Case(
        parts, lambda: ablation_kernels.attention_bf16_lse(*arrays, **keywords), expected, check
    )


def taught(chance: Chance) -> Case:
    """teaching.attention, by its function or past its checks."""
    q = chance.array(
        (*(chance.choice((1, 1, 2)) for _ in range(2)), chance.choice((1, 2, 7, 16, 33)), 8)
    )
    qkv = [q, chance.array(q.shape), chance.array(q.shape)]
    given: list[Any] = [
        chance.choice(foreign.INPUTS)(chance, x) if chance.is_one_of(4) else x for x in qkv
    ]
    keywords: dict[str, Any] = {
        "form": chance.choice(teaching.FORMS),
        "block_q": chance.choice((1, 3, 16, np.int64(256))),
        "block_k": chance.choice((1, 5, 256, 2**31 - 1)),
        "spans": chance.choice((False, True, np.False_)),
    }
    expected: Expected = "taken"
    if chance.is_one_of(4):
        expected = "refused"
        slot = chance.randrange(3)
        given[slot] = chance.choice(foreign.DEFECTS)(chance, qkv[slot])
    elif chance.is_one_of(4):
        expected = "any"
        name = chance.choice((*keywords, "scale", "threads", "softmax", "out"))
        keywords[name] = hostile.junk(chance)
    if chance.is_one_of(10):
        numbers = [chance.choice((0, -1, 1, 2, 2**31, 2**62)) for _ in range(3)]
        form = keywords["form"]
        return Case(
            ("teaching past its checks", numbers),
            lambda: _native.teaching_attention(
                *qkv, form, numbers[0], numbers[1], None, True, numbers[2], False, None
            ),
        )

    def check(result: Any) -> None:
        if expected == "taken":
            right = reference.attention(*qkv)
            require_close(result.output, right.value, tolerance.attention(right, qkv[2], 8))
            assert result.scratch_bytes == result.scratch_formula_bytes

    parts = ("teaching", q.shape, [type(x).__name__ for x in given], keywords)
    return Case(parts, lambda: teaching.attention(*given, **keywords), expected, check)


def _shapes(chance: Chance, call: Call) -> list[Any]:
    slots = ablation_kernels.ops()[call.op].slots
    found: list[Any] = []
    for slot in slots:
        x = call.arrays.get(slot)
        shape = None if x is None else list(x.shape)
        found.append(None if shape is None else hostile.honest(chance, shape))
    return found


def question(chance: Chance) -> Case:
    """infer_shape, best_kernel, scratch_bytes."""
    call = CALLS[chance.choice(list(CALLS))](chance)
    shapes: Any = _shapes(chance, call)
    attributes: Any = dict(call.attributes)
    constants: Any = ["b"] if call.op == "matmul" and chance.is_one_of(2) else ()
    threads: Any = chance.choice((1, 2, 3, 64, 1024, np.int64(5)))
    kernel: Any = chance.choice(KERNELS[call.op])
    expected: Expected = "taken"
    match chance.randrange(10):
        case 0:
            expected, shapes = "refused", hostile.lying(chance, shapes)
        case 1:
            expected = "any"
            shapes[0] = hostile.lying(chance, [2, 3])
        case 2:
            expected = "any"
            attributes[chance.choice(("eps", "perm", "scale", "x", 3))] = hostile.junk(chance)
        case 3:
            expected = "any"
            threads = constants = hostile.junk(chance)
        case 4:
            expected = "any"
            sizes = (0, -1, 1, 3, 2**31, 2**40, 2**63 - 1, 2**64)
            shapes = [
                None
                if shape is None
                else [chance.choice(sizes) for _ in range(chance.randint(0, 9))]
                for shape in shapes
            ]

    def run() -> Any:
        which = chance.randrange(3)
        if which == 0:
            return ablation_kernels.infer_shape(call.op, shapes, attributes)
        if which == 1:
            return ablation_kernels.best_kernel(call.op, shapes, attributes, constants=constants)
        return ablation_kernels.scratch_bytes(
            kernel, shapes, attributes, threads, constants=constants
        )

    def check(result: Any) -> None:
        if isinstance(result, tuple) and expected == "taken":
            assert result == np.shape(call.expected), f"inferred {result}"

    parts = ("question", call.op, attributes, threads, constants, shapes)
    return Case(parts, run, "any" if expected == "refused" else expected, check)


def setting(chance: Chance) -> Case:
    """The functions without arrays."""
    value = hostile.junk(chance)
    before = ablation_kernels.get_num_threads()

    def set_threads() -> None:
        try:
            ablation_kernels.set_num_threads(value)
        finally:
            ablation_kernels.set_num_threads(before)

    ask: list[Any] = [
        set_threads,
        ablation_kernels.op_table,
        ablation_kernels.ops,
        ablation_kernels.build_info,
        ablation_kernels.get_num_threads,
        lambda: ablation_kernels.time_kernels("relu", (3, 5), 1),
        lambda: ablation_kernels.time_kernels(value, (3, 5), 1),
        lambda: ablation_kernels.best_kernel(value, [(3,)]),
        lambda: ablation_kernels.best_kernel("relu", value),
        lambda: ablation_kernels.attention_bf16_scratch_bytes(
            hostile.lying(chance, [1, 2, 3, 4]), (1, 2, 3, 4), threads=1
        ),
        lambda: ablation_kernels.attention_bf16_scratch_bytes(
            (1, 2, 3, 4), (1, 2, 5, 4), threads=value
        ),
        lambda: _native.call("relu", (value,), {}, None, None),
        lambda: _native.call("add", (value,), {}, None, None),
        lambda: _native.call("relu", (np.zeros(2, np.float32),), {"x": value}, None, None),
    ]
    chosen = chance.randrange(len(ask))
    return Case(("setting", chosen, value), ask[chosen])

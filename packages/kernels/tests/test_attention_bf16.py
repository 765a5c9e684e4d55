"""attention_bf16 on every path of this machine: values, special values, arrays, bad calls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within
from numpy.typing import NDArray

import ablation_kernels
from ablation_kernels import attention_bf16, attention_bf16_instruction_set, attention_bf16_lse

Bits = NDArray[np.uint16]
Qkv = tuple[Bits, Bits, Bits]
Sizes = tuple[int, int, int, int, int]

NATIVE = ("amx_bf16", "avx512_bf16")
PATH = attention_bf16_instruction_set()
INFO = ablation_kernels.build_info()
#: Every other path.
OTHERS = [n for n in [*INFO["isa_bf16_available"], *INFO["isa_available"]] if n != PATH]
NAN, INFINITY, ONE = 0x7FC0, 0x7F80, 0x3F80
GUARD, CANARY = 37, 0xABCD

# (batch, heads, queries, keys, head_dim): around a register tile's 12 rows and 32 columns, AMX's 16
# rows and 32 elements, a vector's 16 lanes and the pairs that are multiplied at a time.
SHAPES: list[Sizes] = [
    (1, 1, 1, 1, 1),
    (2, 3, 13, 17, 16),
    (1, 2, 11, 31, 33),
    (1, 2, 12, 32, 64),
    (2, 2, 25, 33, 80),
    (1, 3, 67, 67, 128),
    (2, 1, 45, 131, 64),
    (1, 2, 131, 45, 2),
    (1, 1, 1, 77, 63),
    (1, 2, 16, 64, 96),
    (1, 1, 33, 47, 81),
    (1, 1, 49, 95, 112),
]
#: More keys than a tile has, and a last one of one key.
LONG = (1, 2, 23, 1345, 64)


def bits_of(x: NDArray[Any]) -> Bits:
    """float32 to the nearest bfloat16, ties to even."""
    wide = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).astype(np.uint16)


def float32_of(bits: NDArray[np.uint16]) -> Float32:
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


def normal(random: np.random.Generator, *shape: int, spread: float = 1.0) -> Bits:
    return bits_of(spread * random.standard_normal(shape))


def make(random: np.random.Generator, shape: Sizes, spread: float = 1.0) -> Qkv:
    batch, heads, queries, keys, size = shape
    return (
        normal(random, batch, heads, queries, size, spread=spread),
        normal(random, batch, heads, keys, size, spread=spread),
        normal(random, batch, heads, keys, size),
    )


def check(qkv: Qkv, **keywords: Any) -> None:
    """Output and log-sum-exp against float64; both functions write the same output."""
    q, k, v = map(float32_of, qkv)
    output, lse = attention_bf16_lse(*qkv, **keywords)
    expected = reference.attention_lse(q, k, v, **keywords)
    size = q.shape[-1]
    allowed = tolerance.attention_bf16(expected.attention, v, size, PATH in NATIVE)
    assert_within(float32_of(output), expected.attention.value, allowed)
    assert_within(lse, expected.lse, tolerance.lse_bf16(expected, size))
    np.testing.assert_array_equal(attention_bf16(*qkv, **keywords), output)


@pytest.mark.parametrize("shape", [*SHAPES, LONG])
@pytest.mark.parametrize("causal", [False, True])
def test_shapes(shape: Sizes, causal: bool, random: np.random.Generator) -> None:
    check(make(random, shape), causal=causal)


@pytest.mark.parametrize("scale", [1.0, 0.05, -0.7, 0.0])
def test_scale(scale: float, random: np.random.Generator) -> None:
    check(make(random, (2, 2, 25, 70, 16)), scale=scale)
    check(make(random, (1, 1, 25, 70, 16)), scale=scale, causal=True)


@pytest.mark.parametrize("shape", [(2, 2, 67, 70, 64), LONG])
@pytest.mark.parametrize("causal", [False, True])
def test_large_scores(shape: Sizes, causal: bool, random: np.random.Generator) -> None:
    qkv = make(random, shape, spread=4.5)
    scores = reference._scores(*map(float32_of, qkv[:2])) / np.sqrt(shape[-1])
    assert np.abs(scores).max() > 60
    check(qkv, causal=causal)


def test_scores_that_grow_along_the_keys(random: np.random.Generator) -> None:
    """Every tile of keys brings a new maximum, and what was gathered shrinks."""
    _, _, v = make(random, LONG)
    q = np.full((1, 2, 23, 64), ONE, np.uint16)
    k = bits_of(np.broadcast_to(np.linspace(-9, 9, LONG[3])[:, None], (1, 2, LONG[3], 64)))
    check((q, k, v))
    check((q, np.ascontiguousarray(k[:, :, ::-1]), v))


def test_one_key_is_copied(random: np.random.Generator) -> None:
    """With one key the output is its value, bit by bit, of any magnitude."""
    value = random.integers(0x0100, 0x7F00, (1, 3, 1, 64)).astype(np.uint16)
    value[..., ::2] |= 0x8000
    q, k = normal(random, 1, 3, 5, 64), normal(random, 1, 3, 1, 64)
    np.testing.assert_array_equal(
        attention_bf16(q, k, value), np.broadcast_to(value, (1, 3, 5, 64))
    )


def test_the_output_is_rounded_to_nearest_even(random: np.random.Generator) -> None:
    """The mean of two values of one binade is exact in float32, and often a tie."""
    v = random.integers(ONE, ONE + 0x80, (1, 4, 2, 64)).astype(np.uint16)
    q, k = np.zeros((1, 4, 3, 64), np.uint16), normal(random, 1, 4, 2, 64)
    mean = float32_of(v).mean(axis=2, keepdims=True)
    assert np.count_nonzero((mean.view(np.uint32) & 0xFFFF) == 0x8000) > 50
    np.testing.assert_array_equal(
        attention_bf16(q, k, v), np.broadcast_to(bits_of(mean), (1, 4, 3, 64))
    )


def test_denormals_count_as_at_most_themselves(random: np.random.Generator) -> None:
    q, k = normal(random, 1, 2, 5, 16), normal(random, 1, 2, 40, 16)
    v = random.integers(0, 0x80, (1, 2, 40, 16)).astype(np.uint16)
    assert np.abs(float32_of(attention_bf16(q, k, v))).max() < 2.0**-126


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bits", [NAN, 0xFFC1, INFINITY, INFINITY | 0x8000])
@pytest.mark.parametrize("slot", [0, 1])
def test_special_scores(slot: int, bits: int, causal: bool, random: np.random.Generator) -> None:
    """A special number in q reaches its query, one in k the queries that see the key."""
    q, k, v = make(random, (1, 2, 50, 70, 33))
    (q, k)[slot][0, 1, 40, 3] = bits
    output, lse = attention_bf16_lse(q, k, v, causal=causal)
    with np.errstate(invalid="ignore"):
        expected = reference.attention_lse(*map(float32_of, (q, k, v)), causal=causal)
    for actual, wanted in ((float32_of(output), expected.attention.value), (lse, expected.lse)):
        wide = actual.astype(np.float64)
        finite = np.isfinite(wanted)
        assert np.all(np.isfinite(wide) == finite)
        np.testing.assert_allclose(wide[finite], wanted[finite], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("bits", [NAN, INFINITY, INFINITY | 0x8000])
def test_special_values_stay_in_their_column(bits: int, random: np.random.Generator) -> None:
    q, k, v = make(random, (2, 2, 30, 70, 33))
    v[1, 0, 69, 32] = bits
    output = float32_of(attention_bf16(q, k, v))
    expected = reference.attention(*map(float32_of, (q, k, v))).value
    np.testing.assert_array_equal(np.isnan(output), np.isnan(expected))
    np.testing.assert_array_equal(output[1, 0, :, 32], expected[1, 0, :, 32].astype(np.float32))
    assert np.all(np.isfinite(np.delete(output, 32, axis=-1)))


def test_rows_without_a_finite_score_give_zero(random: np.random.Generator) -> None:
    q, k, v = make(random, (1, 2, 30, 40, 1))
    k[:, 1] = INFINITY
    q[:, 1] |= 0x8000
    output, lse = attention_bf16_lse(q, k, v)
    assert not output[:, 1].any() and np.all(lse[:, 1] == -np.inf)
    assert output[:, 0].all() and np.all(np.isfinite(lse[:, 0]))


def test_keys_that_no_query_sees_are_not_read(random: np.random.Generator) -> None:
    q, k, v = make(random, (2, 3, 20, 600, 40))
    expected = attention_bf16(q, k, v, causal=True)
    k[:, :, 20:], v[:, :, 20:] = NAN, INFINITY
    np.testing.assert_array_equal(attention_bf16(q, k, v, causal=True), expected)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 500, 700, 64), (2, 5, 130, 300, 33)])
def test_the_same_for_any_number_of_threads(
    shape: Sizes, causal: bool, random: np.random.Generator
) -> None:
    qkv = make(random, shape)
    results = []
    for threads in (1, 2, 3):
        ablation_kernels.set_num_threads(threads)
        results.append(attention_bf16_lse(*qkv, causal=causal))
    for output, lse in results[1:]:
        np.testing.assert_array_equal(output, results[0][0])
        np.testing.assert_array_equal(lse, results[0][1])


@pytest.mark.parametrize("shape", [(2, 3, 13, 17, 33), (1, 1, 1, 1, 1), (1, 2, 25, 40, 64)])
def test_writes_the_output_alone(shape: Sizes, random: np.random.Generator) -> None:
    """Into the middle of a larger array, at an address that no pair is aligned to."""
    qkv = make(random, shape)
    size = qkv[0].size
    buffer = np.full(size + 2 * GUARD, CANARY, np.uint16)
    out = buffer[GUARD : GUARD + size].reshape(qkv[0].shape)
    copies = [x.copy() for x in qkv]
    assert attention_bf16(*qkv, out=out) is out
    assert np.all(buffer[:GUARD] == CANARY) and np.all(buffer[GUARD + size :] == CANARY)
    np.testing.assert_array_equal(out, attention_bf16(*qkv))
    for array, copy in zip(qkv, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_read_only_and_unaligned_inputs_are_taken(random: np.random.Generator) -> None:
    q, k, v = make(random, (1, 2, 13, 40, 33))
    expected = attention_bf16(q, k, v)
    q.flags.writeable = False
    shifted = np.empty(k.size + 1, np.uint16)[1:].reshape(k.shape)
    shifted[...] = k
    np.testing.assert_array_equal(attention_bf16(q, shifted, v), expected)


def test_torch(random: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    qkv = make(random, (1, 2, 13, 40, 33))
    expected = attention_bf16(*qkv)
    q, k, v = (torch.from_numpy(x).view(torch.bfloat16) for x in qkv)
    out = torch.empty_like(q)
    result: Any = attention_bf16(q, k, v, out=out)
    assert result is out
    np.testing.assert_array_equal(out.view(torch.uint16).numpy(), expected)
    with pytest.raises(TypeError, match=r"'q' has dtype float32.*bfloat16"):
        attention_bf16(q.float(), k, v)
    with pytest.raises(ValueError, match=r"'k' is not C-contiguous"):
        attention_bf16(q, k.transpose(1, 2).contiguous().transpose(1, 2), v)


def zeros(*shape: int) -> Bits:
    return np.zeros(shape, np.uint16)


GOOD = zeros(1, 2, 5, 4)
BAD: list[tuple[str, type[Exception], dict[str, Any], str]] = [
    ("q", TypeError, {"q": None}, "NoneType"),
    ("q", TypeError, {"q": GOOD.astype(np.float32)}, "float32"),
    ("k", TypeError, {"k": GOOD.view(np.float16)}, "float16"),
    ("v", TypeError, {"v": GOOD.astype(np.int16)}, "int16"),
    ("q", ValueError, {"q": zeros(2, 5, 4)}, "(2, 5, 4)"),
    ("q", ValueError, {"q": zeros(1, 2, 0, 4)}, "(1, 2, 0, 4)"),
    ("q", ValueError, {"q": zeros(1, 2, 4, 5).swapaxes(2, 3)}, "contiguous"),
    ("k", ValueError, {"k": zeros(1, 3, 5, 4)}, "(1, 3, 5, 4)"),
    ("k", ValueError, {"k": zeros(1, 2, 5, 5)}, "(1, 2, 5, 5)"),
    ("v", ValueError, {"v": zeros(1, 2, 6, 4)}, "(1, 2, 6, 4)"),
    ("out", ValueError, {"out": zeros(1, 2, 5, 5)}, "(1, 2, 5, 5)"),
    ("out", TypeError, {"out": GOOD.astype(np.float32)}, "float32"),
    ("out", ValueError, {"out": GOOD}, "overlaps 'q'"),
    ("causal", TypeError, {"causal": 1}, "int"),
    ("scale", TypeError, {"scale": "1"}, "str"),
    ("scale", TypeError, {"scale": True}, "bool"),
]


@pytest.mark.parametrize(
    "argument,kind,keywords,given", BAD, ids=[f"{a}-{i}" for i, (a, *_) in enumerate(BAD)]
)
def test_bad_calls_name_argument_given_and_accepted(
    argument: str, kind: type[Exception], keywords: dict[str, Any], given: str
) -> None:
    call: dict[str, Any] = {"q": GOOD, "k": GOOD.copy(), "v": GOOD.copy()}
    with pytest.raises(kind) as caught:
        attention_bf16(**{**call, **keywords})
    text = str(caught.value)
    assert f"'{argument}'" in text and given in text and "accepted: " in text, text


def test_a_read_only_out_is_refused() -> None:
    out = zeros(1, 2, 5, 4)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"'out' is read-only.*accepted"):
        attention_bf16(GOOD, GOOD, GOOD, out=out)


def forced(simd: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "ABLATION_SIMD": simd},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parent,
    )


@pytest.mark.skipif("ABLATION_SIMD" in os.environ, reason="the path is forced already")
@pytest.mark.parametrize("name", OTHERS)
def test_suite_on_other_paths(name: str) -> None:
    file = Path(__file__).name
    done = forced(name, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", file)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


@pytest.mark.skipif("ABLATION_SIMD" in os.environ, reason="what is best here is not known then")
@pytest.mark.parametrize("name", [*OTHERS, PATH])
def test_a_forced_path_is_told(name: str) -> None:
    code = (
        "import ablation_kernels as k;"
        " print(k.attention_bf16_instruction_set(), k.build_info()['isa_used'])"
    )
    done = forced(name, "-c", code)
    assert done.returncode == 0, done.stderr
    used = "avx512" if name in NATIVE else name
    path = INFO["isa_packed"] if name == "vdsp" else name
    assert done.stdout.split() == [path, used]


@pytest.mark.parametrize("name", NATIVE)
def test_a_native_path_is_refused_where_it_cannot_run(name: str) -> None:
    if name in INFO["isa_bf16_available"]:
        pytest.skip("it runs here")
    done = forced(name, "-c", "import ablation_kernels")
    assert done.returncode == 1 and name in done.stderr

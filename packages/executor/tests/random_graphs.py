"""Small random graphs full of what the passes look for, with special values anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from ablation_executor.ir import Array, Graph, GraphBuilder, Value

LOWEST = float(np.finfo(np.float32).min)
#: Each in float32; 1e-40 is a denormal.
SPECIAL = np.array(
    [
        np.nan,
        np.inf,
        -np.inf,
        1e30,
        -1e30,
        1e-30,
        -1e-30,
        LOWEST,
        -LOWEST,
        1e-40,
        -1e-40,
        0.0,
        -0.0,
    ],
    np.float32,
)
#: Whole arrays of these sizes: products near the ends of float32.
SIZES = (1e-30, 1e-19, 1e-10, 1e10, 1e15, 1e19, 1e30, 1e34, 1e37)
FILLS = (-np.inf, LOWEST, -1e30, -1e4, np.nan, -1e31, -1e9, np.inf, 0.0, 7.0)
SCALARS = (0.125, 0.5, 2.0, -1.0, 0.3, 1.0, 30.0, 1e6, 1e-6)
EXTREMES = (0.0, 0.0, np.inf, np.nan, 1e30, -1e-30, 1e-40, LOWEST, 1e20, 1e-20)
SWAP = (0, 2, 1, 3)


def sprinkle(random: np.random.Generator, array: Array) -> Array:
    """A copy with special values in some elements, in a row or a column."""
    array = np.array(array, np.float32)
    special = random.choice(SPECIAL)
    shape = random.integers(4)
    if shape == 0 and array.ndim:
        array[..., random.integers(array.shape[-1])] = special
    elif shape == 1 and array.ndim > 1:
        array[..., random.integers(array.shape[-2]), :] = special
    else:
        for _ in range(random.integers(1, 4)):
            array.reshape(-1)[random.integers(array.size)] = random.choice(SPECIAL)
    return array


class RandomGraph:
    """One graph from a seed: `graph`, and `inputs` that fit it."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.builder = GraphBuilder()
        self.batch, self.n_heads = (int(self.random.integers(1, 3)) for _ in range(2))
        self.seq_len = int(self.random.choice([1, 2, 5, 9]))
        self.head_dim = int(self.random.choice([2, 4, 6]))
        self.width = self.n_heads * self.head_dim
        self.names: dict[Value, Array] = {}
        # A few arrays are special: if all were, every result would be NaN.
        self.sprinkled, self.resized = (int(self.random.integers(0, 3)) for _ in range(2))
        x = self.input("x", self.batch, self.seq_len, self.width)
        steps = [
            self.linear, self.linear, self.linear, self.scaled, self.scaled, self.attention,
            self.attention, self.heads, self.heads, self.norm, self.layer_norm, self.rotation,
            self.rotation, self.gate, self.gate_of_one_product, self.activation, self.folded,
            self.last,
        ]  # fmt: skip
        if self.chance(0.3):  # masks have the most to get wrong
            steps = [self.attention]
        outputs = []
        for index in self.random.permutation(len(steps))[: self.random.choice([1, 1, 2, 3])]:
            x = steps[index](x)
            if self.chance(0.1):  # a second reader
                last = self.builder.graph.nodes[-2:]
                outputs.append(last[self.random.integers(len(last))].output)
        self.graph: Graph = self.builder.finish(x, *outputs)
        self.inputs = [self.names[value] for value in self.graph.inputs]

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def array(self, *shape: int) -> Array:
        array = self.random.standard_normal(shape).astype(np.float32)
        if self.resized and self.chance(0.3):
            self.resized -= 1
            array = array * np.float32(self.random.choice(SIZES))
        if self.sprinkled and self.chance(0.3):
            self.sprinkled -= 1
            array = sprinkle(self.random, array)
        return array

    def input(self, name: str, *shape: int) -> Value:
        value = self.builder.input(name, shape)
        self.names[value] = self.array(*shape)
        return value

    def constant(self, name: str, *shape: int) -> Value:
        return self.builder.constant(name, self.array(*shape))

    def either(self, name: str, *shape: int) -> Value:
        """A constant, now and then an input."""
        return self.input(name, *shape) if self.chance(0.15) else self.constant(name, *shape)

    def scalar(self, extremes: float) -> Value:
        number = self.random.choice(EXTREMES if self.chance(extremes) else SCALARS)
        return self.builder.constant("number", np.float32(number))

    def number(self, number: float) -> Value:
        return self.builder.constant("number", number)

    def node(self, op: str, *inputs: Value | None, **attributes: Any) -> Value:
        return self.builder.node(str(op), inputs, attributes)  # NumPy chooses a str of its own

    def commuted(self, op: str, a: Value, b: Value) -> Value:
        return self.node(op, b, a) if self.chance(0.3) else self.node(op, a, b)

    def product(self, x: Value, columns: int, name: str = "weight") -> Value:
        """x times a weight, transposed in one way or another."""
        rows = x.shape[-1]
        if self.chance(0.6):
            weight = self.either(name, columns, rows)
            if self.chance(0.3):
                return self.node("matmul", x, weight, transpose_b=True)
            return self.node("matmul", x, self.node("permute", weight, perm=(1, 0)))
        return self.node("matmul", x, self.either(name, rows, columns))

    def rescaled(self, x: Value, extremes: float = 0.1) -> Value:
        for _ in range(self.random.integers(1, 3)):
            number = self.scalar(extremes)
            x = self.node("div", x, number) if self.chance(0.5) else self.commuted("mul", x, number)
        return x

    def linear(self, x: Value) -> Value:
        out = self.product(x, self.width)
        if self.chance(0.8):
            out = self.commuted("add", out, self.either("bias", self.width))
        if self.chance(0.3):
            out = self.commuted("add", out, self.either("added", *out.shape))
        kind = self.random.integers(4)
        if kind < 2:
            out = self.node("relu", out)
        elif kind == 2:
            approximate = "tanh" if self.chance(0.5) else "none"
            out = self.node("gelu", out, approximate=approximate)
        return self.commuted("add", x, out) if self.chance(0.4) else out

    def scaled(self, x: Value) -> Value:
        operand = self.rescaled(x, 0.3) if self.chance(0.4) else x
        out = self.product(operand, self.width)
        return self.rescaled(out, 0.4) if self.chance(0.8) else out

    def masked(self, scores: Value) -> Value:
        queries, keys = scores.shape[2:]
        later = np.tri(queries, keys) == 0
        for _ in range(self.random.choice([0, 1, 1, 1, 2])):
            kind = self.random.integers(4)
            hidden = later if kind < 2 else self.random.random((queries, keys)) < 0.4
            if self.chance(0.2):
                hidden = hidden[None, None]
            if kind == 3 and self.chance(0.5):
                mask = self.either("mask", *(keys,) if self.chance(0.3) else scores.shape)
                scores = self.commuted("add", scores, mask)
            elif kind == 2 and self.chance(0.3):
                scores = self.padded(scores)
            elif self.chance(0.5):
                fill = self.random.choice(FILLS if self.chance(0.3) else FILLS[:5])
                mask = self.builder.constant("mask", np.where(hidden, fill, 0.0))
                scores = self.commuted("add", scores, mask)
            else:
                fill = self.random.choice(FILLS if self.chance(0.3) else FILLS[:5])
                low, shows = self.builder.constant("fill", fill), self.chance(0.5)
                condition = self.builder.constant("condition", ~hidden if shows else hidden)
                sides = (scores, low) if shows else (low, scores)
                scores = self.node("where", condition, *sides)
        return scores

    def padded(self, scores: Value) -> Value:
        """Keys hidden by a condition that is an input, repeated for queries or not."""
        shape = (scores.shape[0], 1, 1, scores.shape[3])
        condition = self.builder.input("padding", shape)
        self.names[condition] = (self.random.random(shape) < 0.7).astype(np.float32)
        if self.chance(0.5):
            condition = self.repeated(condition, 2, scores.shape[2])
        fill = self.builder.constant("fill", self.random.choice(FILLS[:5]))
        sides = (scores, fill) if self.chance(0.5) else (fill, scores)
        return self.node("where", condition, *sides)

    def attend(self, q: Value, k: Value, v: Value) -> Value:
        """Attention written out over (B, H, S, D)."""
        if self.chance(0.3):
            q = self.rescaled(q)
        if self.chance(0.7):
            scores = self.node("matmul", q, self.node("permute", k, perm=(0, 1, 3, 2)))
        else:
            scores = self.node("matmul", q, k, transpose_b=True)
        scores = self.rescaled(scores) if self.chance(0.5) else scores
        scores = self.capped(scores) if self.chance(0.15) else scores
        return self.node("matmul", self.node("softmax", self.masked(scores)), v)

    def capped(self, scores: Value) -> Value:
        """A soft cap, at times by two numbers that are not each other's."""
        cap = float(self.random.choice([0.5, 2.0, 30.0]))
        scores = self.node("tanh", self.node("div", scores, self.number(cap)))
        return self.commuted("mul", scores, self.number(cap if self.chance(0.7) else 3.0))

    def attention(self, x: Value) -> Value:
        """Attention to keys that are inputs, of any number."""
        keys = int(self.random.choice([1, 3, self.seq_len, 11]))
        shape = (self.batch, self.n_heads, keys, self.head_dim)
        q = self.node("reshape", x, shape=(self.batch, self.n_heads, self.seq_len, self.head_dim))
        if self.n_heads > 1 and self.chance(0.3):  # heads that share keys
            k, v = (self.shared(name, *shape) for name in "kv")
            return self.node("reshape", self.attend(q, k, v), shape=x.shape)
        k, v = (self.input(name, *shape) for name in "kv")
        if self.chance(0.5):  # scores of the size of fills
            self.names[k] = self.names[k] * np.float32(self.random.choice([1e4, 1e30, 1e31]))
        out = self.attend(q, k, v)
        return self.node("reshape", out, shape=x.shape)

    def shared(self, name: str, *shape: int) -> Value:
        """Keys or values (B, H, S, D) of a single head."""
        return self.repeated(self.input(name, shape[0], 1, *shape[2:]), 1, shape[1])

    def repeated(self, x: Value, axis: int, count: int) -> Value:
        """The rows of an axis, each several times."""
        ids = self.builder.constant("ids", np.repeat(np.arange(x.shape[axis]), count))
        return self.node("take", x, ids, axis=axis)

    def heads(self, x: Value) -> Value:
        """Self-attention between linear layers, written out or an op already."""
        parts = self.merged(x) if self.chance(0.5) else self.separate(x)
        if self.chance(0.3):
            causal = self.chance(0.5)
            out = self.node("attention", *parts, None, scale=0.5, causal=causal, strict=True)
        elif parts[1].shape != parts[0].shape:
            q, (k, v) = parts[0], parts[1:]
            out = self.attend(q, *(self.repeated(part, 1, self.n_heads) for part in (k, v)))
        elif self.chance(0.2):
            out = self.flat(*parts)
        else:
            out = self.attend(*parts)
        out = self.node("permute", out, perm=SWAP)
        out = self.node("reshape", out, shape=x.shape)
        if self.chance(0.2):  # a linear layer on rows in another order
            out = self.node("permute", out, perm=(1, 0, 2))
            out = self.node("reshape", out, shape=(self.batch * self.seq_len, self.width))
            out = self.node("add", self.product(out, self.width), self.constant("b", self.width))
            out = self.node("reshape", out, shape=(self.seq_len, self.batch, self.width))
            out = self.commuted("add", self.node("permute", out, perm=(1, 0, 2)), x)
        return out

    def separate(self, x: Value) -> list[Value]:
        """q, k and v (B, H, S, D) of three products, which may differ in bias, factor and heads."""
        parts = []
        is_shared = self.n_heads > 1 and self.chance(0.3)
        same, biased, permuted = self.chance(0.7), self.chance(0.8), self.chance(0.6)
        lacks, scales = (int(self.random.integers(8)) for _ in range(2))
        for index, name in enumerate("qkv"):
            n_heads = 1 if is_shared and name != "q" else self.n_heads
            split = (self.batch, self.seq_len, n_heads, self.head_dim)
            width = n_heads * self.head_dim
            if same:
                shape = (width, self.width) if permuted else (self.width, width)
                weight = self.constant(f"w{name}", *shape)
                weight = self.node("permute", weight, perm=(1, 0)) if permuted else weight
                part = self.node("matmul", x, weight)
            else:
                part = self.product(x, width, f"w{name}")
            if (biased if same else self.chance(0.8)) and index != lacks:
                part = self.node("add", part, self.constant(f"b{name}", width))
            part = self.rescaled(part) if index == scales else part
            part = self.node("reshape", part, shape=split)
            parts.append(self.node("permute", part, perm=SWAP))
        return parts

    def merged(self, x: Value) -> list[Value]:
        """q, k and v (B, H, S, D) of one product, by each order that models have."""
        first = self.chance(0.3)  # (S, B, E)
        rows = (self.seq_len, self.batch) if first else (self.batch, self.seq_len)
        x = self.node("permute", x, perm=(1, 0, 2)) if first else x
        if self.chance(0.2):
            x = self.node("reshape", x, shape=(self.batch * self.seq_len, self.width))
        out = self.product(x, 3 * self.width)
        if self.chance(0.8):
            out = self.commuted("add", out, self.constant("bias", 3 * self.width))
        order = (3, self.n_heads) if self.chance(0.6) else (self.n_heads, 3)
        out = self.node("reshape", out, shape=(*rows, *order, self.head_dim))
        axis = 2 + order.index(3)
        if self.chance(0.4):
            out = self.node("permute", out, perm=(axis, *(a for a in range(5) if a != axis)))
            axis = 0
        parts = []
        for index in range(3):
            part = self.node("slice", out, axis=axis, start=index, stop=index + 1)
            part = self.node("reshape", part, shape=(*rows, self.n_heads, self.head_dim))
            part = self.rescaled(part) if index == 0 and self.chance(0.2) else part
            parts.append(self.node("permute", part, perm=(1, 2, 0, 3) if first else SWAP))
        return parts

    def flat(self, q: Value, k: Value, v: Value) -> Value:
        """Attention written out over (B H, S, D)."""
        shape = q.shape
        q, k, v = (
            self.node("reshape", part, shape=(shape[0] * shape[1], *shape[2:]))
            for part in (q, k, v)
        )
        scores = self.node("matmul", q, self.node("permute", k, perm=(0, 2, 1)))
        scores = self.rescaled(scores) if self.chance(0.5) else scores
        if self.chance(0.5):
            scores = self.node("reshape", scores, shape=(*shape[:3], shape[2]))
            scores = self.node("softmax", self.masked(scores))
            scores = self.node("reshape", scores, shape=(shape[0] * shape[1], *scores.shape[2:]))
        else:
            scores = self.node("softmax", scores)
        return self.node("reshape", self.node("matmul", scores, v), shape=shape)

    def last(self, x: Value) -> Value:
        """The last row alone, repeated for what follows."""
        row = self.node("slice", x, axis=1, start=self.seq_len - 1, stop=self.seq_len)
        return self.repeated(row, 1, self.seq_len)

    def norm(self, x: Value) -> Value:
        """An RMSNorm, written out in one of its spellings."""
        squares = self.node("mul", x, x) if self.chance(0.5) else self.power(x, 2.0)
        scaled = self.normalized(x, self.mean(squares))
        if self.chance(0.2):
            return scaled
        return self.commuted("mul", scaled, self.either("weight", self.width))

    def layer_norm(self, x: Value) -> Value:
        """A LayerNorm, written out."""
        centered = self.node("sub", x, self.mean(x))
        # Where differences are finite and their squares are not, the norm is right and this is not.
        squares = self.builder.node("mul", [centered, centered], name="in_range")
        out = self.normalized(centered, self.mean(squares))
        if self.chance(0.7):
            out = self.commuted("mul", out, self.either("weight", self.width))
        return self.commuted("add", out, self.either("bias", self.width))

    def power(self, x: Value, exponent: float) -> Value:
        return self.node("pow", x, self.builder.constant("exponent", exponent))

    def mean(self, x: Value) -> Value:
        if self.chance(0.5):
            number = self.builder.constant("width", self.width)
            return self.node("div", self.node("sum", x), number)
        column = self.builder.constant("mean", np.full((self.width, 1), 1 / self.width))
        return self.node("matmul", x, column)

    def normalized(self, x: Value, mean: Value) -> Value:
        eps = self.random.choice([1e-5, 0.0, -0.1, 1e-30, np.nan, np.inf, 3.0])
        eps = self.builder.constant("eps", eps if self.chance(0.5) else 1e-5)
        total = self.commuted("add", mean, eps)
        if self.chance(0.5):
            return self.commuted("mul", x, self.node("rsqrt", total))
        return self.node("div", x, self.node("sqrt", total))

    def rotation(self, x: Value) -> Value:
        """A rotary embedding as export writes it, or the op behind a permute."""
        split = (self.batch, self.seq_len, self.n_heads, self.head_dim)
        x4 = self.node("permute", self.node("reshape", x, shape=split), perm=SWAP)
        half = self.head_dim // 2
        cos, sin = (self.either(name, self.seq_len, half) for name in ("cos", "sin"))
        kind = self.random.integers(3)
        if kind == 0:
            out = self.node("rotary", x4, cos, sin)
        elif kind == 1:
            out = self.written_out(x4, cos, sin)
        else:
            out = self.rotate_half(x4)
        return self.node("reshape", self.node("permute", out, perm=SWAP), shape=x.shape)

    def rotate_half(self, x: Value) -> Value:
        """x * cos + cat(-x2, x1) * sin of all of a head or of its first part."""
        turned = int(self.random.choice(range(2, self.head_dim + 1, 2)))
        part = x
        if turned < self.head_dim:
            part = self.node("slice", x, axis=3, start=0, stop=turned)
        first = self.node("slice", part, axis=3, start=0, stop=turned // 2)
        second = self.node("slice", part, axis=3, start=turned // 2, stop=turned)
        minus = self.builder.constant("minus", -1.0)
        across = self.node("concat", self.commuted("mul", second, minus), first, axis=3)
        tables = [self.array(self.seq_len, turned // 2) for _ in range(2)]
        cos, sin = (
            self.builder.constant("table", np.concatenate([table, table], axis=1))
            for table in tables
        )
        products = self.commuted("mul", part, cos), self.commuted("mul", across, sin)
        out = self.commuted("add", *products)
        if turned == self.head_dim:
            return out
        rest = self.node("slice", x, axis=3, start=turned, stop=self.head_dim)
        return self.node("concat", out, rest, axis=3)

    def written_out(self, x: Value, cos: Value, sin: Value) -> Value:
        pairs = self.node("reshape", x, shape=(*x.shape[:3], x.shape[3] // 2, 2))
        parts = []
        for index in range(2):
            piece = self.node("slice", pairs, axis=4, start=index, stop=index + 1)
            parts.append(self.node("reshape", piece, shape=pairs.shape[:4]))
        even, odd = parts
        first = self.node("sub", self.commuted("mul", even, cos), self.commuted("mul", odd, sin))
        second = self.commuted(
            "add", self.commuted("mul", even, sin), self.commuted("mul", odd, cos)
        )
        stacked = [self.node("reshape", part, shape=(*part.shape, 1)) for part in (first, second)]
        condition = self.builder.constant("is_part", np.array([1, 0]))
        return self.node("reshape", self.node("where", condition, *stacked), shape=x.shape)

    def gate(self, x: Value) -> Value:
        other = self.product(x, self.width) if self.chance(0.7) else x
        return self.commuted("mul", self.node("silu", x), other)

    def gate_of_one_product(self, x: Value) -> Value:
        whole = self.product(x, 2 * self.width)
        parts = [
            self.node("slice", whole, axis=2, start=start, stop=start + self.width)
            for start in (0, self.width)
        ]
        op = self.random.choice(["silu", "gelu", "sigmoid"])
        return self.commuted("mul", self.node(op, parts[0]), parts[1])

    def activation(self, x: Value) -> Value:
        """A GELU or a SiLU, written out in one of their spellings."""
        if self.chance(0.5):
            x = self.product(x, self.width)
        kind = self.random.integers(4)
        if kind == 0:
            return self.commuted("mul", x, self.node("sigmoid", x))
        if kind == 1:
            inner = self.commuted("mul", x, self.number(1.702))
            return self.commuted("mul", x, self.node("sigmoid", inner))
        if kind == 2:
            inner = self.node("erf", self.node("div", x, self.number(np.sqrt(2.0))))
        else:
            cube = self.power(x, 3.0)
            if self.chance(0.5):
                cube = self.node("mul", self.node("mul", x, x), x)
            inner = self.commuted("add", x, self.commuted("mul", cube, self.number(0.044715)))
            inner = self.node(
                "tanh", self.commuted("mul", inner, self.number(np.sqrt(2.0 / np.pi)))
            )
        half = self.commuted("mul", x, self.number(0.5))
        return self.commuted("mul", half, self.commuted("add", inner, self.number(1.0)))

    def folded(self, x: Value) -> Value:
        """A chain of constants in front of a sum or a product."""
        chain = self.constant("c", self.width, self.width)
        for op in self.random.choice(["relu", "gelu", "silu", "softmax", "add", "mul"], 2):
            chain = (
                self.node(op, chain, self.constant("d", self.width))
                if op in ("add", "mul")
                else self.node(op, chain)
            )
        if self.chance(0.5):
            return self.node("matmul", x, chain)
        first = self.node("slice", chain, axis=0, start=0, stop=1)
        return self.node("mul", x, self.node("reshape", first, shape=(self.width,)))

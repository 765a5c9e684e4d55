"""Linear layers of queries, keys and values that do not become one product."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir import Value
from ._example import WIDTH, B, Builder, D, Examples, H, S

EXAMPLES = Examples()
#: What a model makes of the columns of q, k or v, by its name.
Change = Callable[[Value, str], Value]


def _x(b: Builder) -> Value:
    return b.input("x", (B, S, WIDTH))


def _attend(b: Builder, change: Change) -> Value:
    """Attention of three linear layers of x, of which `change` gets the products."""
    x = _x(b)
    return b.attention(*(b.split(change(b.linear(x, name), name)) for name in "qkv"))


def _attend_heads(b: Builder, change: Change) -> Value:
    """Attention of three linear layers of x, of which `change` gets the heads."""
    x = _x(b)
    return b.attention(*(change(b.split(b.linear(x, name)), name) for name in "qkv"))


def _turned(b: Builder, x: Value, angles: str = "") -> Value:
    cos, sin = (b.weight(f"{name}{angles}", x.shape[1], D // 2) for name in ("cos", "sin"))
    return b.node("rotary", [x, cos, sin], {"layout": "bshd", "pairs": "halves"})


def _normed(b: Builder, x: Value, eps: float = 1e-6) -> Value:
    return b.node("rms_norm", [x, b.weight("weight", x.shape[-1])], {"eps": eps})


@EXAMPLES.add(
    "merge_qkv",
    "Keys that the model returns",
    "Return results alone; a cache of keys is made outside of the graph.",
)
def _keys_are_returned(b: Builder) -> Sequence[Value]:
    found: dict[str, Value] = {}

    def kept(product: Value, name: str) -> Value:
        return found.setdefault(name, product)

    return _attend(b, kept), found["k"]


@EXAMPLES.add(
    "merge_qkv",
    "Values behind an activation",
    "Apply the activation behind attention, if the weights allow it.",
)
def _activation_of_values(b: Builder) -> Value:
    return _attend(b, lambda x, name: b.do("relu", x) if name == "v" else x)


@EXAMPLES.add(
    "merge_qkv",
    "Queries with a bias that is an input",
    "Make the bias a parameter.",
)
def _bias_is_an_input(b: Builder) -> Value:
    bias = b.input("bias", (WIDTH,))
    return _attend(b, lambda x, name: b.do("add", x, bias) if name == "q" else x)


@EXAMPLES.add(
    "merge_qkv",
    "Queries with a factor above 1",
    "Multiply the weight by the factor once, before the export.",
)
def _large_factor(b: Builder) -> Value:
    return _attend(b, lambda x, name: b.do("mul", x, 4.0) if name == "q" else x)


@EXAMPLES.add(
    "merge_qkv",
    "Cross-attention with keys and values of one linear layer",
    "Use a layer for the keys and one for the values: then nothing is cut.",
)
def _keys_and_values_of_another_input(b: Builder) -> Value:
    y = b.linear(b.input("memory", (B, S, WIDTH)), "kv", 2 * WIDTH)
    k, v = (b.cut(y, 2, start, start + WIDTH) for start in (0, WIDTH))
    return b.attention(*map(b.split, (b.linear(_x(b), "q"), k, v)))


@EXAMPLES.add(
    "merge_qkv",
    "Keys that are the values too",
    "Use a layer for each, if the weights allow it.",
)
def _keys_are_values(b: Builder) -> Value:
    q, k, _ = map(b.split, b.thirds(b.linear(_x(b), "qkv", 3 * WIDTH)))
    return b.attention(q, k, k)


@EXAMPLES.add(
    "merge_qkv",
    "Queries, keys and values that are parts of an input's columns",
    "Make them of a linear layer in the model.",
)
def _columns_of_an_input(b: Builder) -> Value:
    return b.attention(*map(b.split, b.thirds(b.input("x", (B, S, 3 * WIDTH)))))


@EXAMPLES.add(
    "merge_qkv",
    "Queries, keys and values that a reshape takes from one product by rows",
    "Reshape to (B, S, 3, H, D): the three are columns of the product.",
)
def _thirds_by_rows(b: Builder) -> Value:
    parts = b.do("reshape", b.linear(_x(b), "qkv", 3 * WIDTH), shape=(3, S, H, D))
    return b.attention(*(b.cut(parts, 0, i, i + 1) for i in range(3)))


@EXAMPLES.add(
    "merge_qkv",
    "Queries of the last token, keys and values of one linear layer",
    "Use a layer for each of the three.",
)
def _queries_of_the_last_token(b: Builder) -> Value:
    q, k, v = b.thirds(b.linear(_x(b), "qkv", 3 * WIDTH))
    return b.attention(*map(b.split, (b.cut(q, 1, S - 1, S), k, v)))


# Rotations and norms of the heads -----------------------------------------------------------------


@EXAMPLES.add(
    "merge_qkv",
    "Queries that are cut behind their rotation",
    "Cut the hidden states first, and turn the rest by its own angles.",
)
def _cut_behind_the_rotation(b: Builder) -> Value:
    def change(x: Value, name: str) -> Value:
        x = x if name == "v" else _turned(b, x)
        return b.cut(x, 1, 1, S) if name == "q" else x

    return _attend_heads(b, change)


@EXAMPLES.add(
    "merge_qkv",
    "Values with a rotation",
    "Turn queries and keys alone, if the weights allow it.",
)
def _values_are_turned(b: Builder) -> Value:
    return _attend_heads(b, lambda x, name: _turned(b, x))


@EXAMPLES.add(
    "merge_qkv",
    "Keys without the norm or rotation that queries have",
    "Give both a norm or rotation, or none, if the weights allow it.",
)
def _queries_alone_are_normed(b: Builder) -> Value:
    return _attend_heads(b, lambda x, name: _normed(b, x) if name == "q" else x)


@EXAMPLES.add(
    "merge_qkv",
    "Queries and keys with angles of their own",
    "Turn both by one table.",
)
def _other_angles(b: Builder) -> Value:
    return _attend_heads(b, lambda x, name: x if name == "v" else _turned(b, x, f".{name}"))


@EXAMPLES.add(
    "merge_qkv",
    "Queries and keys with norms of another eps",
    "Give both norms one eps.",
)
def _other_eps(b: Builder) -> Value:
    eps = {"q": 1e-6, "k": 1e-5}
    return _attend_heads(b, lambda x, name: _normed(b, x, eps[name]) if name in eps else x)


@EXAMPLES.add(
    "merge_qkv",
    "Keys with a norm whose weight is an input",
    "Make the weight a parameter.",
)
def _weight_of_norm_is_an_input(b: Builder) -> Value:
    def change(x: Value, name: str) -> Value:
        if name != "k":
            return _normed(b, x) if name == "q" else x
        return b.node("rms_norm", [x, b.input("weight", (D,))], {"eps": 1e-6})

    return _attend_heads(b, change)


@EXAMPLES.add(
    "merge_qkv",
    "Norms of all heads together, with fewer heads of keys than of queries",
    "Norm each head alone, if the weights allow it.",
)
def _norms_of_all_heads(b: Builder) -> Value:
    x = _x(b)
    q, k, v = (b.linear(x, name, WIDTH if name == "q" else D) for name in "qkv")
    return b.attention(*map(b.split, (_normed(b, q), _normed(b, k), v)))


@EXAMPLES.add(
    "merge_qkv",
    "Queries with a factor behind their norm",
    "Multiply the weight of the norm by the factor, or give it to attention as `scale`.",
)
def _factor_behind_the_norm(b: Builder) -> Value:
    q, k, v = map(b.split, b.thirds(b.linear(_x(b), "qkv", 3 * WIDTH)))
    return b.attention(b.do("mul", _normed(b, q), 0.5), _normed(b, k), v)

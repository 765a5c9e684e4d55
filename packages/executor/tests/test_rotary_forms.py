"""fuse_rotary on the forms in which models write a rotation, and on what is none.

`run_pass` also checks that the result is valid and computes the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_graphs import ops_of, run_pass

from ablation_executor.ir import Array, Graph, GraphBuilder, Value

BATCH, HEADS, SEQ, HEAD = 2, 3, 5, 8
NO_TABLE = "the cosines are no table of (S, r / 2), and not known to be one twice"
NO_PAIRS = "the elements are not turned in pairs of halves or neighbours, by a cosine and a sine"


def angles(half: int) -> tuple[Array, Array]:
    """Cosines and sines (SEQ, half), other ones in each place."""
    table = np.outer(np.arange(1, SEQ + 1), 0.3 ** np.arange(half))
    return np.cos(table).astype(np.float32), np.sin(table).astype(np.float32)


class Form:
    """A graph in which x, (B, H, S, D) or with `bshd` (B, S, H, D), is turned."""

    def __init__(self, *, bshd: bool = False, head: int = HEAD) -> None:
        self.builder = GraphBuilder()
        shape = (BATCH, SEQ, HEADS, head) if bshd else (BATCH, HEADS, SEQ, head)
        self.bshd = bshd
        self.x = self.builder.input("x", shape)

    def node(self, op: str, *inputs: Value, **attributes: Any) -> Value:
        return self.builder.node(op, inputs, attributes)

    def number(self, number: float) -> Value:
        return self.builder.constant("number", number)

    def table(self, array: Array, *, batch: bool = False) -> Value:
        """A constant that broadcasts over heads, and over the batch or with a row for each."""
        shaped = array[None, :, None] if self.bshd else array[None, None]
        return self.builder.constant("table", np.repeat(shaped, BATCH if batch else 1, axis=0))

    def part(self, x: Value, start: int, stop: int) -> Value:
        return self.node("slice", x, axis=3, start=start, stop=stop)

    def halves(self, x: Value) -> tuple[Value, Value]:
        size = x.shape[-1]
        return self.part(x, 0, size // 2), self.part(x, size // 2, size)

    def negated(self, x: Value) -> Value:
        return self.node("mul", x, self.number(-1.0))

    def sum_of_products(self, x: Value, turned: Value, cos: Value, sin: Value) -> Value:
        return self.node("add", self.node("mul", x, cos), self.node("mul", turned, sin))

    def rotate_half(self, x: Value) -> Value:
        first, second = self.halves(x)
        return self.node("concat", self.negated(second), first, axis=3)

    def llama(self, x: Value, *, batch: bool = False) -> Value:
        """x * cos + rotate_half(x) * sin, each angle in both halves of its table."""
        cos, sin = (np.concatenate([each, each], 1) for each in angles(x.shape[-1] // 2))
        tables = self.table(cos, batch=batch), self.table(sin, batch=batch)
        return self.sum_of_products(x, self.rotate_half(x), *tables)

    def finish(self, out: Value) -> Graph:
        return self.builder.finish(out)


def llama() -> Graph:
    form = Form()
    return form.finish(form.llama(form.x))


def llama_with_batched_positions() -> Graph:
    form = Form()
    return form.finish(form.llama(form.x, batch=True))


def llama_before_the_heads() -> Graph:
    form = Form(bshd=True)
    return form.finish(form.llama(form.x))


def products_the_other_way() -> Graph:
    """sin * rotate_half(x) + cos * x."""
    form = Form()
    cos, sin = (form.table(np.concatenate([each, each], 1)) for each in angles(4))
    straight = form.node("mul", cos, form.x)
    return form.finish(form.node("add", form.node("mul", sin, form.rotate_half(form.x)), straight))


def turned_back() -> Graph:
    """x * cos + cat(x2, -x1) * sin."""
    form = Form()
    first, second = form.halves(form.x)
    turned = form.node("concat", second, form.negated(first), axis=3)
    cos, sin = (form.table(np.concatenate([each, each], 1)) for each in angles(4))
    return form.finish(form.sum_of_products(form.x, turned, cos, sin))


def signed_sine(*, order: tuple[int, ...] | None = None) -> Graph:
    """x * cos + cat(x2, x1) * cat(-sin, sin), or the elements of x in another order."""
    form = Form()
    if order is None:
        turned = form.node("concat", *form.halves(form.x)[::-1], axis=3)
    else:
        ids = form.builder.constant("ids", np.array(order))
        turned = form.node("take", form.x, ids, axis=3)
    cos, sin = angles(4)
    tables = np.concatenate([cos, cos], 1), np.concatenate([-sin, sin], 1)
    return form.finish(form.sum_of_products(form.x, turned, *map(form.table, tables)))


def joined_halves() -> Graph:
    """cat(x1 * cos - x2 * sin, x2 * cos + x1 * sin), tables of half a head."""
    form = Form()
    first, second = form.halves(form.x)
    cos, sin = map(form.table, angles(4))
    low = form.node("sub", form.node("mul", first, cos), form.node("mul", second, sin))
    high = form.node("add", form.node("mul", second, cos), form.node("mul", first, sin))
    return form.finish(form.node("concat", low, high, axis=3))


def partial(turned: int, *, bshd: bool = False) -> Graph:
    """cat(llama(x[..., :turned]), x[..., turned:])."""
    form = Form(bshd=bshd, head=HEAD + 3)
    out = form.llama(form.part(form.x, 0, turned))
    rest = form.part(form.x, turned, HEAD + 3)
    return form.finish(form.node("concat", out, rest, axis=3))


def every_two(*, rest: int = 0) -> Graph:
    """GPT-J: x * cos + flatten(stack(-x[..., 1::2], x[..., ::2])) * sin over (B, S, H, D)."""
    form = Form(bshd=True, head=HEAD + rest)
    x = form.part(form.x, 0, HEAD) if rest else form.x
    even, odd = (
        form.node("take", x, form.builder.constant("ids", np.arange(start, HEAD, 2)), axis=3)
        for start in (0, 1)
    )
    columns = [
        form.node("reshape", each, shape=(*each.shape, 1)) for each in (form.negated(odd), even)
    ]
    turned = form.node("reshape", form.node("concat", *columns, axis=4), shape=x.shape)
    cos, sin = (form.table(np.repeat(each, 2, axis=1)) for each in angles(HEAD // 2))
    out = form.sum_of_products(x, turned, cos, sin)
    if rest:
        out = form.node("concat", out, form.part(form.x, HEAD, HEAD + rest), axis=3)
    return form.finish(out)


def stacked_pairs() -> Graph:
    """ChatGLM: the pairs of a part as an axis of their own, times tables (S, 1, r / 2)."""
    form = Form(bshd=True, head=HEAD + 4)
    part = form.part(form.x, 0, HEAD)
    pairs = form.node("reshape", part, shape=(*part.shape[:3], HEAD // 2, 2))
    first, second = (
        form.node(
            "reshape",
            form.node("slice", pairs, axis=4, start=index, stop=index + 1),
            shape=pairs.shape[:4],
        )
        for index in (0, 1)
    )
    cos, sin = map(form.table, angles(HEAD // 2))
    sums = (
        form.node("sub", form.node("mul", first, cos), form.node("mul", second, sin)),
        form.node("add", form.node("mul", second, cos), form.node("mul", first, sin)),
    )
    columns = [form.node("reshape", each, shape=(*each.shape, 1)) for each in sums]
    flat = form.node("reshape", form.node("concat", *columns, axis=4), shape=part.shape)
    rest = form.part(form.x, HEAD, HEAD + 4)
    return form.finish(form.node("concat", flat, rest, axis=3))


@pytest.mark.parametrize(
    ("make", "attributes"),
    [
        (llama, {"layout": "bhsd", "pairs": "halves"}),
        (llama_with_batched_positions, {"layout": "bhsd", "pairs": "halves"}),
        (llama_before_the_heads, {"layout": "bshd", "pairs": "halves"}),
        (products_the_other_way, {"layout": "bhsd", "pairs": "halves"}),
        (turned_back, {"layout": "bhsd", "pairs": "halves"}),
        (signed_sine, {"layout": "bhsd", "pairs": "halves"}),
        (
            lambda: signed_sine(order=(4, 5, 6, 7, 0, 1, 2, 3)),
            {"layout": "bhsd", "pairs": "halves"},
        ),
        (joined_halves, {"layout": "bhsd", "pairs": "halves"}),
        (lambda: partial(6), {"layout": "bhsd", "pairs": "halves"}),
        (lambda: partial(2, bshd=True), {"layout": "bshd", "pairs": "interleaved"}),
        (every_two, {"layout": "bshd", "pairs": "interleaved"}),
        (lambda: every_two(rest=3), {"layout": "bshd", "pairs": "interleaved"}),
        (stacked_pairs, {"layout": "bshd", "pairs": "interleaved"}),
    ],
)
def test_a_rotation_becomes_one_node_of_x(
    make: Callable[[], Graph], attributes: dict[str, str]
) -> None:
    after, log = run_pass("fuse_rotary", make())
    assert ops_of(after) == ["rotary"] and log.refused("fuse_rotary") == []
    (node,) = after.nodes
    assert node.inputs[0] is after.inputs[0] and node.attributes == attributes
    assert len(after.constants) == 2
    assert all(value.shape[0] == SEQ for value in after.constants)


def of_positions(form: Form, *, other: bool = False, together: bool = False) -> tuple[Value, Value]:
    """Tables (1, 1, S, D) of positions that are an input, as Llama computes them of frequencies."""
    positions = form.builder.input("positions", (1, 1, SEQ))
    frequencies = form.builder.constant("frequencies", 0.3 ** np.arange(HEAD // 2)[None, :, None])
    product = form.node("matmul", frequencies, positions)
    angle = form.node("permute", product, perm=(0, 2, 1))
    second = form.node("mul", angle, form.builder.constant("c", 2.0)) if other else angle
    if together:
        both = form.node("concat", angle, second, axis=1)
        both = form.node("reshape", both, shape=(1, SEQ, HEAD))
    else:
        both = form.node("concat", angle, second, axis=2)
    cos, sin = (form.node(op, both) for op in ("cos", "sin"))
    cos = form.node("mul", cos, form.builder.constant("c", 1.25))
    shape = {"shape": (1, 1, SEQ, HEAD)}
    return form.node("reshape", cos, **shape), form.node("reshape", sin, **shape)


def test_tables_of_positions_that_are_an_input_are_cut_once() -> None:
    form = Form()
    cos, sin = of_positions(form)
    outputs = [
        form.sum_of_products(x, form.rotate_half(x), cos, sin)
        for x in (form.x, form.builder.input("k", form.x.shape))
    ]
    after, log = run_pass("fuse_rotary", form.builder.finish(*outputs))
    assert log.fired("fuse_rotary") == 2 and log.refused("fuse_rotary") == []
    ops = [op for op in ops_of(after) if op != "reshape"]
    assert sorted(ops) == sorted(
        ["matmul", "permute", "concat", "cos", "sin", "mul", *["slice"] * 2, *["rotary"] * 2]
    )
    tables = [value for node in after.nodes if node.op == "rotary" for value in node.inputs[1:]]
    assert {value.shape for value in tables if value is not None} == {(SEQ, HEAD // 2)}


def halves_of_other_angles() -> Graph:
    form = Form()
    return form.finish(
        form.sum_of_products(form.x, form.rotate_half(form.x), *of_positions(form, other=True))
    )


def halves_of_other_rows() -> Graph:
    form = Form()
    return form.finish(
        form.sum_of_products(form.x, form.rotate_half(form.x), *of_positions(form, together=True))
    )


def test_queries_and_keys_read_the_same_tables() -> None:
    form = Form()
    outputs = [form.llama(x) for x in (form.x, form.builder.input("k", form.x.shape))]
    after, log = run_pass("fuse_rotary", form.builder.finish(*outputs))
    assert log.fired("fuse_rotary") == 2 and len(after.constants) == 2


def unequal_halves() -> Graph:
    form = Form()
    cos, sin = (np.concatenate([each, 2 * each], 1) for each in angles(4))
    return form.finish(
        form.sum_of_products(form.x, form.rotate_half(form.x), form.table(cos), form.table(sin))
    )


def tables_that_are_inputs() -> Graph:
    form = Form()
    cos, sin = (form.builder.input(name, (1, 1, SEQ, HEAD)) for name in ("cos", "sin"))
    return form.finish(form.sum_of_products(form.x, form.rotate_half(form.x), cos, sin))


def rest_in_front() -> Graph:
    form = Form()
    out = form.llama(form.part(form.x, 2, HEAD))
    return form.finish(form.node("concat", out, form.part(form.x, 0, 2), axis=3))


def other_tensor() -> Graph:
    form = Form()
    cos, sin = (form.table(np.concatenate([each, each], 1)) for each in angles(4))
    turned = form.rotate_half(form.builder.input("y", form.x.shape))
    return form.finish(form.sum_of_products(form.x, turned, cos, sin))


@pytest.mark.parametrize(
    ("make", "fired", "reasons"),
    [
        (unequal_halves, 0, [NO_TABLE]),
        (tables_that_are_inputs, 0, [NO_TABLE]),
        (halves_of_other_angles, 0, [NO_TABLE]),
        (halves_of_other_rows, 0, [NO_TABLE]),
        (lambda: signed_sine(order=(1, 0, 3, 2, 4, 5, 6, 7)), 0, [NO_PAIRS]),
        (lambda: signed_sine(order=(7, 6, 5, 4, 3, 2, 1, 0)), 0, [NO_PAIRS]),
        (
            rest_in_front,
            1,
            ["what is turned is not the first part of a head, and what is left the rest"],
        ),
        (other_tensor, 0, []),
    ],
)
def test_what_is_no_rotation_stays(
    make: Callable[[], Graph], fired: int, reasons: list[str]
) -> None:
    after, log = run_pass("fuse_rotary", make())
    assert log.fired("fuse_rotary") == fired
    assert sorted({reason for _, reason in log.refused("fuse_rotary")}) == reasons
    assert ("rotary" in ops_of(after)) == bool(fired)

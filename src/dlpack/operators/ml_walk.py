"""The loop over all trees of a forest, whatever their number; the trees are its data (`ml_forest`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, compute, pointwise
from dlpack.loops.tir import tirx
from dlpack.operators.elementwise import call, const
from dlpack.operators.loops import Local, block, load, loop, sequential, store
from dlpack.operators.ml_forest import Forest, key_type

TOGETHER = 8
"""Trees that are walked in step, so that a processor has something to do while it waits for a node's memory."""

START = {"SUM": 0.0, "AVERAGE": 0.0, "MIN": math.inf, "MAX": -math.inf}
"""Aggregate → what it is of no weights."""


@pointwise("OrderKey", domain="dlpack")
def order_key(ctx: Context, x: Any) -> Any:
    """`ml_forest.order_keys`; NaN is the attribute `nan`."""
    integer = ctx.output_type().dtype
    bits = tirx.reinterpret(integer, x)
    largest = const(int(np.iinfo(integer).max), integer)
    shift = const(int(np.iinfo(integer).bits) - 1, integer)
    key = bits ^ ((bits >> shift) & largest)
    key = tirx.Select(tirx.EQ(x, const(0.0, x)), const(0, integer), key)
    return tirx.Select(call("!=", "bool", x, x), const(ctx.attr("nan"), integer), key)


@compute("Forest", domain="dlpack")
def forest(
    ctx: Context, keys: Any, records: Any, roots: Any, depths: Any, starts: Any, targets: Any, weights: Any
) -> list[Any]:
    """The sum, minimum or maximum over all trees of the weights of the leaf that a row of keys comes to.

    keys [rows, features], records [nodes * RECORD], roots [groups * TOGETHER], depths [groups], starts [leaves + 1],
    targets [weights], weights [weights] → [rows, targets]. Where each leaf has a weight for every target in order
    (`dense`), weights are [leaves * targets], and starts and targets are not read.
    """
    t = ctx.output_type()
    rows, count = t.shape
    together = ctx.attr("together")
    groups = ctx.input_type(2).shape[0] // together
    aggregate, dense = ctx.attr("aggregate"), bool(ctx.attr("dense"))
    combine = {"MIN": tirx.min, "MAX": tirx.max}.get(aggregate, lambda a, b: a + b)

    def unrolled(body: Any) -> Any:
        j = tirx.Var("j", "int32")
        return tirx.For(j, 0, together, tirx.ForKind.UNROLLED, body(j))

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        key, record, root, depth, start, target, weight = ins
        (y,) = outs
        node, steps = Local("node", "int32", together), Local("steps", "int32")
        at, end = Local("at", "int32"), Local("end", "int32")

        def place(e: Any) -> Any:
            return e.astype("int32")

        def row(i: Any) -> Any:
            def step(j: Any) -> Any:
                mine = load(key, [i, place(load(record, [node[j]]))])
                other = (mine > load(record, [node[j] + 1])).astype("int32")
                return node.set(place(load(record, [node[j] + 2 + other])), j)

            def leaf(j: Any) -> Any:
                return node.set(place(load(record, [node[j] + 1])) * (count if dense else 1), j)

            def add(where: Any, terms: Sequence[Any]) -> Any:
                value = load(y, [i, where])
                for term in terms:
                    value = combine(value, term)
                return store(y, [i, where], value)

            def scattered(j: Any) -> Any:
                one = block(add(load(target, [at[0]]), [load(weight, [at[0]])]), at.set(at[0] + 1))
                return block(
                    at.set(load(start, [node[j]])),
                    end.set(load(start, [node[j] + 1])),
                    tirx.While(at[0] < end[0], one),
                )

            def group(g: Any) -> Any:
                walk = block(unrolled(step), steps.set(steps[0] - 1))
                if dense:
                    gather = loop("c", count, lambda c: add(c, [load(weight, [node[j] + c]) for j in range(together)]))
                else:
                    gather = unrolled(scattered)
                return block(
                    unrolled(lambda j: node.set(load(root, [g * together + j]), j)),
                    steps.set(load(depth, [g])),
                    tirx.While(steps[0] > 0, walk),
                    unrolled(leaf),
                    gather,
                )

            start_value = tirx.const(START[aggregate], t.dtype)
            clear = loop("c", count, lambda c: store(y, [i, c], start_value))
            return block(clear, loop("g", groups, group))

        declared = [local.declare for local in ((node, steps) if dense else (node, steps, at, end))]
        return block(*declared, loop("i", rows, row))

    return sequential([keys, records, roots, depths, starts, targets, weights], [(t.shape, t.dtype)], body)


def keys_of(b: Builder, x: str, two_keys: bool) -> str:
    """The keys of a table [rows, features]; with `two_keys` [rows, 2 * features], NaN above, then below everything."""
    rows, features = b.type_of(x).shape
    limits = np.iinfo(key_type(b.type_of(x).dtype))
    kind = limits.dtype.name
    high = b.add_internal("OrderKey", [x], (rows, features), dtype=kind, nan=int(limits.max))
    if not two_keys:
        return high
    low = b.add_internal("OrderKey", [x], (rows, features), dtype=kind, nan=int(limits.min))
    return b.add("Concat", [high, low], (rows, 2 * features), axis=1)


def walk(b: Builder, keys: str, made: Forest, targets: int, aggregate: str, dtype: str) -> str:
    roots, depths = made.roots[:-1], made.depths[:-1]
    together = min(TOGETHER, len(roots))
    idle = -len(roots) % together  # the last group is filled up with trees without weights
    roots = np.concatenate([roots, np.full(idle, made.roots[-1])]).astype(np.int32)
    depths = np.append(depths, np.zeros(idle, np.int32)).reshape(-1, together).max(axis=1).astype(np.int32)
    starts, ids, weights = made.starts, made.targets, made.weights
    leaves = len(starts) - 1
    dense = leaves * targets <= 2 * len(weights) + 64 and not _repeats(made, targets)
    if dense:
        full = np.full((leaves, targets), START[aggregate], dtype)
        full[np.repeat(np.arange(leaves), np.diff(starts)), ids] = weights
        weights = full.reshape(-1)
        starts = ids = np.zeros(1, np.int32)
    elif not len(weights):
        ids, weights = np.zeros(1, np.int32), np.zeros(1, dtype)
    arrays = (made.records, roots, depths, starts, ids, weights)
    inputs = [keys, *(b.constant(a, "forest") for a in arrays)]
    shape = (b.type_of(keys).shape[0], targets)
    return b.add_internal(
        "Forest", inputs, shape, dtype=dtype, together=together, aggregate=aggregate, dense=int(dense)
    )  # fmt: skip


def _repeats(made: Forest, targets: int) -> bool:
    """Whether a leaf has several weights for one target."""
    places = np.repeat(np.arange(len(made.starts) - 1), np.diff(made.starts)) * targets + made.targets
    return np.unique(places).size < places.size

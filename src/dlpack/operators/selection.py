"""Selections of as many elements as the data says: of our own, since each gives its count too (`model/sized.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlpack.graph.registry import Context, compute
from dlpack.loops.tir import tirx
from dlpack.operators.loops import Local, block, load, loop, nest, sequential, store, when

_DOMAIN = "dlpack"


def _zero(y: Any, shape: Sequence[int], name: str = "z") -> Any:
    return nest(shape, lambda i: store(y, i, tirx.const(0, y.dtype)), name)


def _wide(n: Any) -> Any:
    return n.astype("int64")


def _narrow(n: Any) -> Any:
    return n.astype("int32")


@compute("Kept", domain=_DOMAIN)
def kept(ctx: Context, holds: Any) -> list[Any]:
    """The first places that hold, in order, zeros behind them, and how many hold: int64[most], int64[1]."""
    (n,), (most,) = ctx.input_type(0).shape, ctx.output_type(0).shape

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        (source,), (places, count) = ins, outs
        found = Local("found", "int32")

        def one(i: Any) -> Any:
            take = block(when(found[0] < most, store(places, [found[0]], _wide(i))), found.set(found[0] + 1))
            return when(load(source, [i]), take)

        last = store(count, [0], _wide(found[0]))
        return block(_zero(places, [most]), found.declare, found.set(tirx.const(0, "int32")), loop("i", n, one), last)

    return sequential([holds], [((most,), "int64"), ((1,), "int64")], body)


@compute("Unique", domain=_DOMAIN)
def unique(ctx: Context, rows: Any, size: Any) -> list[Any]:
    """Of the first `size` rows the different ones, in ascending order or in that of their first occurrence.

    Gives the first place of each, its number for each row, how often each is there, and how many they are: one more
    than there is room for where there is too little.
    """
    (n, width), (most,) = ctx.input_type(0).shape, ctx.output_type(0).shape
    ordered = bool(ctx.attr("sorted", 1))

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        (x, size_), (firsts, inverse, times, count) = ins, outs
        names = ("found", "at", "k", "go", "low", "high", "over")
        found, at, k, go, low, high, over = (Local(name, "int32") for name in names)
        zero, one_ = tirx.const(0, "int32"), tirx.const(1, "int32")
        if n == 1:  # nothing to compare with
            first = tirx.const(0, "int64")
            stores = [store(y, [0], first) for y in (firsts, inverse)]
            return block(*stores, *(store(y, [0], load(size_, [0])) for y in (times, count)))

        def differ(a: Any, b: Any) -> Any:
            """Sets k to the first column in which two rows differ, or to the width."""
            same = tirx.EQ(load(x, [a, tirx.min(k[0], width - 1)]), load(x, [b, tirx.min(k[0], width - 1)]))
            return block(k.set(zero), tirx.While(tirx.And(k[0] < width, same), k.set(k[0] + 1)))

        def less(a: Any, b: Any) -> Any:
            column = tirx.min(k[0], max(0, width - 1))
            return tirx.And(k[0] < width, load(x, [a, column]) < load(x, [b, column]))

        def search(i: Any) -> Any:
            """Sets `at` to the place of row i among those found, `go` to whether it is there."""
            if ordered:
                middle = tirx.floordiv(low[0] + high[0], 2)
                there = _narrow(load(firsts, [middle]))
                step = block(
                    at.set(middle),
                    differ(there, i),
                    when(
                        tirx.EQ(k[0], width),
                        block(go.set(one_), low.set(at[0]), high.set(at[0])),
                        when(less(_narrow(load(firsts, [at[0]])), i), low.set(at[0] + 1), high.set(at[0])),
                    ),
                )
                return block(
                    low.set(zero), high.set(found[0]), go.set(zero), tirx.While(low[0] < high[0], step), at.set(low[0])
                )
            step = block(
                differ(_narrow(load(firsts, [at[0]])), i),
                when(tirx.EQ(k[0], width), go.set(one_), at.set(at[0] + 1)),
            )
            return block(
                at.set(zero),
                go.set(zero),
                tirx.While(tirx.And(at[0] < found[0], tirx.EQ(go[0], 0)), step),
            )

        def enter(i: Any) -> Any:
            shift = block(
                store(firsts, [low[0]], load(firsts, [low[0] - 1])),
                store(times, [low[0]], load(times, [low[0] - 1])),
                low.set(low[0] - 1),
            )
            return block(
                when(found[0] >= most, over.set(one_)),
                low.set(tirx.min(found[0], most - 1)),
                tirx.While(low[0] > at[0], shift),
                when(
                    at[0] < most,
                    block(
                        store(firsts, [at[0]], _wide(i)),
                        store(times, [at[0]], tirx.const(0, "int64")),
                        found.set(tirx.min(found[0] + 1, most)),
                    ),
                ),
            )

        def first_pass(i: Any) -> Any:
            return when(_wide(i) < load(size_, [0]), block(search(i), when(tirx.EQ(go[0], 0), enter(i))))

        def second_pass(i: Any) -> Any:
            seen = block(
                store(inverse, [i], _wide(at[0])),
                store(times, [at[0]], load(times, [at[0]]) + tirx.const(1, "int64")),
            )
            return when(_wide(i) < load(size_, [0]), block(search(i), when(at[0] < found[0], seen)))

        return block(
            *(local.declare for local in (found, at, k, go, low, high, over)),
            _zero(firsts, [most], "a"),
            _zero(inverse, [n], "b"),
            _zero(times, [most], "c"),
            found.set(zero),
            over.set(zero),
            loop("i", n, first_pass),
            loop("j", n, second_pass),
            store(count, [0], _wide(found[0] + over[0])),
        )

    kinds = [((most,), "int64"), ((n,), "int64"), ((most,), "int64"), ((1,), "int64")]
    return sequential([rows, size], kinds, body)


@compute("NonMaxSuppression", domain=_DOMAIN)
def non_max_suppression(
    ctx: Context, boxes: Any, scores: Any, each: Any, iou: Any, lowest: Any, size: Any
) -> list[Any]:
    """Of each batch and class the best boxes, best first, without those that one before them covers by more than `iou`.

    Inputs: boxes [batches, n, 4], scores [batches, classes, n], the most boxes of a class, the share that is too much,
    the score that must be exceeded (but for the attribute `all`), how many of the n boxes there are. Outputs: rows
    (batch, class, box), how many they are (one more where there is no room for all), and room for the boxes that are
    left. Of equal scores the first is better.
    """
    batches, n, _ = ctx.input_type(0).shape
    classes = ctx.input_type(1).shape[1]
    most = ctx.output_type(0).shape[0]
    every, center = bool(ctx.attr("all", 0)), bool(ctx.attr("center", 0))
    zero = tirx.const(0, "int32")

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        box, score, each_, iou_, lowest_, size_ = ins
        rows, count, alive = outs
        names = ("total", "left", "picked", "best", "chosen", "j", "kept", "go", "over")
        ints = {name: Local(name, "int32") for name in names}
        total, left, picked, best, chosen, j, kept_, go, over = ints.values()
        sides = Local("sides", "float32", 8)
        shares = Local("shares", "float32", 4)

        def load_box(b: Any, k: Any, to: int) -> Any:
            """The corners of box k of batch b (low, low, high, high) into `sides` from `to` on."""
            c = [load(box, [b, k, tirx.const(d, "int32")]) for d in range(4)]
            if center:
                half = tirx.const(0.5, "float32")
                corners = [c[0] - c[2] * half, c[1] - c[3] * half, c[0] + c[2] * half, c[1] + c[3] * half]
            else:
                corners = [tirx.min(c[0], c[2]), tirx.min(c[1], c[3]), tirx.max(c[0], c[2]), tirx.max(c[1], c[3])]
            return block(*(sides.set(v, to + d) for d, v in enumerate(corners)))

        def shared() -> Any:
            """The areas of both boxes, and of what they share, into `shares`."""
            width = tirx.min(sides[2], sides[6]) - tirx.max(sides[0], sides[4])
            height = tirx.min(sides[3], sides[7]) - tirx.max(sides[1], sides[5])
            none = tirx.const(0.0, "float32")
            return block(
                shares.set((sides[2] - sides[0]) * (sides[3] - sides[1]), 0),
                shares.set((sides[6] - sides[4]) * (sides[7] - sides[5]), 1),
                shares.set(tirx.max(width, none) * tirx.max(height, none), 2),
            )

        def covered() -> Any:
            none = tirx.const(0.0, "float32")
            part = shares[2] / (shares[0] + shares[1] - shares[2])
            real = tirx.And(tirx.And(shares[0] > none, shares[1] > none), shares[2] > none)
            return tirx.And(real, part > load(iou_, [0]))

        def one_class(b: Any, c: Any) -> Any:
            def value(slot: Any) -> Any:
                return load(score, [b, c, load(alive, [slot])])

            def collect(i: Any) -> Any:
                good = _wide(i) < load(size_, [0])
                if not every:
                    good = tirx.And(good, load(score, [b, c, i]) > load(lowest_, [0]))
                return when(good, block(store(alive, [left[0]], i), left.set(left[0] + 1)))

            find = block(
                best.set(zero),
                j.set(tirx.const(1, "int32")),
                tirx.While(j[0] < left[0], block(when(value(j[0]) > value(best[0]), best.set(j[0])), j.set(j[0] + 1))),
                chosen.set(load(alive, [best[0]])),
            )
            write = block(
                store(rows, [total[0], tirx.const(0, "int32")], _wide(b)),
                store(rows, [total[0], tirx.const(1, "int32")], _wide(c)),
                store(rows, [total[0], tirx.const(2, "int32")], _wide(chosen[0])),
                total.set(total[0] + 1),
                picked.set(picked[0] + 1),
                load_box(b, chosen[0], 0),
            )
            keep = block(store(alive, [kept_[0]], load(alive, [j[0]])), kept_.set(kept_[0] + 1))
            drop = block(
                kept_.set(zero),
                j.set(zero),
                tirx.While(
                    j[0] < left[0],
                    block(
                        load_box(b, load(alive, [j[0]]), 4),
                        shared(),
                        go.set(tirx.Select(tirx.Or(covered(), tirx.EQ(j[0], best[0])), zero, zero + 1)),
                        when(go[0] > 0, keep),
                        j.set(j[0] + 1),
                    ),
                ),
                left.set(kept_[0]),
            )
            wanted = tirx.And(left[0] > 0, _wide(picked[0]) < load(each_, [0]))
            more = tirx.While(tirx.And(wanted, total[0] < most), block(find, write, drop))
            excess = when(wanted, over.set(tirx.const(1, "int32")))
            return block(left.set(zero), picked.set(zero), loop("i", n, collect), more, excess)

        return block(
            *(local.declare for local in (*ints.values(), sides, shares)),
            _zero(rows, [most, 3]),
            total.set(zero),
            over.set(zero),
            loop("b", batches, lambda b: loop("c", classes, lambda c: one_class(b, c))),
            store(count, [0], _wide(total[0] + over[0])),
        )

    kinds = [((most, 3), "int64"), ((1,), "int64"), ((n,), "int32")]
    return sequential([boxes, scores, each, iou, lowest, size], kinds, body)

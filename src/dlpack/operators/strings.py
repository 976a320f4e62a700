"""Operators on text: rows of bytes, UTF-8, filled up with zeros, which `model/strings.py` makes of strings.

A value of strings of the shape S is uint8 of the shape (*S, n): each string has fewer than n bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlpack.graph.registry import Context, compute
from dlpack.loops.tir import tirx
from dlpack.operators.loops import Local, block, load, loop, nest, sequential, store, when

_DOMAIN = "dlpack"

_SPACES = (9, 10, 11, 12, 13, 32)


def _int(value: int, dtype: str = "int32") -> Any:
    return tirx.const(value, dtype)


def _locals(**kinds: str) -> tuple[Any, dict[str, Local]]:
    """What declares them, and the variables."""
    made = {name: Local(name, dtype) for name, dtype in kinds.items()}
    return block(*(local.declare for local in made.values())), made


def _byte(x: Any, index: Sequence[Any], at: Any, width: int) -> Any:
    """Byte `at` of a string, of which the last is read where `at` lies behind it."""
    return load(x, [*index, tirx.min(at, _int(width - 1))])


def _clear(y: Any, index: Sequence[Any], width: int, start: Any) -> Any:
    """Zeros from `start` on."""
    return loop("z", width, lambda k: when(k >= start, store(y, [*index, k], _int(0, "uint8"))))


def _broadcast(index: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """Where an element of a value of this shape lies that goes with the output's at `index`."""
    own = index[len(index) - len(shape) :]
    return [_int(0) if n == 1 else i for i, n in zip(own, shape, strict=True)]


@compute("FindText", domain=_DOMAIN)
def find_text(ctx: Context, x: Any, table: Any, numbers: Any) -> list[Any]:
    """The number of each string in a table [K, m] of sorted strings, or the last of the K + 1 numbers: int64."""
    *shape, width = ctx.input_type(0).shape
    count, room = ctx.input_type(1).shape
    most = min(width, room)

    def body(ins: Any, outs: Any) -> Any:
        (source, words, given), (y,) = ins, outs
        declared, v = _locals(low="int32", high="int32", k="int32", place="int32")
        low, high, k, place = v.values()

        def one(i: list[Any]) -> Any:
            middle = tirx.floordiv(low[0] + high[0], 2)

            def mine() -> Any:
                return tirx.Select(k[0] < width, _byte(source, i, k[0], width), _int(0, "uint8"))

            def theirs() -> Any:
                return tirx.Select(k[0] < room, _byte(words, [middle], k[0], room), _int(0, "uint8"))

            same = tirx.And(tirx.EQ(mine(), theirs()), tirx.Not(tirx.EQ(mine(), _int(0, "uint8"))))
            step = block(
                k.set(_int(0)),
                tirx.While(tirx.And(k[0] < most, same), k.set(k[0] + 1)),
                when(
                    tirx.EQ(mine(), theirs()),
                    block(place.set(middle), low.set(high[0])),
                    when(theirs() < mine(), low.set(middle + 1), high.set(middle)),
                ),
            )
            return block(
                low.set(_int(0)),
                high.set(_int(count)),
                place.set(_int(count)),
                tirx.While(low[0] < high[0], step),
                store(y, i, load(given, [place[0]])),
            )

        return block(declared, nest(shape, one))

    return sequential([x, table, numbers], [(shape, "int64")], body)


@compute("SameText", domain=_DOMAIN)
def same_text(ctx: Context, a: Any, b: Any) -> list[Any]:
    """Whether two strings are equal; shapes broadcast."""
    (*left, m), (*right, n), shape = ctx.input_type(0).shape, ctx.input_type(1).shape, ctx.output_type().shape

    def body(ins: Any, outs: Any) -> Any:
        (x, z), (y,) = ins, outs
        declared, v = _locals(k="int32", same="bool")
        k, same = v.values()
        zero = _int(0, "uint8")

        def one(i: list[Any]) -> Any:
            mine = tirx.Select(k[0] < m, _byte(x, _broadcast(i, left), k[0], m), zero)
            theirs = tirx.Select(k[0] < n, _byte(z, _broadcast(i, right), k[0], n), zero)
            step = block(same.set(tirx.EQ(mine, theirs)), k.set(k[0] + 1))
            more = tirx.And(k[0] < max(m, n), same[0])
            return block(k.set(_int(0)), same.set(_int(1, "bool")), tirx.While(more, step), store(y, i, same[0]))

        return block(declared, nest(shape, one))

    return sequential([a, b], [(shape, "bool")], body)


@compute("FitText", domain=_DOMAIN)
def fit_text(ctx: Context, x: Any) -> list[Any]:
    """The strings in rows of another size, which holds them."""
    (*shape, width), (*_, made) = ctx.input_type(0).shape, ctx.output_type().shape

    def body(ins: Any, outs: Any) -> Any:
        (source,), (y,) = ins, outs
        return nest(shape, lambda i: loop("k", made, lambda k: store(
            y, [*i, k], tirx.Select(k < width, _byte(source, i, k, width), _int(0, "uint8")))))  # fmt: skip

    return sequential([x], [((*shape, made), "uint8")], body)


@compute("JoinText", domain=_DOMAIN)
def join_text(ctx: Context, a: Any, b: Any) -> list[Any]:
    """One string behind the other; shapes broadcast."""
    (*left, m), (*right, n), (*shape, made) = ctx.input_type(0).shape, ctx.input_type(1).shape, ctx.output_type().shape

    def body(ins: Any, outs: Any) -> Any:
        (x, z), (y,) = ins, outs
        declared, v = _locals(at="int32")
        at = v["at"]

        def append(source: Any, index: Sequence[Any], width: int) -> Any:
            def one(k: Any) -> Any:
                byte = load(source, [*index, k])
                room = tirx.And(tirx.Not(tirx.EQ(byte, _int(0, "uint8"))), at[0] < made - 1)
                return when(room, block(store(y, [*last, at[0]], byte), at.set(at[0] + 1)))

            return loop("k", width, one)

        last: list[Any] = []

        def row(i: list[Any]) -> Any:
            last[:] = i
            return block(
                at.set(_int(0)),
                append(x, _broadcast(i, left), m),
                append(z, _broadcast(i, right), n),
                _clear(y, i, made, at[0]),
            )

        return block(declared, nest(shape, row))

    return sequential([a, b], [((*shape, made), "uint8")], body)


@compute("ChangeCase", domain=_DOMAIN)
def change_case(ctx: Context, x: Any, froms: Any, tos: Any) -> list[Any]:
    """The strings with other characters, of which `froms` [K] has the sorted code points, `tos` [K] those they become.

    Bytes that are no UTF-8 stay.
    """
    (*shape, width), (*_, made) = ctx.input_type(0).shape, ctx.output_type().shape
    count = ctx.input_type(1).shape[0]

    def body(ins: Any, outs: Any) -> Any:
        (source, old, new), (y,) = ins, outs
        names = ("k", "at", "length", "code", "low", "high")
        declared, v = _locals(**dict.fromkeys(names, "int32"))
        k, at, length, code, low, high = v.values()

        def byte(i: Sequence[Any], ahead: int = 0) -> Any:
            return _byte(source, i, k[0] + ahead, width).astype("int32")

        def put(i: Sequence[Any], value: Any) -> Any:
            return when(at[0] < made - 1, block(store(y, [*i, at[0]], value.astype("uint8")), at.set(at[0] + 1)))

        def decode(i: Sequence[Any]) -> Any:
            """Sets `code` and the `length` in bytes."""
            first = byte(i)
            two = ((first & 31) << 6) | (byte(i, 1) & 63)
            three = ((first & 15) << 12) | ((byte(i, 1) & 63) << 6) | (byte(i, 2) & 63)
            four = ((first & 7) << 18) | ((byte(i, 1) & 63) << 12) | ((byte(i, 2) & 63) << 6) | (byte(i, 3) & 63)
            sizes = [
                (tirx.And(first >= 0xC2, first < 0xE0), two, 2),
                (tirx.And(first >= 0xE0, first < 0xF0), three, 3),
                (tirx.And(first >= 0xF0, first < 0xF5), four, 4),
            ]
            out = block(code.set(first), length.set(_int(1)))
            for condition, value, size in sizes:
                out = block(out, when(tirx.And(condition, k[0] + size <= width), block(
                    code.set(value), length.set(_int(size)))))  # fmt: skip
            return out

        def search() -> Any:
            middle = tirx.floordiv(low[0] + high[0], 2)
            step = when(load(old, [middle]) < code[0], low.set(middle + 1), high.set(middle))
            place = tirx.min(low[0], _int(count - 1))
            found = tirx.And(tirx.EQ(load(old, [place]), code[0]), tirx.Or(code[0] < 128, length[0] > 1))
            return block(
                low.set(_int(0)),
                high.set(_int(count)),
                tirx.While(low[0] < high[0], step),
                when(found, code.set(load(new, [place])), code.set(_int(-1))),
            )

        def encode(i: Sequence[Any]) -> Any:
            c = code[0]
            tail = put(i, (c & 63) | 128)
            two = block(put(i, (c >> 6) | 0xC0), tail)
            three = block(put(i, (c >> 12) | 0xE0), put(i, ((c >> 6) & 63) | 128), tail)
            four = block(put(i, (c >> 18) | 0xF0), put(i, ((c >> 12) & 63) | 128), put(i, ((c >> 6) & 63) | 128), tail)
            written = when(c < 0x80, put(i, c), when(c < 0x800, two, when(c < 0x10000, three, four)))
            copied = loop("c", 4, lambda n: when(n < length[0], put(i, _byte(source, i, k[0] + n, width))))
            return when(c >= 0, written, copied)

        def row(i: list[Any]) -> Any:
            more = tirx.And(k[0] < width, tirx.Not(tirx.EQ(byte(i), 0)))
            step = block(decode(i), search(), encode(i), k.set(k[0] + length[0]))
            return block(
                k.set(_int(0)), at.set(_int(0)), tirx.While(more, step), _clear(y, i, made, at[0])
            )  # fmt: skip

        return block(declared, nest(shape, row))

    return sequential([x, froms, tos], [((*shape, made), "uint8")], body)


def _pieces(
    ctx: Context,
    inputs: Sequence[Any],
    writes: Callable[[Any, dict[str, Local], Callable[[Any], Any], Any, Sequence[Any]], Any],
) -> list[Any]:
    """Parts of strings [..., n]: uint8 [..., parts, m], cut at m - 1 bytes, and how many there are, int64 [...].

    ``writes(inputs, variables, put, end, index)`` goes through the string at `index`: ``put(byte)`` adds a byte to the
    part, `end` ends it. The variables are k, at, part and two for its own use, a and b, all 0 at first.
    """
    *shape, _ = ctx.input_type(0).shape
    *_, parts, made = ctx.output_type(0).shape

    def body(ins: Any, outs: Any) -> Any:
        y, count = outs
        declared, v = _locals(**dict.fromkeys(("k", "at", "part", "a", "b"), "int32"))
        at, part = v["at"], v["part"]

        def row(i: list[Any]) -> Any:
            def put(byte: Any) -> Any:
                room = tirx.And(at[0] < made - 1, part[0] < parts)
                return block(when(room, store(y, [*i, part[0], at[0]], byte)), at.set(at[0] + 1))

            end = block(at.set(_int(0)), part.set(part[0] + 1))
            empty = loop("p", parts, lambda p: loop("q", made, lambda q: store(y, [*i, p, q], _int(0, "uint8"))))
            return block(
                empty,
                *(local.set(_int(0)) for local in v.values()),
                writes(ins, v, put, end, i),
                store(count, i, tirx.min(part[0], _int(parts)).astype("int64")),
            )

        return block(declared, nest(shape, row))

    return sequential(inputs, [((*shape, parts, made), "uint8"), (shape, "int64")], body)


@compute("SplitText", domain=_DOMAIN)
def split_text(ctx: Context, x: Any) -> list[Any]:
    """The parts between the attribute `delimiter`, bytes; without one, between spaces, and then no part is empty.

    An empty string has no parts.

    At most `cuts` are made.
    """
    width = ctx.input_type(0).shape[-1]
    delimiter, most = bytes(ctx.attr("delimiter", ())), ctx.attr("cuts")

    def spaced(ins: Any, v: dict[str, Local], put: Any, end: Any, i: Sequence[Any]) -> Any:
        k, at, part = v["k"], v["at"], v["part"]
        byte = _byte(ins[0], i, k[0], width)
        space = tirx.Or(*_any_of(byte, _SPACES))
        last = part[0] >= most
        # the last part takes all that is left, but for spaces at its end
        a, b = v["a"], v["b"]
        ahead = _byte(ins[0], i, b[0], width)
        rest = block(
            a.set(_int(0)),
            b.set(k[0]),
            tirx.While(
                tirx.And(tirx.And(b[0] < width, tirx.EQ(a[0], 0)), tirx.Not(tirx.EQ(ahead, _int(0, "uint8")))),
                block(when(tirx.Not(tirx.Or(*_any_of(ahead, _SPACES))), a.set(_int(1))), b.set(b[0] + 1)),
            ),
        )
        kept = tirx.And(tirx.And(last, at[0] > 0), tirx.EQ(a[0], 1))
        inner = block(rest, when(kept, put(byte), when(at[0] > 0, end)))
        step = block(when(space, inner, put(byte)), k.set(k[0] + 1))
        more = tirx.And(k[0] < width, tirx.Not(tirx.EQ(byte, _int(0, "uint8"))))
        return block(tirx.While(more, step), when(at[0] > 0, end))

    def delimited(ins: Any, v: dict[str, Local], put: Any, end: Any, i: Sequence[Any]) -> Any:
        k, part = v["k"], v["part"]
        byte = _byte(ins[0], i, k[0], width)
        here = part[0] < most
        for n, want in enumerate(delimiter):
            here = tirx.And(here, tirx.EQ(_byte(ins[0], i, k[0] + n, width), _int(want, "uint8")))
        step = when(here, block(end, k.set(k[0] + len(delimiter))), block(put(byte), k.set(k[0] + 1)))
        more = tirx.And(k[0] < width, tirx.Not(tirx.EQ(byte, _int(0, "uint8"))))
        return block(tirx.While(more, step), when(k[0] > 0, end))

    return _pieces(ctx, [x], delimited if delimiter else spaced)


def _any_of(byte: Any, values: Sequence[int]) -> tuple[Any, Any]:
    """Two conditions of which one holds where the byte is one of the values."""
    first, *rest = (tirx.EQ(byte, _int(v, "uint8")) for v in values)
    other = rest[0]
    for condition in rest[1:]:
        other = tirx.Or(other, condition)
    return first, other


@compute("TokensOfText", domain=_DOMAIN)
def tokens_of_text(ctx: Context, x: Any, wanted: Any) -> list[Any]:
    """The runs of characters that `wanted` bool [129] takes (by code, the last for all above 127).

    A run of fewer than `shortest` characters is left out, after `longest` the next one begins (0: never).
    """
    width = ctx.input_type(0).shape[-1]
    shortest, longest = ctx.attr("shortest", 1), ctx.attr("longest", 0)

    def runs(ins: Any, v: dict[str, Local], put: Any, end: Any, i: Sequence[Any]) -> Any:
        source, takes = ins
        k, at, taken = v["k"], v["at"], v["a"]
        byte = _byte(source, i, k[0], width)
        good = load(takes, [tirx.min(byte.astype("int32"), _int(128))])
        first = tirx.Not(tirx.EQ(byte & _int(0xC0, "uint8"), _int(0x80, "uint8")))  # of a character
        restart = block(taken.set(_int(0)), at.set(_int(0)))
        finish = when(taken[0] >= shortest, block(end, restart), restart)
        full = tirx.And(tirx.And(_int(int(longest > 0), "bool"), first), taken[0] >= max(1, longest))
        use = block(
            when(full, finish),
            when(tirx.And(good, first), taken.set(taken[0] + 1)),
            when(good, put(byte), finish),
            k.set(k[0] + 1),
        )
        more = tirx.And(k[0] < width, tirx.Not(tirx.EQ(byte, _int(0, "uint8"))))
        return block(tirx.While(more, use), finish)

    return _pieces(ctx, [x, wanted], runs)


@compute("MatchText", domain=_DOMAIN)
def match_text(ctx: Context, x: Any, kinds: Any, steps: Any, good: Any) -> list[Any]:
    """Whether an automaton accepts the whole string. It begins in state 0; byte b in state s leads to
    ``steps[s, kinds[b]]``; it accepts where `good` [states] holds at the end."""
    *shape, width = ctx.input_type(0).shape

    def body(ins: Any, outs: Any) -> Any:
        (source, classes, moves, accepts), (y,) = ins, outs
        declared, v = _locals(k="int32", state="int32")
        k, state = v.values()

        def one(i: list[Any]) -> Any:
            byte = _byte(source, i, k[0], width)
            to = load(moves, [state[0], load(classes, [byte.astype("int32")]).astype("int32")])
            more = tirx.And(k[0] < width, tirx.Not(tirx.EQ(byte, _int(0, "uint8"))))
            return block(
                k.set(_int(0)),
                state.set(_int(0)),
                tirx.While(more, block(state.set(to), k.set(k[0] + 1))),
                store(y, i, load(accepts, [state[0]])),
            )

        return block(declared, nest(shape, one))

    return sequential([x, kinds, steps, good], [(shape, "bool")], body)


@compute("TextOfInteger", domain=_DOMAIN)
def text_of_integer(ctx: Context, x: Any) -> list[Any]:
    """Decimal digits of integers, and `True` and `False` as 1 and 0: as C prints them."""
    t = ctx.input_type(0)
    *shape, made = ctx.output_type().shape
    unsigned = t.dtype.startswith("u") or t.dtype == "bool"

    def body(ins: Any, outs: Any) -> Any:
        (source,), (y,) = ins, outs
        v = {"left": Local("left", "uint64"), "digits": Local("digits", "int32"), "at": Local("at", "int32")}
        left, digits, at = v.values()

        def one(i: list[Any]) -> Any:
            value = load(source, i)
            negative = _int(0, "bool") if unsigned else value < tirx.const(0, t.dtype)
            wide = value.astype("uint64")
            size = tirx.Select(negative, tirx.const(0, "uint64") - wide, wide) if not unsigned else wide
            ten = tirx.const(10, "uint64")
            count = block(digits.set(digits[0] + 1), left.set(tirx.truncdiv(left[0], ten)))
            digit = (tirx.truncmod(left[0], ten) + tirx.const(48, "uint64")).astype("uint8")
            write = block(
                at.set(at[0] - 1), store(y, [*i, at[0]], digit), left.set(tirx.truncdiv(left[0], ten))
            )  # fmt: skip
            return block(
                left.set(size),
                digits.set(_int(1)),
                tirx.While(left[0] >= ten, count),
                at.set(digits[0] + tirx.Select(negative, _int(1), _int(0))),
                _clear(y, i, made, at[0]),
                when(negative, store(y, [*i, _int(0)], _int(45, "uint8"))),
                left.set(size),
                tirx.While(digits[0] > 0, block(write, digits.set(digits[0] - 1))),
            )

        return block(*(local.declare for local in v.values()), nest(shape, one))

    return sequential([x], [((*shape, made), "uint8")], body)


@compute("NumberOfText", domain=_DOMAIN)
def number_of_text(ctx: Context, x: Any, powers: Any) -> list[Any]:
    """The decimal numbers that strings are, float64 or int64; what is returned for other strings means nothing.

    `powers`: ten to the power 0 to 22, which float64 has exactly.
    """
    *shape, width = ctx.input_type(0).shape
    made = ctx.output_type().dtype

    def body(ins: Any, outs: Any) -> Any:
        (source, tens), (y,) = ins, outs
        names = ("k", "point", "expo", "less", "lower", "scale", "power")
        declared, v = _locals(**dict.fromkeys(names, "int32"))
        k, point, expo, less, lower, scale, power = v.values()
        mantissa, number = Local("mantissa", "uint64"), Local("number", "float64")

        def digit(byte: Any) -> Any:
            value = byte.astype("int32") - 48
            room = mantissa[0] < tirx.const(10**18, "uint64")
            longer = block(
                mantissa.set(mantissa[0] * tirx.const(10, "uint64") + value.astype("uint64")),
                when(point[0] > 0, scale.set(scale[0] - 1)),
            )
            plain = when(room, longer, when(tirx.EQ(point[0], 0), scale.set(scale[0] + 1)))
            if made == "int64":  # what is behind the point does not count
                plain = when(tirx.EQ(point[0], 0), plain)
            return when(expo[0] > 0, when(power[0] < 10000, power.set(power[0] * 10 + value)), plain)

        def one(i: list[Any]) -> Any:
            byte = _byte(source, i, k[0], width)

            def is_(text: str) -> Any:
                return tirx.EQ(byte, _int(ord(text), "uint8"))

            minus = when(expo[0] > 0, lower.set(_int(1)), less.set(_int(1)))
            other = when(is_("."), point.set(_int(1)), when(is_("-"), minus))
            other = when(tirx.Or(is_("e"), is_("E")), expo.set(_int(1)), other)
            is_digit = tirx.And(byte >= _int(48, "uint8"), byte <= _int(57, "uint8"))
            step = block(when(is_digit, digit(byte), other), k.set(k[0] + 1))
            more = tirx.And(k[0] < width, tirx.Not(tirx.EQ(byte, _int(0, "uint8"))))
            read = block(
                *(local.set(_int(0)) for local in v.values()),
                mantissa.set(tirx.const(0, "uint64")),
                tirx.While(more, step),
            )
            if made == "int64":
                whole = mantissa[0].astype("int64")
                return block(read, store(y, i, tirx.Select(less[0] > 0, tirx.const(0, "int64") - whole, whole)))
            most = _int(22)
            up = tirx.min(scale[0], most)
            down = tirx.min(_int(0) - scale[0], most)
            return block(
                read,
                scale.set(scale[0] + tirx.Select(lower[0] > 0, _int(0) - power[0], power[0])),
                scale.set(tirx.max(tirx.min(scale[0], _int(400)), _int(-400))),
                number.set(mantissa[0].astype("float64")),
                tirx.While(scale[0] > 0, block(number.set(number[0] * load(tens, [up])), scale.set(scale[0] - up))),
                tirx.While(scale[0] < 0, block(number.set(number[0] / load(tens, [down])), scale.set(scale[0] + down))),
                store(y, i, tirx.Select(less[0] > 0, tirx.const(0.0, "float64") - number[0], number[0])),
            )

        return block(declared, mantissa.declare, number.declare, nest(shape, one))

    return sequential([x, powers], [(shape, made)], body)

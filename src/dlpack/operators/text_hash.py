"""CityHash64 of text in kernels (`meaning/cityhash.py`): rows of bytes to CatBoost's numbers of categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlpack.graph.registry import Context, compute
from dlpack.loops.tir import tirx
from dlpack.meaning.cityhash import city_hash
from dlpack.operators.loops import Local, block, load, loop, nest, sequential, store, when


class _Row:
    """One text of a value of texts, and the statements that compute what was asked for so far."""

    def __init__(self, source: Any, index: Sequence[Any], size: Any, most: int) -> None:
        self.source, self.index, self.size, self.most = source, index, size, most
        self.locals: list[Local] = []
        self.statements: list[Any] = []

    def local(self, dtype: str = "uint64") -> Local:
        self.locals.append(Local(f"h{len(self.locals)}", dtype))
        return self.locals[-1]

    def number(self, value: Any) -> Any:
        if not isinstance(value, int):
            return value.astype("uint64")
        high, low = value >> 32, value & 0xFFFFFFFF
        return (tirx.const(high, "uint64") << tirx.const(32, "uint64")) | tirx.const(low, "uint64")

    def word(self, place: Any, size: int = 8) -> Any:
        made = self.local()

        def add(k: Any) -> Any:
            byte = load(self.source, [*self.index, place + k]).astype("uint64")
            return made.set(made[0] | (byte << (k * 8).astype("uint64")))

        self.statements += [made.set(tirx.const(0, "uint64")), loop("b", size, add)]
        return made[0]

    def keep(self, value: Any) -> Any:
        made = self.local()
        self.statements.append(made.set(value))
        return made[0]

    def inside(self, work: Callable[[], Any]) -> tuple[Any, list[Any]]:
        """What `work` gives, and its statements."""
        outer, self.statements = self.statements, []
        value = work()
        inner, self.statements = self.statements, outer
        return value, inner

    def cases(self, *cases: tuple[Any, Callable[[], Any]]) -> Any:
        made, chosen = self.local(), None
        for condition, work in reversed(cases):
            value, inner = self.inside(work)
            body = block(*inner, made.set(value))
            chosen = body if condition is True else when(condition, body, chosen)
        self.statements.append(chosen)
        return made[0]

    def steps(self, count: Any, state: Sequence[Any], step: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        held, k = [self.local() for _ in state], self.local("int32")
        self.statements += [local.set(value) for local, value in zip(held, state, strict=True)]
        after, inner = self.inside(lambda: [self.keep(v) for v in step(k[0], [local[0] for local in held])])
        moved = [local.set(value) for local, value in zip(held, after, strict=True)]
        body = block(*inner, *moved, k.set(k[0] + 1))
        self.statements += [k.set(tirx.const(0, "int32")), tirx.While(k[0] < count, body)]
        return [local[0] for local in held]


@compute("HashText", domain="dlpack")
def hash_text(ctx: Context, x: Any) -> list[Any]:
    """CatBoost's number of each text: the low half of its CityHash64, with a sign; int64."""
    *shape, width = ctx.input_type(0).shape

    def body(ins: Any, outs: Any) -> Any:
        (source,), (y,) = ins, outs
        size, low = Local("size", "int32"), Local("low", "int64")
        rows: list[_Row] = []

        def one(i: list[Any]) -> Any:
            row = _Row(source, i, size[0], width - 1)
            rows.append(row)
            hashed = city_hash(row)
            byte = load(source, [*i, tirx.min(size[0], tirx.const(width - 1, "int32"))])
            more = tirx.And(size[0] < width - 1, tirx.Not(tirx.EQ(byte, tirx.const(0, "uint8"))))
            half = (hashed & tirx.const(0xFFFFFFFF, "uint64")).astype("int64")
            negative = low[0] >= tirx.const(1 << 31, "int64")
            return block(
                size.set(tirx.const(0, "int32")),
                tirx.While(more, size.set(size[0] + 1)),
                *row.statements,
                low.set(half),
                store(y, i, tirx.Select(negative, low[0] - tirx.const(1 << 32, "int64"), low[0])),
            )

        loops = nest(shape, one)
        return block(size.declare, low.declare, *(local.declare for local in rows[0].locals), loops)

    return sequential([x], [(shape, "int64")], body)

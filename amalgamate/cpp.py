"""C++ of GCC and Clang for CPUs: vector types, exact literals, calls of the functions of runtime_c."""

from __future__ import annotations

import math
from collections.abc import Mapping
from math import gcd

import numpy as np

from dlpack.amalgamate.printer import ATOM, PRECEDENCE, Printer, Term, address_wraps, used_buffers
from dlpack.graph.ir import BITS, HALF, STORED
from dlpack.loops.ir import (
    FILLED,
    Array,
    Assign,
    Const,
    Declare,
    Expr,
    For,
    Gathered,
    Kernel,
    Load,
    LoadTwo,
    LoopAxis,
    Op,
    Open,
    Pointer,
    Space,
    Store,
    walk,
)
from dlpack.loops.lanes import LANE
from dlpack.loops.sizes import Size, Tiles

CPP_TYPE = {
    "float32": "float", "float64": "double", "bool": "uint8_t",
    "int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "int64": "int64_t",
    "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t", "uint64": "uint64_t",
    **{name: f"{kind}_t" for name, kind in STORED.items()}, HALF: "f16",
}  # fmt: skip
_VECTOR_LETTER = {
    "float32": "f32", "float64": "f64", HALF: "f16", "bool": "i32", "int8": "i8", "int16": "i16", "int32": "i32",
    "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
}  # fmt: skip
_SHIFTS = frozenset(("<<", ">>"))
_SMALL = frozenset(("int8", "int16", "uint8", "uint16"))
_COMPARISONS = frozenset(("<", "<=", ">", ">=", "==", "!="))
_HORIZONTAL = frozenset(("hsum", "hprod", "hmax", "hmin"))
_FUNCTIONS = {"fabs": "abs_", "nearbyint": "round_"}

LARGEST_HALF = 65504.0
"""What is larger in a float32, as the border of a maximum's window is, is infinite in a float16."""


def number_type(dtype: str) -> str:
    """The type of an element as a number: small floats have their own, while kernels see bits."""
    return f"@name@_impl::{dtype}" if dtype in BITS else CPP_TYPE[dtype]


def trips_of(o: Open, sizes: Mapping[Size, str] | None = None) -> str:
    """How many trips an open loop has in a run, in C++: `extent` elements of the open dimension, or of pictures those
    that `sizes` names."""
    n = _elements(o, sizes)
    if o.filled:
        return f"({n} + {FILLED - 1}) / {FILLED} * {FILLED * o.times // o.by}"
    times, by = o.times // gcd(o.times, o.by), o.by // gcd(o.times, o.by)
    n = f"({n})" if o.size and not sizes and times > 1 and not n.isidentifier() else n
    product = f"{n} * {times}" if times > 1 else n
    if o.less and not o.most:
        return f"{product} - {o.less}"
    if o.less:
        return f"({product} > {o.less} ? {o.most} : 0)"
    trips = product if by == 1 else f"({product} + {by - 1}) / {by}"
    return f"({trips} < {o.most} ? {trips} : {o.most})" if o.most else trips


def _sizes_of_loops(kernel: Kernel) -> set[Size | None]:
    """The sizes of a run that its loops go by, None for `extent`. One that threads share goes by `begin` and `end`."""
    loops = [s for s in walk(kernel.body) if isinstance(s, For)]
    opens = [s.open for s in loops if s.open and not (s.axis is LoopAxis.PARALLEL and kernel.trips)]
    found = {o.size for o in (*opens, *(s.after.open for s in loops if s.after))}
    of_tiles = kernel.tiles.sizes if kernel.tiles else ()
    return {size for size in found if not isinstance(size, Tiles)} | set(of_tiles)


def _elements(o: Open, sizes: Mapping[Size, str] | None) -> str:
    """How many elements an open loop goes through."""
    if isinstance(o.size, Tiles):
        if o.band:
            return f"{o.band.var}_tiles"
        return "tile_count" if sizes else " * ".join(f"({n})" for n in _grid(o.size))
    return "extent" if o.size is None else sizes[o.size] if sizes else o.size.text(*AXES)


def _grid(tiles: Tiles, sizes: Mapping[Size, str] | None = None) -> tuple[str, str]:
    """Rows and columns of a picture's tiles."""

    def along(n: Size | int) -> str:
        if isinstance(n, int):
            return str(-(-n // tiles.side))
        count = sizes[n] if sizes else n.text(*AXES)
        return count if tiles.side == 1 else f"({count} + {tiles.side - 1}) / {tiles.side}"

    return along(tiles.height), along(tiles.width)


def _of_tiles(var: str, o: Open) -> list[str]:
    """What a trip of a loop over tiles begins with: how many a band has, where a tile lies."""
    if o.by > 1 and not o.places:
        left = f"tile_count - {var} * {o.by}"
        return [] if o.band else [f"const int {var}_tiles = {left} < {o.by} ? {left} : {o.by};"]
    first = f"{o.band.var} * {o.band.most} + " if o.band else ""
    lines = []
    for k, (row, column) in enumerate(o.places):
        number = f"{first}{var}" if o.by == 1 else f"{var} * {o.by}"
        if k:
            number += f" + {k}"
            lines.append(f"const int tile{k} = {number} < tile_count ? {number} : tile_count - 1;")
            number = f"tile{k}"
        number = number if number.isidentifier() else f"({number})"
        of_rows = f"{row} = {number} / tile_columns, {column} = {number} % tile_columns"
        lines.append(f"const int {of_rows if row else f'{column} = {number}'};")
    return lines


AXES = ("height", "width", "extent", "samples")
"""What a run calls the sizes of the open dimensions of pictures, and the number of elements of any other."""


class CppPrinter(Printer):
    """Prints kernels; `functions` and `types` gather the runtime functions and vector types that they use,
    `double_functions` those that are called with doubles.

    `fma_call`: the compiler fuses no `acc += x * w` for this machine, so vectors are accumulated by `madd`.
    """

    def __init__(self, fma_call: bool = False) -> None:
        self.fma_call = fma_call
        self.functions: set[str] = set()
        self.double_functions: set[str] = set()
        self.types: set[str] = set()
        self.trips = 0
        self.sizes: dict[Size, str] = {}
        self.tiled: dict[Open, str] = {}

    def needs(self) -> set[str]:
        functions = {f.removesuffix("_") for f in self.functions} - {"splat", "select", "bits_as"}  # of `vectors`
        return self.types | functions

    def overloads(self) -> set[str]:
        return {f"{f.removesuffix('_')}_f64" for f in self.double_functions}

    def head(self, kernel: Kernel, name: str, restrict: bool) -> list[str]:
        self.trips = kernel.trips
        params = []
        used = used_buffers(kernel)
        for p in kernel.params:
            const = "" if p.written else "const "
            label = p.name if p.name in used else f"/*{p.name}*/"
            self.type(p.dtype, 1)
            params.append(f"{const}{CPP_TYPE[p.dtype]}* {'__restrict ' if restrict else ''}{label}")
        if kernel.scratch:
            params.append("uint8_t* scratch")
        if kernel.trips:
            params.append("int begin, int end")
        self.sizes = {size: f"n{k}" for k, size in enumerate(kernel.sizes)}
        if kernel.opened:
            known = _sizes_of_loops(kernel)
            names: list[tuple[Size | None, str]] = [*self.sizes.items()] or [(None, "extent")]
            params += [f"int {n if size in known else f'/*{n}*/'}" for size, n in names]
        first = []
        if kernel.tiles:
            rows, columns = _grid(kernel.tiles, self.sizes)
            first = [f"    const int tile_columns = {columns}, tile_count = {rows} * tile_columns;"]
        opens = dict.fromkeys(s.open for s in walk(kernel.body) if isinstance(s, For) and s.open and s.open.tiles)
        self.tiled = {o: f"rows_in_tiles{k or ''}" for k, o in enumerate(opens)}
        first += [f"    {line}" for line in self._tiled_rows(None)]
        head = f"void {name}({', '.join(params)}) {{"
        if len(head) <= 118:
            return [head, *first]
        *others, last = params
        return [f"void {name}(", *(f"    {p}," for p in others), f"    {last}) {{", *first]

    def _tiled_rows(self, band: str | None) -> list[str]:
        """How tiles of several heights share the rows of a run, or of a trip of the loop over `band`."""
        lines = []
        for o, name in self.tiled.items():
            assert o.tiles is not None
            if (o.band and o.band.var) == band:
                self.functions.add("shared_rows")
                more, less, *masks = (f"0x{m:x}" for m in (o.tiles.more, o.tiles.less, *(m for _, m in o.tiles.once)))
                whole = f"{_elements(o, self.sizes)}, {o.tiles.rows}, {more}, {less}"
                lower = [f"{{{', '.join(each)}}}" for each in (map(str, o.tiles.lower), masks) if masks]
                lines.append(f"const tiled_rows {name} = shared_rows({', '.join((whole, *lower))});")
        return lines

    def loop(self, s: For, pad: str) -> list[str]:
        if s.axis in (LoopAxis.BLOCK, LoopAxis.THREAD):
            raise self.lacks(f"loops whose axis is {s.axis.value}")
        step = f"++{s.var}" if s.step == 1 else f"{s.var} += {s.step}"
        begin, end = str(s.begin), trips_of(s.open, self.sizes) if s.open else str(s.end)
        if s.open and s.open.tiles:
            end = f"{self.tiled[s.open]}.whole"
        if s.after:
            t, rows = s.after.tiles, self.tiled[s.after.open]
            counts = ("whole", *(f"lower[{k}]" for k in range(len(t.once))))
            parts = [f"{rows}.{n} * {height // t.unit}" for n, height in zip(counts, (t.rows, *t.lower), strict=False)]
            begin = " + ".join(parts[: s.after.lower + 1])
            end = end if s.after.last else f"{begin} + {parts[s.after.lower + 1]}"
        if s.until:
            end = self.expr(s.until, PRECEDENCE["<"] + 1)
        if s.axis is LoopAxis.PARALLEL and self.trips:
            begin = f"begin > {s.begin} ? begin : {s.begin}" if s.begin else "begin"
            end = f"(end < {s.end} ? end : {s.end})" if s.end < self.trips else "end"
        before = (
            "!=" if s.together > 1 and not s.until else "<"
        )  # clang counts down to zero only where the trips are sure to end there
        head = f"{pad}for (int {s.var} = {begin}; {s.var} {before} {end}; {step}) {{"
        if s.open and s.open.less and s.open.most == 1:
            return [f"{pad}if ({end[1:].partition(' ?')[0]}) {{"]
        # clang 22's vectoriser takes such an address for linear: test_tile's
        # ``y[...] = x[... + i2 % 4 * 5 + i3 % 5]`` reads at 20 in trip 4 of i2. So these loops are kept from it.
        if s.step == 1 and address_wraps(s):
            self.functions.add("scalar_loop")
            return [f"{pad}@NAME@_SCALAR_LOOP", head]
        if s.together != 1:
            self.functions.add("together")
            return [f"{pad}@NAME@_TOGETHER({s.together or 1})", head]
        if s.open and isinstance(s.open.size, Tiles):
            return [head, *(f"{pad}    {line}" for line in (*_of_tiles(s.var, s.open), *self._tiled_rows(s.var)))]
        return [head]

    def array(self, s: Array) -> str:
        kind = CPP_TYPE[s.dtype]
        if s.space is Space.SCRATCH:
            place = f"scratch + {s.offset}" if s.offset else "scratch"
            return f"{kind}* const {s.name} = reinterpret_cast<{kind}*>({place})"
        if s.space is Space.SHARED:
            raise self.lacks("arrays that the threads of a block share")
        return f"alignas(64) {kind} {s.name}[{s.size}]"

    def pointer(self, s: Pointer) -> str:
        const = "" if s.written else "const "
        fixed = "" if s.moves else " const"
        return f"{const}{CPP_TYPE[s.dtype]}*{fixed} {s.name} = {self.address(s.buffer, s.index)}"

    def load_two(self, s: LoadTwo) -> str:
        self.functions.add("load_two")
        self.type(s.dtype, s.lanes)
        return f"const auto [{s.first}, {s.second}] = load_two({s.pointer})"

    def prefetch(self, address: str) -> list[str]:
        return [f"__builtin_prefetch({address})"]

    def type(self, dtype: str, lanes: int) -> str:
        if lanes == 1:
            self.types.update(["f16"] if dtype == HALF else [])
            return "bool" if dtype == "bool" else CPP_TYPE[dtype]
        name = f"{_VECTOR_LETTER[dtype]}x{lanes}"
        self.types.add(name)
        return name

    def literal(self, value: float | int | bool, dtype: str) -> str:
        return literal(value, dtype)

    # --- vectors ------------------------------------------------------------------------------------------------

    def vector_load(self, e: Load | Gathered, address: str) -> str:
        kind = self.type(e.dtype, e.lanes)
        if e.valid < e.lanes:
            self.functions.add("load_partial")
            return f"load_partial<{kind}>({address}, {e.valid})"
        self.functions.add("load")
        return f"load<{kind}>({address})"

    def looked_up(self, e: Gathered) -> str:
        self.functions.add("looked_up")
        return f"looked_up<{self.type(e.dtype, e.lanes)}>({e.buffer}, {self.expr(e.index)})"

    def vector_store(self, s: Store, address: str) -> str:
        if s.valid < s.value.lanes:
            self.functions.add("store_partial")
            return f"store_partial({address}, {self.expr(s.value)}, {s.valid})"
        self.functions.add("store")
        return f"store({address}, {self.expr(s.value)})"

    def _Declare(self, s: Declare, depth: int) -> list[str]:
        if s.lanes > 1 and s.value is not None and _is_zero(s.value):
            return self.line(f"{self.type(s.dtype, s.lanes)} {s.name}{{}}", depth)
        return super()._Declare(s, depth)

    def splat(self, e: Op) -> str:
        (a,) = e.args
        if _is_zero(e):
            return f"{self.type(e.dtype, e.lanes)}{{}}"
        self.functions.add("splat")
        return f"splat<{self.type(e.dtype, e.lanes)}>({self.expr(a)})"

    def broadcast(self, op: str, a: Expr, b: Expr) -> tuple[Expr, Expr]:
        """A scalar is left to the language to broadcast, which it does for all operators but shifts."""
        if op in _SHIFTS:
            return a, b
        if isinstance(b, Op) and b.op == "splat" and not (isinstance(a, Op) and a.op == "splat"):
            return a, b.args[0]
        if isinstance(a, Op) and a.op == "splat" and not (isinstance(b, Op) and b.op == "splat"):
            return a.args[0], b
        return a, b

    def accumulated(self, s: Assign, x: Expr, w: Expr) -> str | None:
        if s.value.dtype == HALF and isinstance(x, Op) and x.op == "splat":
            return self._by_lane(s.name, x.args[0], w)
        if not self.fma_call:
            return None
        self.functions.add("madd")
        return f"madd({self.expr(x)}, {self.expr(w)}, {s.name})"

    def _by_lane(self, name: str, x: Expr, w: Expr) -> str | None:
        """``name + x * w`` of float16, where x is one lane of a vector."""
        if not (isinstance(x, Op) and x.op == LANE):
            return None
        self.functions.add("madd_of_lane")
        vector, number = map(self.expr, x.args)
        return f"madd_of_lane<{number}>({name}, {vector}, {self.expr(w)})"

    def kept(self, s: Declare, load: str) -> str:
        if self.fma_call or s.lanes < 8:
            return load
        self.functions.add("kept")
        return f"kept({load})"

    # --- casts and calls ----------------------------------------------------------------------------------------

    def call(self, e: Op) -> str:
        if e.op == "select":
            self.functions.add("select")
            return f"select({', '.join(self.expr(a) for a in e.args)})"
        if e.op == "reinterpret":
            return f"bits_as<{self.type(e.dtype, e.lanes)}>({self.expr(e.args[0])})"
        if e.op == "dot_" and isinstance(lane := e.args[1], Op) and lane.op == LANE:
            self.functions.add("dot_of_lane")
            acc, x, number, w = map(self.expr, (e.args[0], *lane.args, e.args[2]))
            return f"dot_<{number}>({acc}, {x}, {w})"
        if e.op == "dot_" and e.lanes > 1 and e.args[1].lanes == 8:
            self.functions.add("dot_of_eight")
        name = _FUNCTIONS.get(e.op, e.op if e.op.endswith("_") or e.op in _HORIZONTAL else e.op + "_")
        self.functions.add(name)
        if any(a.dtype == "float64" for a in e.args):
            self.double_functions.add(name)
        return f"{name}({', '.join(self.argument(a) for a in e.args)})"

    def argument(self, e: Expr) -> str:
        """An argument of a function that deduces its type: C++ has no literals of the small types."""
        return f"{CPP_TYPE[e.dtype]}{{{self.expr(e)}}}" if isinstance(e, Const) and e.dtype in _SMALL else self.expr(e)

    def narrow(self, e: Op, op: str, text: str, precedence: int) -> Term:
        """C++ computes small integers as int: cast back what would otherwise be a silent conversion."""
        if e.lanes == 1 and e.dtype in _SMALL and op not in _COMPARISONS:
            return f"static_cast<{CPP_TYPE[e.dtype]}>({text})", ATOM
        return text, precedence

    def updates_in_place(self, e: Op) -> bool:
        return e.dtype not in _SMALL

    def cast(self, e: Op) -> Term:
        (a,) = e.args
        if e.lanes > 1:
            self.functions.add("convert")
            return f"convert<{self.type(e.dtype, e.lanes)}>({self.expr(a)})", ATOM
        if e.dtype == a.dtype:
            return self.term(a)
        if e.dtype == "bool":
            return f"{self.operand('!=', a, PRECEDENCE['!='])} != 0", PRECEDENCE["!="]
        if _is_float(a.dtype) and not _is_float(e.dtype):
            self.functions.add("to_integer")
            return f"to_integer<{CPP_TYPE[e.dtype]}>({self.expr(a)})", ATOM
        return f"static_cast<{CPP_TYPE[e.dtype]}>({self.expr(a)})", ATOM


def _is_float(dtype: str) -> bool:
    return dtype.startswith("float") or dtype == HALF


def _is_zero(e: Expr) -> bool:
    """Whether an expression is the constant zero, in all lanes; -0 is another number."""
    if isinstance(e, Op) and e.op == "splat":
        return _is_zero(e.args[0])
    return isinstance(e, Const) and e.value == 0 and math.copysign(1, e.value) > 0


def literal(value: float | int | bool, dtype: str) -> str:
    """An exact C++ literal: the shortest decimal that reads back as the same number."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype == HALF:
        value = math.copysign(math.inf, value) if abs(value) > LARGEST_HALF else value
        return f"f16({literal(float(np.float16(value)), 'float32')})"
    if dtype in ("float32", "float64"):
        suffix = "f" if dtype == "float32" else ""
        if math.isnan(value):
            return f'__builtin_nan{suffix}("")'
        if math.isinf(value):
            return f"{'-' if value < 0 else ''}__builtin_inf{suffix}()"
        text = repr(float(value)) if dtype == "float64" else str(np.float32(value))
        if "e" not in text and "." not in text:
            text += ".0"
        return text + suffix
    value = int(value)
    if dtype == "int64":
        return "INT64_MIN" if value == -(1 << 63) else f"INT64_C({value})"
    if dtype == "uint64":
        return f"UINT64_C({value})"
    if dtype == "int32" and value == -(1 << 31):
        return "INT32_MIN"
    return f"{value}u" if dtype == "uint32" else str(value)

"""Kernel IR → C++ text: loops, vectors and exact literals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from dlpack.loops.index import DivMod, Linear
from dlpack.loops.ir import (
    Array,
    Assign,
    Const,
    Declare,
    Expr,
    For,
    Gathered,
    If,
    Index,
    Kernel,
    Load,
    Op,
    Prefetch,
    Ref,
    ScatteredStore,
    Scope,
    ScratchArray,
    Stmt,
    Store,
    While,
    exprs,
    walk,
    walk_expr,
)
from dlpack.loops.lanes import LANE

CPP_TYPE = {
    "float32": "float", "float64": "double", "bool": "uint8_t",
    "int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "int64": "int64_t",
    "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t", "uint64": "uint64_t",
}  # fmt: skip
_VECTOR_LETTER = {
    "float32": "f32", "float64": "f64", "bool": "i32", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
}  # fmt: skip
_PRECEDENCE = {
    "||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, "<=": 7, ">": 7, ">=": 7,
    "<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10,
}  # fmt: skip
_ATOM = 12
_SHIFTS = frozenset(("<<", ">>"))
_SMALL = frozenset(("int8", "int16", "uint8", "uint16"))
_BITWISE = frozenset(("&", "|", "^", "<<", ">>"))
_OPERATOR_CALLS = {
    "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "shift_left": "<<", "shift_right": ">>",
}  # fmt: skip
_HORIZONTAL = {"hsum", "hprod", "hmax", "hmin"}
_FUNCTIONS = {
    "fabs": "abs_", "nearbyint": "round_", "truncmod": "%",
}  # fmt: skip


class Printer:
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

    def kernel(self, kernel: Kernel, name: str, restrict: bool = True) -> str:
        self.trips = kernel.trips
        params = []
        used = _used_buffers(kernel)
        for p in kernel.params:
            const = "" if p.written else "const "
            label = p.name if p.name in used else f"/*{p.name}*/"
            params.append(f"{const}{CPP_TYPE[p.dtype]}* {'__restrict ' if restrict else ''}{label}")
        if kernel.scratch:
            params.append("uint8_t* scratch")
        if kernel.trips:
            params.append("int begin, int end")
        head = f"void {name}({', '.join(params)}) {{"
        if len(head) > 118:
            head = f"void {name}(\n    " + ",\n    ".join(params) + ") {"
        return "\n".join([head, *self.block(kernel.body, 1), "}"])

    # --- statements ---------------------------------------------------------------------------------------------

    def block(self, stmts: Sequence[Stmt], depth: int) -> list[str]:
        out: list[str] = []
        for s in stmts:
            out.extend(self.stmt(s, depth))
        return out

    def stmt(self, s: Stmt, depth: int) -> list[str]:
        pad = "    " * depth
        if isinstance(s, For):
            step = f"++{s.var}" if s.step == 1 else f"{s.var} += {s.step}"
            begin, end = str(s.begin), str(s.end)
            if s.shared and self.trips:
                begin = f"begin > {s.begin} ? begin : {s.begin}" if s.begin else "begin"
                end = f"(end < {s.end} ? end : {s.end})" if s.end < self.trips else "end"
            head = f"{pad}for (int {s.var} = {begin}; {s.var} < {end}; {step}) {{"
            body = self.block(s.body, depth + 1)
            if s.step == 1 and _wraps(s):
                self.functions.add("scalar_loop")
                head = f"{pad}SCALAR_LOOP\n{head}"
            if s.twice:
                self.functions.add("twice")
                head = f"{pad}TWICE\n{head}"
            return [head, *body, f"{pad}}}" + (f"  // for {s.var}" if len(body) > 20 else "")]
        if isinstance(s, If):
            out = [f"{pad}if ({self.expr(s.condition)}) {{", *self.block(s.then, depth + 1)]
            if s.otherwise:
                out += [f"{pad}}} else {{", *self.block(s.otherwise, depth + 1)]
            return [*out, f"{pad}}}"]
        if isinstance(s, While):
            return [f"{pad}while ({self.expr(s.condition)}) {{", *self.block(s.body, depth + 1), f"{pad}}}"]
        if isinstance(s, Scope):
            return [f"{pad}{{", *self.block(s.body, depth + 1), f"{pad}}}"]
        if isinstance(s, ScratchArray):
            kind = CPP_TYPE[s.dtype]
            return [f"{pad}{kind}* const {s.name} = reinterpret_cast<{kind}*>(scratch + {s.offset});"]
        if isinstance(s, Prefetch):
            return [f"{pad}__builtin_prefetch({s.buffer} + {self.index(s.index)});"]
        if isinstance(s, Array):
            return [f"{pad}alignas(64) {CPP_TYPE[s.dtype]} {s.name}[{s.size}];"]
        if isinstance(s, Declare):
            kind = self.type(s.dtype, s.lanes)
            value = "" if s.value is None else f" = {self.as_type(s.value, s.dtype, s.lanes)}"
            if s.constant and isinstance(s.value, Load) and s.lanes > 1 and not self.fma_call:
                self.functions.add("kept")
                value = f" = kept({value[3:]})"
            return [f"{pad}{'const ' if s.constant else ''}{kind} {s.name}{value};"]
        if isinstance(s, Assign):
            v = s.value
            product = _accumulated(s) if self.fma_call else None
            if product is not None:
                self.functions.add("madd")
                x, w = (self.as_type(a, v.dtype, v.lanes) for a in product.args)
                return [f"{pad}{s.name} = madd({x}, {w}, {s.name});"]
            updates = isinstance(v, Op) and v.op in ("+", "*") and v.dtype not in _SMALL
            if isinstance(v, Op) and updates and isinstance(v.args[0], Ref) and v.args[0].name == s.name:
                return [f"{pad}{s.name} {v.op}= {self.expr(v.args[1])};"]
            return [f"{pad}{s.name} = {self.expr(v)};"]
        if isinstance(s, Store):
            return [f"{pad}{self.store(s)};"]
        if isinstance(s, ScatteredStore):
            value = self.expr(s.value)
            return [f"{pad}{s.buffer}[{self.expr(s.index)}] = {value};"]
        raise TypeError(f"unknown statement {s!r}")

    def store(self, s: Store) -> str:
        value = s.value
        if value.lanes == 1:
            text = self.expr(value)
            old = Load(value.dtype, 1, s.buffer, s.index, 1)
            if (
                isinstance(value, Op)
                and value.op in ("+", "*")
                and value.args[0] == old
                and value.dtype in ("float32", "float64")
            ):
                return f"{s.buffer}[{self.index(s.index)}] {value.op}= {self.expr(value.args[1])}"
            return f"{s.buffer}[{self.index(s.index)}] = {text}"
        where = f"{s.buffer} + {self.index(s.index)}" if s.index != Linear() else s.buffer
        if s.valid < value.lanes:
            self.functions.add("store_partial")
            return f"store_partial({where}, {self.expr(value)}, {s.valid})"
        self.functions.add("store")
        return f"store({where}, {self.expr(value)})"

    # --- expressions --------------------------------------------------------------------------------------------

    def type(self, dtype: str, lanes: int) -> str:
        if lanes == 1:
            return "bool" if dtype == "bool" else CPP_TYPE[dtype]
        name = f"{_VECTOR_LETTER[dtype]}x{lanes}"
        self.types.add(name)
        return name

    def as_type(self, e: Expr, dtype: str, lanes: int) -> str:
        if e.lanes != lanes:
            e = Op(dtype, lanes, "splat", (e,))
        return self.expr(e)

    def expr(self, e: Expr, outer: int = 0) -> str:
        text, precedence = self.term(e)
        return f"({text})" if precedence < outer else text

    def term(self, e: Expr) -> tuple[str, int]:
        if isinstance(e, Const):
            return literal(e.value, e.dtype), _ATOM
        if isinstance(e, Index):
            text = self.index(e.form)
            simple = text.isidentifier() or text.isdigit()
            if e.dtype != "int32" and not (text.isdigit() and e.dtype == "int64"):
                return f"{CPP_TYPE[e.dtype]}({text})", _ATOM
            return text, _ATOM if simple else 9
        if isinstance(e, Ref):
            return e.name, _ATOM
        if isinstance(e, Load):
            return self.load(e), _ATOM if e.dtype != "bool" else 6
        if isinstance(e, Gathered):
            if e.lanes > 1:
                return self.vector(e, f"{e.buffer} + {self.expr(e.index)}"), _ATOM
            text = f"{e.buffer}[{self.expr(e.index)}]"
            return (f"{text} != 0", 6) if e.dtype == "bool" else (text, _ATOM)
        if isinstance(e, Op):
            return self.op(e)
        raise TypeError(f"unknown expression {e!r}")

    def load(self, e: Load) -> str:
        if e.lanes == 1:
            text = f"{e.buffer}[{self.index(e.index)}]"
            return f"{text} != 0" if e.dtype == "bool" else text
        return self.vector(e, f"{e.buffer} + {self.index(e.index)}" if e.index != Linear() else e.buffer)

    def vector(self, e: Load | Gathered, where: str) -> str:
        """A load of a vector's valid lanes."""
        kind = self.type(e.dtype, e.lanes)
        if e.valid < e.lanes:
            self.functions.add("load_partial")
            return f"load_partial<{kind}>({where}, {e.valid})"
        self.functions.add("load")
        return f"load<{kind}>({where})"

    def op(self, e: Op) -> tuple[str, int]:
        op, args = e.op, e.args
        if op in _OPERATOR_CALLS:
            op = _OPERATOR_CALLS[op]
        if op in _PRECEDENCE and len(args) == 2:
            p = _PRECEDENCE[op]
            a, b = args
            if e.lanes > 1 and op not in _SHIFTS:
                a, b = _unsplat(a, b)
            left, right = self.operand(op, a, p), self.operand(op, b, p + 1)
            return self.narrow(e.dtype, e.lanes, op, f"{left} {op} {right}", p)
        if op == "-":
            return f"-{self.expr(args[0], 11)}", 11
        if op == "!":
            return f"!{self.expr(args[0], 11)}", 11
        if op == "bitwise_not":
            return self.narrow(e.dtype, e.lanes, "~", f"~{self.expr(args[0], 11)}", 11)
        if op == "select":
            if e.lanes == 1:
                text = f"{self.expr(args[0], 1)} ? {self.expr(args[1], 1)} : {self.expr(args[2], 0)}"
                return self.narrow(e.dtype, 1, "?", text, 0)
            self.functions.add("select")
            return f"select({', '.join(self.expr(a) for a in args)})", _ATOM
        if op == "cast":
            return self.cast(e), _ATOM
        if op == "splat":
            if isinstance(args[0], Const) and args[0].value == 0 and not math.copysign(1, args[0].value) < 0:
                return f"{self.type(e.dtype, e.lanes)}{{}}", _ATOM
            self.functions.add("splat")
            return f"splat<{self.type(e.dtype, e.lanes)}>({self.expr(args[0])})", _ATOM
        if op == LANE:
            return f"{self.expr(args[0], _ATOM)}[{self.expr(args[1])}]", _ATOM
        if op == "reinterpret":
            return f"bits_as<{self.type(e.dtype, e.lanes)}>({self.expr(args[0])})", _ATOM
        name = _FUNCTIONS.get(op, op if op.endswith("_") or op in _HORIZONTAL else op + "_")
        self.functions.add(name)
        if any(a.dtype == "float64" for a in args):
            self.double_functions.add(name)
        return f"{name}({', '.join(self.argument(a) for a in args)})", _ATOM

    def argument(self, e: Expr) -> str:
        """An argument of a function that deduces its type: C++ has no literals of the small types."""
        return f"{CPP_TYPE[e.dtype]}{{{self.expr(e)}}}" if isinstance(e, Const) and e.dtype in _SMALL else self.expr(e)

    def operand(self, op: str, e: Expr, p: int) -> str:
        """An operand of a binary operator; in parentheses too where compilers warn that few know the precedence."""
        inner = _OPERATOR_CALLS.get(e.op, e.op) if isinstance(e, Op) and len(e.args) == 2 else ""
        mixed = op == "||" and inner == "&&" or op in _BITWISE and inner in _PRECEDENCE and inner != op
        return self.expr(e, _ATOM if mixed else p)

    def narrow(self, dtype: str, lanes: int, op: str, text: str, p: int) -> tuple[str, int]:
        """C++ computes small integers as int: cast back what would otherwise be a silent conversion."""
        if lanes == 1 and dtype in _SMALL and op not in ("<", "<=", ">", ">=", "==", "!="):
            return f"static_cast<{CPP_TYPE[dtype]}>({text})", _ATOM
        return text, p

    def cast(self, e: Op) -> str:
        (a,) = e.args
        if e.lanes > 1:
            self.functions.add("convert")
            return f"convert<{self.type(e.dtype, e.lanes)}>({self.expr(a)})"
        text = self.expr(a)
        if e.dtype == a.dtype:
            return f"({text})"
        if e.dtype == "bool":
            return f"({text} != 0)"
        if a.dtype.startswith("float") and not e.dtype.startswith("float"):
            self.functions.add("to_integer")
            return f"to_integer<{CPP_TYPE[e.dtype]}>({text})"
        return f"static_cast<{CPP_TYPE[e.dtype]}>({text})"

    def index(self, form: Linear) -> str:
        """An address: terms with the largest stride first, the constant last."""
        parts: list[tuple[int, str]] = []
        for atom, c in sorted(form.terms, key=lambda t: -abs(t[1])):
            if isinstance(atom, DivMod):
                inner = self.index(atom.form)
                text = f"{inner if inner.isidentifier() else f'({inner})'} {atom.op} {atom.divisor}"
                text = f"({text})" if abs(c) != 1 or atom.op == "%" else f"({text})"
            else:
                text = atom
            parts.append((c, text if abs(c) == 1 else f"{text} * {abs(c)}"))
        out = ""
        for c, text in parts:
            out += (" + " if c > 0 else " - ") + text if out else ("-" if c < 0 else "") + text
        if form.const or not out:
            out += (" + " if form.const > 0 else " - ") + str(abs(form.const)) if out else str(form.const)
        return out


def _wraps(loop: For) -> bool:
    """Whether an address within takes a remainder of the loop's variable by a power of two.

    clang 22's vectoriser takes such an address for linear: test_tile's ``y[...] = x[... + i2 % 4 * 5 + i3 % 5]`` reads
    at 20 in trip 4 of i2. So these loops are kept from it.
    """

    def forms() -> Iterator[Linear]:
        for s in walk(loop.body):
            if isinstance(s, Store):
                yield s.index
            for top in exprs(s):
                for e in walk_expr(top):
                    if isinstance(e, Load):
                        yield e.index
                    elif isinstance(e, Index):
                        yield e.form

    return any(_remainder_of(loop.var, form) for form in forms())


def _remainder_of(var: str, form: Linear) -> bool:
    return any(
        isinstance(atom, DivMod)
        and atom.form.uses(var)
        and (_remainder_of(var, atom.form) or (atom.op == "%" and not atom.divisor & (atom.divisor - 1)))
        for atom, _ in form.terms
    )


def _used_buffers(kernel: Kernel) -> set[str]:
    used = {s.buffer for s in walk(kernel.body) if isinstance(s, Store | ScatteredStore)}
    loads = (e for s in walk(kernel.body) for top in exprs(s) for e in walk_expr(top))
    return used | {e.buffer for e in loads if isinstance(e, Load | Gathered)}


def _accumulated(s: Assign) -> Op | None:
    """`x * w` where the statement is `s += x * w` on vectors of floats."""
    v = s.value
    if isinstance(v, Op) and v.op == "+" and v.lanes > 1 and v.dtype in ("float32", "float64"):
        old, term = v.args
        if isinstance(term, Op) and term.op == "*" and isinstance(old, Ref) and old.name == s.name:
            return term
    return None


def _unsplat(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """The operands with a scalar left to the language to broadcast, which it does for all operators but shifts."""
    if isinstance(b, Op) and b.op == "splat" and not (isinstance(a, Op) and a.op == "splat"):
        return a, b.args[0]
    if isinstance(a, Op) and a.op == "splat" and not (isinstance(b, Op) and b.op == "splat"):
        return a.args[0], b
    return a, b


def literal(value: float | int | bool, dtype: str) -> str:
    """An exact C++ literal: the shortest decimal that reads back as the same number."""
    if dtype == "bool":
        return "true" if value else "false"
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

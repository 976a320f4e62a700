"""TVM's expressions → kernel IR: addresses as linear forms, conditions decided by bounds, vectors of lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlpack.loops.index import Linear, Range, arithmetic, merge_divmod
from dlpack.loops.ir import HALF, Const, Declare, Expr, Gathered, Index, Load, Op, Ref
from dlpack.loops.layout import Layout

VECTOR_DTYPES = {"float32", "int32", "uint32", HALF}
CONVERTIBLE = {"uint8", "int8", "int16"}
CONVERTING = {"cast", "max", "min", "float_of_half_"}
"""What vectors of these types are good for."""
BINARY = {
    "Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "Max": "max", "Min": "min",
    "FloorDiv": "floordiv", "FloorMod": "floormod", "Mod": "%",
    "LT": "<", "LE": "<=", "GT": ">", "GE": ">=", "EQ": "==", "NE": "!=", "And": "&&", "Or": "||",
    "BitwiseAnd": "&", "BitwiseOr": "|", "BitwiseXor": "^", "LShift": "<<", "RShift": ">>",
}  # fmt: skip
LINEAR = {"Add", "Sub", "Mul", "FloorDiv", "FloorMod", "Div", "Mod", "Max", "Min"}
"""Operators on integers whose result may be a linear form."""

WRAPPING = {"add_": "+", "sub_": "-", "mul_": "*"}
"""Runtime functions that compute integers modulo a power of two, where C++'s operator does not; of floats, the operator
itself, which TVM does not look into."""

WHOLE_NUMBERS = {"floordiv", "floormod", "%", "truncdiv_", "truncmod_", "floordiv_", "floormod_", "integer_pow_"}
"""Operations for which no machine has an instruction on vectors."""

NAMED, WITH_NAMES = "dlpack.named", "dlpack.with_names"
"""Calls that TVM does not look into, as it would into its Let, whose values it writes out again to compare integers:
``named(k)`` is the value number k; ``with_names("a", named(0), x, "b", named(1), y, ..., z)`` is z, with x called a."""

TABLE = 256
"""Elements of 8 bits in a table that vectors of integers are looked up in."""

COMPARISONS = {"LT", "LE", "GT", "GE", "EQ"}


class NotVectorisable(Exception):
    """A vector loop holds an access or a type that vectors do not serve: it becomes a scalar loop."""


@dataclass(frozen=True)
class Operand:
    """A parameter of the kernel: its name in C++, where its elements lie, whether it is written.

    A `padded` operand is a packed constant whose blocks are filled up, so that whole vectors may be read. `aligned`: it
    begins at a multiple of the backend's alignment.
    """

    name: str
    layout: Layout
    written: bool = False
    padded: bool = False
    aligned: bool = False


class ExpressionLowering:
    """Lowers expressions in the state that `lower.py` keeps: loop variables, buffers, and the vector being filled.

    While a vector loop is lowered, `lane` is the variable that numbers its lanes, `width` their number, and `valid` how
    many of them are inside the loop. `declared` are the named values that the statement in progress uses.
    """

    def __init__(self) -> None:
        self.operands: dict[str, Operand] = {}
        self.buffers: dict[Any, str] = {}
        self.layouts: dict[str, Layout] = {}
        self.dtypes: dict[str, str] = {}
        self.locals: dict[str, tuple[str, int]] = {}
        self.env: dict[Any, Linear] = {}
        self.lets: dict[Any, Ref] = {}
        self.named: dict[int, Expr] = {}
        self.declared: list[Declare] = []
        self.ranges: dict[str, Range] = {}
        self.names: set[str] = set()
        self.lane: str | None = None
        self.width = 1
        self.valid = 1

    def fresh(self, hint: str) -> str:
        """A name that the kernel has not used."""
        base = "".join(c if c.isalnum() else "_" for c in hint)
        name, k = base, 1
        while name in self.names:
            k += 1
            name = f"{base}{k}" if not base[-1].isdigit() else f"{base}_{k}"
        self.names.add(name)
        return name

    def address(self, name: str, indices: Any) -> Linear | Expr:
        """The element address of an access: linear where all indices are, else an expression."""
        linear = [self.linear(i) for i in indices]
        layout = self.operands[name].layout if name in self.operands else self.layouts[name]
        if all(i is not None for i in linear):
            return merge_divmod(layout.address([i for i in linear if i is not None], self.ranges))
        first, distance = self.computed_address(layout, indices)
        if distance:
            raise NotVectorisable
        return first

    def computed_address(self, layout: Layout, indices: Any) -> tuple[Expr, int]:
        """An address that is data: the first lane's, and how far apart lanes are."""
        forms = [self.linear(i) for i in indices]
        if any(forms[d] is None for d, _ in layout.blocks):
            raise NotVectorisable
        linear = merge_divmod(layout.address([form or Linear() for form in forms], self.ranges))
        distance = linear.coefficient(self.lane) if self.lane else 0
        if distance is None:
            raise NotVectorisable
        total: Expr = Index("int32", 1, Linear())
        for i, form, stride in zip(indices, forms, layout.strides, strict=True):
            if form is None and stride:
                e = self.expr(i)
                if e.lanes > 1:
                    raise NotVectorisable
                total = _add(total, _times(e, stride))
        first = linear - Linear.var(self.lane) * distance if self.lane else linear
        return _add(total, Index("int32", 1, first)), distance

    def linear(self, e: Any) -> Linear | None:
        """An integer as a linear form of the loops' variables; None where it is none, or depends on data."""
        kind = type(e).__name__
        if kind == "IntImm":
            return Linear(int(e.value))
        if kind == "int":
            return Linear(e)
        if kind == "Var":
            return self.env.get(e)
        if kind == "Select":
            return self._linear_choice(e.condition, e.true_value, e.false_value)
        if kind == "Call" and str(e.op.name).endswith("if_then_else"):
            return self._linear_choice(*e.args)
        if kind == "Cast" and dtype_of(e).startswith(("int", "uint")) and dtype_of(e.value).startswith(("int", "uint")):
            return self.linear(e.value)
        if kind in LINEAR and dtype_of(e).startswith("int"):
            a, b = self.linear(e.a), self.linear(e.b)
            return None if a is None or b is None else self._linear_result(kind, a, b)
        return None

    def _linear_choice(self, condition: Any, yes: Any, no: Any) -> Linear | None:
        truth = self.known(condition)
        return None if truth is None else self.linear(yes if truth else no)

    def _linear_result(self, kind: str, a: Linear, b: Linear) -> Linear | None:
        if kind in ("Max", "Min"):
            low, high = (a - b).bounds(self.ranges)
            if low >= 0:
                return a if kind == "Max" else b
            if high <= 0:
                return b if kind == "Max" else a
            return None
        if kind in ("Div", "Mod"):  # they round towards zero
            return arithmetic(f"Floor{kind}", a, b, self.ranges) if a.bounds(self.ranges)[0] >= 0 else None
        return arithmetic(kind, a, b, self.ranges)

    def expr(self, e: Any) -> Expr:
        kind = type(e).__name__
        dtype = dtype_of(e)
        if kind in ("IntImm", "FloatImm"):
            return Const(dtype, 1, bool(e.value) if dtype == "bool" else e.value)
        form = self.linear(e) if dtype.startswith("int") else None
        if form is not None:
            return self.index(dtype, form)
        lower: Callable[[Any, str], Expr] | None = getattr(self, f"_{kind}", None)
        if lower is not None:
            return lower(e, dtype)
        if kind in COMPARISONS:
            return self.compared(e)
        if kind in BINARY:
            return self.op(dtype, BINARY[kind], self.expr(e.a), self.expr(e.b))
        raise NotImplementedError(f"cannot lower TVM's {kind}: {e}")  # a TVM node no operator of ours builds

    def index(self, dtype: str, form: Linear) -> Expr:
        """A form as a value, which is the same for all lanes."""
        if self.lane and form.uses(self.lane):
            raise NotVectorisable
        return Index(dtype, 1, form)

    def _Var(self, e: Any, _: str) -> Expr:
        return self.lets[e]

    def _Cast(self, e: Any, dtype: str) -> Expr:
        return self.op(dtype, "cast", self.expr(e.value))

    def _Select(self, e: Any, dtype: str) -> Expr:
        return self.select(e.condition, e.true_value, e.false_value, dtype)

    def _Not(self, e: Any, _: str) -> Expr:
        return self.op("bool", "!", self.expr(e.a))

    def _BitwiseNot(self, e: Any, dtype: str) -> Expr:
        return self.op(dtype, "bitwise_not", self.expr(e.a))

    def _And(self, e: Any, dtype: str) -> Expr:
        return self.joined(e, dtype, True)

    def _Or(self, e: Any, dtype: str) -> Expr:
        return self.joined(e, dtype, False)

    def joined(self, e: Any, dtype: str, neutral: bool) -> Expr:
        """And, Or: an operand that is known decides, or is left out where it is `neutral`."""
        a, b = self.expr(e.a), self.expr(e.b)
        for x, other in ((a, b), (b, a)):
            if isinstance(x, Const):
                return other if bool(x.value) == neutral else x
        return self.op(dtype, BINARY[type(e).__name__], a, b)

    def compared(self, e: Any) -> Expr:
        truth = self.known(e)
        if truth is not None:
            return Const("bool", 1, truth)
        operand = self.expr if self.comparison(e) is None else self.int_expr
        return self.op("bool", BINARY[type(e).__name__], operand(e.a), operand(e.b))

    def with_names(self, args: list[Any]) -> Expr:
        """A value that uses others by the names which `declared` gives them before the statement in progress."""
        for hint, number, term in zip(args[:-1:3], args[1:-1:3], args[2:-1:3], strict=True):
            value = self.expr(term)
            name = self.fresh(str(hint.value))
            self.declared.append(Declare(name, value.dtype, value.lanes, value, True))
            self.named[int(number.args[1].value)] = Ref(value.dtype, value.lanes, name)
        return self.expr(args[-1])

    def int_expr(self, e: Any) -> Expr:
        """An integer operand of a comparison that is not decided here."""
        form = self.linear(e)
        return self.expr(e) if form is None else self.index(dtype_of(e), form)

    def _Call(self, e: Any, dtype: str) -> Expr:
        name = str(e.op.name).split(".")[-1]
        if name == "if_then_else":
            return self.select(e.args[0], e.args[1], e.args[2], dtype)
        if name == "likely":
            return self.expr(e.args[0])
        if name in ("call_pure_extern", "call_extern"):
            function = str(e.args[0].value)
            if function == WITH_NAMES:
                return self.with_names(list(e.args[1:]))
            if function == NAMED:
                return self.named[int(e.args[1].value)]
            if function in WRAPPING and _wraps(WRAPPING[function], dtype):
                function = WRAPPING[function]
            return self.op(dtype, function, *(self.expr(a) for a in e.args[1:]))
        return self.op(dtype, name, *(self.expr(a) for a in e.args))

    def select(self, condition: Any, yes: Any, no: Any, dtype: str) -> Expr:
        truth = self.expr(condition)
        if isinstance(truth, Const):
            return self.expr(yes if truth.value else no)
        return self.op(dtype, "select", truth, self.expr(yes), self.expr(no))

    def op(self, dtype: str, op: str, *args: Expr) -> Expr:
        lanes = max(a.lanes for a in args)
        if lanes > 1:
            allowed = VECTOR_DTYPES | {"bool"} | (CONVERTIBLE if op in CONVERTING else set())
            if not {dtype, *(a.dtype for a in args if a.lanes > 1)} <= allowed:
                raise NotVectorisable
            if op in WHOLE_NUMBERS or (op == "/" and dtype != "float32"):
                raise NotVectorisable
            if op == "cast" and "bool" in (dtype, args[0].dtype):
                raise NotVectorisable
            if op == "select":
                args = (args[0], splat(args[1], lanes), splat(args[2], lanes))
            elif op not in ("cast", "!", "-", "+", "*", "/", "&&", "||"):
                args = tuple(splat(a, lanes) for a in args)
        return Op(dtype, lanes, op, args)

    def _TensorLoad(self, e: Any, dtype: str) -> Expr:
        name = self.buffers[e.source]
        if any(self.linear(i) is None for i in e.indices):
            if self.lane and [int(d) for d in e.source.shape] == [TABLE] and dtype in ("int8", "uint8"):
                at = self.expr(e.indices[0])
                if at.lanes > 1:
                    return Gathered(dtype, at.lanes, name, at)
            layout = self.operands[name].layout if name in self.operands else self.layouts[name]
            first, distance = self.computed_address(layout, e.indices)
            if distance not in (0, 1) or (distance and dtype not in VECTOR_DTYPES):
                raise NotVectorisable
            return Gathered(dtype, self.width, name, first, self.valid) if distance else Gathered(dtype, 1, name, first)
        index = self.address(name, e.indices)
        assert isinstance(index, Linear)
        if not self.lane:
            return Load(dtype, 1, name, index, 1)
        k = index.coefficient(self.lane)
        if k == 0:
            return Load(dtype, 1, name, index, 1)
        if k != 1 or dtype not in VECTOR_DTYPES | CONVERTIBLE | {"bool"}:
            raise NotVectorisable
        whole = name in self.locals or (name in self.operands and self.operands[name].padded)
        stored = "uint8" if dtype == "bool" else dtype
        load = Load(stored, self.width, name, index - Linear.var(self.lane), self.width if whole else self.valid)
        return self.op("bool", "!=", self.op("int32", "cast", load), Const("int32", 1, 0)) if dtype == "bool" else load

    def comparison(self, e: Any) -> tuple[Linear, ...] | None:
        """The forms that must all be >= 0 for an integer comparison to hold."""
        a, b = self.linear(e.a), self.linear(e.b)
        if a is None or b is None:
            return None
        kind = type(e).__name__
        if kind == "LT":
            return (b - a - 1,)
        if kind == "LE":
            return (b - a,)
        if kind == "GT":
            return (a - b - 1,)
        if kind == "GE":
            return (a - b,)
        return (a - b, b - a)

    def known(self, e: Any) -> bool | None:
        """Whether a condition holds, if the bounds of the loop variables decide it; else None."""
        kind = type(e).__name__
        if kind in ("And", "Or"):
            a, b = self.known(e.a), self.known(e.b)
            settled = kind == "Or"
            return settled if settled in (a, b) else None if None in (a, b) else not settled
        forms = self.comparison(e) if kind in COMPARISONS else None
        if forms is None:
            return None
        bounds = [f.bounds(self.ranges) for f in forms]
        if any(high < 0 for _, high in bounds):
            return False
        return True if all(low >= 0 for low, _ in bounds) else None

    def condition(self, e: Any) -> bool | Expr:
        """A guard's truth where it is known here; inside a vector, a guard on the lane shortens the vector."""
        kind = type(e).__name__
        if kind == "Call" and str(e.op.name).endswith("likely"):
            return self.condition(e.args[0])
        if kind == "And":
            a = self.condition(e.a)
            b = self.condition(e.b) if a is not False else False
            if a is False or b is False:
                return False
            if a is True:
                return b
            return a if b is True else Op("bool", 1, "&&", (a, b))
        if kind == "IntImm":
            return bool(e.value)
        if kind in COMPARISONS:
            forms = self.comparison(e)
            if forms is not None:
                unknown = False
                for form in forms:
                    low, high = form.bounds(self.ranges)
                    if high < 0:
                        return False
                    if low < 0:
                        unknown = True
                        if self.lane and kind in ("LT", "LE") and form.coefficient(self.lane) == -1:
                            room = form + Linear.var(self.lane)
                            if room.is_const:
                                self.valid = min(self.valid, room.const + 1)
                                unknown = False
                if not unknown:
                    return True
        out = self.expr(e)
        if isinstance(out, Const):
            return bool(out.value)
        return out


def operands_of(e: Any) -> list[Any]:
    """The expressions that an expression is made of; of a load, its indices."""
    kind = type(e).__name__
    if kind == "TensorLoad":
        return list(e.indices)
    if kind == "Call":
        return [a for a in e.args if hasattr(a, "ty") and type(a).__name__ != "StringImm"]
    if kind == "Cast":
        return [e.value]
    if kind == "Select":
        return [e.condition, e.true_value, e.false_value]
    if kind in ("Not", "BitwiseNot"):
        return [e.a]
    return [e.a, e.b] if kind in BINARY else []


def leaves(e: Any) -> list[Any]:
    """The variables, constants, loads and named values that an expression is made of, as often as they are written."""
    operands = [] if type(e).__name__ == "TensorLoad" or number_of(e) is not None else operands_of(e)
    return [leaf for o in operands for leaf in leaves(o)] if operands else [e]


def number_of(e: Any) -> int | None:
    """Which of the named values it is, if it is one."""
    called = type(e).__name__ == "Call" and str(e.op.name) == "tirx.call_pure_extern"
    return int(e.args[1].value) if called and str(e.args[0].value) == NAMED else None


def dtype_of(e: Any) -> str:
    """The kernel IR's name of the type of a TVM expression or buffer."""
    dtype = str(e.dtype) if hasattr(e, "dtype") else str(e.ty.dtype)
    return HALF if dtype == "float16" else dtype


def _wraps(op: str, dtype: str) -> bool:
    """Whether C++'s operator will do: it wraps unsigned integers and what is computed as int."""
    plain = ("int8", "uint8", "int16", "uint32", "uint64", "float32", "float64")
    return dtype in plain or (dtype == "uint16" and op != "*")


def splat(e: Expr, lanes: int) -> Expr:
    return e if e.lanes == lanes else Op(e.dtype, lanes, "splat", (e,))


def _times(e: Expr, factor: int) -> Expr:
    if isinstance(e, Index):
        return Index(e.dtype, 1, e.form * factor)
    return e if factor == 1 else Op(e.dtype, 1, "*", (e, Const(e.dtype, 1, factor)))


def _add(a: Expr, b: Expr) -> Expr:
    if isinstance(a, Index) and isinstance(b, Index):
        return Index(a.dtype, 1, a.form + b.form)
    if isinstance(a, Index) and a.form == Linear():
        return b
    if isinstance(b, Index) and b.form == Linear():
        return a
    return Op(b.dtype, 1, "+", (a, b))

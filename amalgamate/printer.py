"""Kernel IR → text of a C-like language: what all dialects have in common. `cpp.py` holds the C++ of CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dlpack.amalgamate.wrap import wrapped
from dlpack.loops.index import DivMod, Linear
from dlpack.loops.ir import (
    HALF,
    Array,
    Assign,
    Barrier,
    Block,
    Const,
    Declare,
    Expr,
    For,
    Gathered,
    If,
    Index,
    Kernel,
    Load,
    LoadTwo,
    Op,
    Pointer,
    Prefetch,
    Ref,
    ScatteredStore,
    Scope,
    Stmt,
    Store,
    While,
    expressions,
    walk,
)
from dlpack.loops.lanes import LANE
from dlpack.loops.pointers import with_pointers

PRECEDENCE = {
    "||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, "<=": 7, ">": 7, ">=": 7,
    "<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10,
}  # fmt: skip
UNARY, ATOM = 11, 12
"""The precedence of a unary operator, and of what needs no parentheses anywhere."""

_COMPARISONS = (PRECEDENCE["=="], PRECEDENCE["<"])
BITWISE = frozenset(("&", "|", "^", "<<", ">>"))
_OPERATOR_CALLS = {
    "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "shift_left": "<<", "shift_right": ">>",
}  # fmt: skip

Term = tuple[str, int]
"""An expression's text and its precedence."""


class Printer:
    """Prints kernels. A dialect is a subclass, which says how its language writes types, literals, the kernel's head,
    who runs a loop's trips, arrays and barriers, vectors, casts and calls.

    A node of the IR is printed by the method that bears its name: a dialect may put its own in the place of any.
    """

    POINTERS = True
    """Whether the language has pointers that are computed with; else every address is written out."""

    def needs(self) -> set[str]:
        """The names of the runtime's sections that the kernels printed so far need."""
        return set()

    def overloads(self) -> set[str]:
        """Sections that they need too, where there are such: functions of other types."""
        return set()

    # --- what a dialect says ------------------------------------------------------------------------------------

    def head(self, kernel: Kernel, name: str, restrict: bool) -> list[str]:
        """The lines from the kernel's name to the bracket that opens its body; `restrict`: no parameters overlap."""
        raise self.lacks("heads of kernels")

    def type(self, dtype: str, lanes: int) -> str:
        """The type of a variable."""
        raise self.lacks("types")

    def literal(self, value: float | int | bool, dtype: str) -> str:
        raise self.lacks("literals")

    def loop(self, s: For, pad: str) -> list[str]:
        """The lines of a loop before its body; the bracket that closes it follows the body."""
        raise self.lacks("loops")

    def array(self, s: Array) -> str:
        """The declaration of an array."""
        raise self.lacks("arrays")

    def pointer(self, s: Pointer) -> str:
        """The declaration of a pointer."""
        raise self.lacks("pointers")

    def load_two(self, s: LoadTwo) -> str:
        """The names of two vectors at a pointer that moves."""
        raise self.lacks("pointers that move")

    def barrier(self) -> str:
        raise self.lacks("barriers")

    def prefetch(self, address: str) -> list[str]:
        """The statement that asks for a cache line, if there is such."""
        return []

    def vector_load(self, e: Load | Gathered, address: str) -> str:
        """A load of a vector's valid lanes."""
        raise self.lacks("vectors")

    def looked_up(self, e: Gathered) -> str:
        """The elements of a table at a vector of indices."""
        raise self.lacks("tables")

    def vector_store(self, s: Store, address: str) -> str:
        """A store of a vector's valid lanes."""
        raise self.lacks("vectors")

    def splat(self, e: Op) -> str:
        """A vector whose lanes are all the same scalar."""
        raise self.lacks("vectors")

    def cast(self, e: Op) -> Term:
        raise self.lacks("casts")

    def call(self, e: Op) -> str:
        """A call of a function that is no operator."""
        raise self.lacks("functions")

    def accumulated(self, s: Assign, x: Expr, w: Expr) -> str | None:
        """``s.name += x * w`` on vectors of floats, where a call does that; None where the operators do."""
        return None

    def kept(self, s: Declare, load: str) -> str:
        """The value of a constant that is a loaded vector and shall stay in a register."""
        return load

    def broadcast(self, op: str, a: Expr, b: Expr) -> tuple[Expr, Expr]:
        """The operands of an operator on vectors, where one is a vector of equal lanes."""
        return a, b

    def narrow(self, e: Op, op: str, text: str, precedence: int) -> Term:
        """The value of an operator, whose type in the language may be wider than the expression's."""
        return text, precedence

    def updates_in_place(self, e: Op) -> bool:
        """Whether ``x op= y`` may stand for ``x = x op y``."""
        return True

    def lacks(self, what: str) -> NotImplementedError:
        """The error of what the language has no form for: no schedule of its machines asks for it."""
        return NotImplementedError(f"{type(self).__name__} has no {what}")

    # --- kernels and statements ---------------------------------------------------------------------------------

    def kernel(self, kernel: Kernel, name: str, restrict: bool = True) -> str:
        """A function's text: no line is longer than `wrap.WIDTH`, where there is a place to break it."""
        kernel = with_pointers(kernel) if self.POINTERS else kernel
        return "\n".join([*self.head(kernel, name, restrict), *self.block(kernel.body, 1), "}"])

    def block(self, stmts: Sequence[Stmt], depth: int) -> list[str]:
        return [line for s in stmts for line in self.stmt(s, depth)]

    def stmt(self, s: Stmt, depth: int) -> list[str]:
        lines: list[str] = getattr(self, f"_{type(s).__name__}")(s, depth)
        return lines

    def line(self, text: str, depth: int) -> list[str]:
        """A statement without a body."""
        return wrapped(f"{'    ' * depth}{text};")

    def _For(self, s: For, depth: int) -> list[str]:
        pad = "    " * depth
        body = self.block(s.body, depth + 1)
        return [*self.loop(s, pad), *body, f"{pad}}}" + (f"  // for {s.var}" if len(body) > 20 else "")]

    def _If(self, s: If, depth: int) -> list[str]:
        pad = "    " * depth
        out = [*wrapped(f"{pad}if ({self.expr(s.condition)}) {{"), *self.block(s.then, depth + 1)]
        if s.otherwise:
            out += [f"{pad}}} else {{", *self.block(s.otherwise, depth + 1)]
        return [*out, f"{pad}}}"]

    def _While(self, s: While, depth: int) -> list[str]:
        pad = "    " * depth
        return [*wrapped(f"{pad}while ({self.expr(s.condition)}) {{"), *self.block(s.body, depth + 1), f"{pad}}}"]

    def _Scope(self, s: Scope, depth: int) -> list[str]:
        pad = "    " * depth
        return [f"{pad}{{", *self.block(s.body, depth + 1), f"{pad}}}"]

    def _Array(self, s: Array, depth: int) -> list[str]:
        return self.line(self.array(s), depth)

    def _Pointer(self, s: Pointer, depth: int) -> list[str]:
        return self.line(self.pointer(s), depth)

    def _LoadTwo(self, s: LoadTwo, depth: int) -> list[str]:
        return self.line(self.load_two(s), depth)

    def _Barrier(self, s: Barrier, depth: int) -> list[str]:
        return self.line(self.barrier(), depth)

    def _Prefetch(self, s: Prefetch, depth: int) -> list[str]:
        return [line for text in self.prefetch(self.address(s.buffer, s.index)) for line in self.line(text, depth)]

    def _Declare(self, s: Declare, depth: int) -> list[str]:
        value = ""
        if s.value is not None:
            value = self.expr(self.as_lanes(s.value, s.lanes))
            if s.constant and isinstance(s.value, Load) and s.lanes > 1:
                value = self.kept(s, value)
            value = f" = {value}"
        return self.line(f"{'const ' if s.constant else ''}{self.type(s.dtype, s.lanes)} {s.name}{value}", depth)

    def _Assign(self, s: Assign, depth: int) -> list[str]:
        v = s.value
        product = _accumulated(s)
        if product is not None:
            call = self.accumulated(s, *(self.as_lanes(a, v.lanes) for a in product.args))
            if call is not None:
                return self.line(f"{s.name} = {call}", depth)
        if isinstance(v, Op) and v.op in ("+", "*") and self.updates_in_place(v):
            first = v.args[0]
            if isinstance(first, Ref) and first.name == s.name:
                return self.line(f"{s.name} {v.op}= {self.expr(v.args[1])}", depth)
        return self.line(f"{s.name} = {self.expr(v)}", depth)

    def _Store(self, s: Store, depth: int) -> list[str]:
        value = s.value
        if value.lanes > 1:
            return self.line(self.vector_store(s, self.address(s.buffer, s.index)), depth)
        target = self.element(s.buffer, self.index(s.index))
        old = Load(value.dtype, 1, s.buffer, s.index, 1)
        if isinstance(value, Op) and value.op in ("+", "*") and value.args[0] == old and _is_float(value):
            return self.line(f"{target} {value.op}= {self.expr(value.args[1])}", depth)
        return self.line(f"{target} = {self.expr(value)}", depth)

    def _ScatteredStore(self, s: ScatteredStore, depth: int) -> list[str]:
        return self.line(f"{self.element(s.buffer, self.expr(s.index))} = {self.expr(s.value)}", depth)

    # --- expressions --------------------------------------------------------------------------------------------

    def as_lanes(self, e: Expr, lanes: int) -> Expr:
        """A scalar as a vector of equal lanes, if a vector is needed."""
        return e if e.lanes == lanes else Op(e.dtype, lanes, "splat", (e,))

    def expr(self, e: Expr, outer: int = 0) -> str:
        """An expression's text, in parentheses where it is an operand of an operator that binds more tightly."""
        text, precedence = self.term(e)
        return f"({text})" if precedence < outer else text

    def term(self, e: Expr) -> Term:
        term: Term = getattr(self, f"_{type(e).__name__}")(e)
        return term

    def _Const(self, e: Const) -> Term:
        return self.literal(e.value, e.dtype), ATOM

    def _Index(self, e: Index) -> Term:
        text = self.index(e.form)
        simple = text.isidentifier() or text.isdigit()
        if e.dtype != "int32" and not (text.isdigit() and e.dtype == "int64"):
            return f"{self.type(e.dtype, 1)}({text})", ATOM
        return text, ATOM if simple else PRECEDENCE["+"]

    def _Ref(self, e: Ref) -> Term:
        return e.name, ATOM

    def _Load(self, e: Load) -> Term:
        if e.lanes > 1:
            return self.vector_load(e, self.address(e.buffer, e.index)), ATOM
        return self.loaded(e.dtype, self.element(e.buffer, self.index(e.index)))

    def _Gathered(self, e: Gathered) -> Term:
        if e.index.lanes > 1:
            return self.looked_up(e), ATOM
        if e.lanes > 1:
            return self.vector_load(e, f"{e.buffer} + {self.expr(e.index)}"), ATOM
        return self.loaded(e.dtype, self.element(e.buffer, self.expr(e.index)))

    def loaded(self, dtype: str, element: str) -> Term:
        """The value of an element: truth is stored as a byte."""
        return (f"{element} != 0", PRECEDENCE["!="]) if dtype == "bool" else (element, ATOM)

    def _Op(self, e: Op) -> Term:
        args = e.args
        op = _OPERATOR_CALLS.get(e.op, e.op)
        if op in PRECEDENCE and len(args) == 2:
            p = PRECEDENCE[op]
            a, b = self.broadcast(op, *args) if e.lanes > 1 else args
            return self.narrow(e, op, f"{self.operand(op, a, p)} {op} {self.operand(op, b, p + 1)}", p)
        if op in ("-", "!"):
            return f"{op}{self.expr(args[0], UNARY)}", UNARY
        if op == "bitwise_not":
            return self.narrow(e, "~", f"~{self.expr(args[0], UNARY)}", UNARY)
        if op == "select" and e.args[0].lanes == 1:  # what is not chosen may lie outside, and is not loaded
            text = f"{self.expr(args[0], 1)} ? {self.expr(args[1], 1)} : {self.expr(args[2], 0)}"
            return self.narrow(e, "?", text, 0)
        if op == "cast":
            return self.cast(e)
        if op == LANE:
            return f"{self.expr(args[0], ATOM)}[{self.expr(args[1])}]", ATOM
        return (self.splat(e) if op == "splat" else self.call(e)), ATOM

    def operand(self, op: str, e: Expr, p: int) -> str:
        """An operand of a binary operator; in parentheses too where compilers warn that few know the precedence."""
        text, precedence = self.term(e)
        inner = _OPERATOR_CALLS.get(e.op, e.op) if isinstance(e, Op) and len(e.args) == 2 else ""
        mixed = (op == "||" and inner == "&&") or (op in BITWISE and inner in PRECEDENCE and inner != op)
        mixed |= precedence in _COMPARISONS and PRECEDENCE["|"] <= PRECEDENCE[op] <= PRECEDENCE["<"]
        if op == "+" and isinstance(e, Index) and not text.startswith("-"):
            p = PRECEDENCE["+"]  # a sum of integers is the same in any order
        return f"({text})" if precedence < p or (mixed and precedence < ATOM) else text

    # --- addresses ----------------------------------------------------------------------------------------------

    def address(self, buffer: str, index: Linear) -> str:
        return f"{buffer} + {self.index(index)}" if index != Linear() else buffer

    def element(self, buffer: str, index: str) -> str:
        return f"{buffer}[{index}]"

    def index(self, form: Linear) -> str:
        """An address: terms with the largest stride first, the constant last."""
        if not form.const and len(form.terms) == 1 and form.terms[0][1] == 1 and isinstance(form.terms[0][0], DivMod):
            return self.divided(form.terms[0][0])
        out = ""
        for atom, c in sorted(form.terms, key=lambda t: -abs(t[1])):
            text = atom if isinstance(atom, str) else f"({self.divided(atom)})"
            text = text if abs(c) == 1 else f"{text} * {abs(c)}"
            out += (" + " if c > 0 else " - ") + text if out else ("-" if c < 0 else "") + text
        if form.const or not out:
            out += (" + " if form.const > 0 else " - ") + str(abs(form.const)) if out else str(form.const)
        return out

    def divided(self, atom: DivMod) -> str:
        inner = self.index(atom.form)
        return f"{inner if inner.isidentifier() else f'({inner})'} {atom.op} {atom.divisor}"


def used_buffers(kernel: Kernel) -> set[str]:
    """The parameters and arrays that a kernel reads or writes."""
    stored = {s.buffer for s in walk(kernel.body) if isinstance(s, Store | ScatteredStore | Pointer)}
    return stored | {e.buffer for e in expressions(kernel.body) if isinstance(e, Load | Gathered)}


def address_wraps(loop: For) -> bool:
    """Whether an address within takes a remainder of the loop's variable by a power of two."""
    return any(_remainder_of(loop.var, form) for form in _forms(loop.body))


def _forms(body: Block) -> Iterator[Linear]:
    yield from (s.index for s in walk(body) if isinstance(s, Store | Pointer))
    for e in expressions(body):
        if isinstance(e, Load):
            yield e.index
        elif isinstance(e, Index):
            yield e.form


def _remainder_of(var: str, form: Linear) -> bool:
    return any(
        isinstance(atom, DivMod)
        and atom.form.uses(var)
        and (_remainder_of(var, atom.form) or (atom.op == "%" and not atom.divisor & (atom.divisor - 1)))
        for atom, _ in form.terms
    )


def _is_float(e: Expr) -> bool:
    return e.dtype in ("float32", "float64", HALF)


def _accumulated(s: Assign) -> Op | None:
    """`x * w` where the statement is `s += x * w` on vectors of floats."""
    v = s.value
    if isinstance(v, Op) and v.op == "+" and v.lanes > 1 and _is_float(v):
        old, term = v.args
        if isinstance(term, Op) and term.op == "*" and isinstance(old, Ref) and old.name == s.name:
            return term
    return None

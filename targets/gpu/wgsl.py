"""WGSL: kernel IR → the shaders of WebGPU, and the device functions that they need.

A shader sees two buffers, `arena` (all that a run computes, inputs and outputs too) and `weights`, and a uniform that
says where in them the operands of this dispatch begin. What WGSL has no types for is refused: `Unsupported` says what.
"""

from __future__ import annotations

import math
import re
from importlib import resources

import numpy as np

from dlpack.amalgamate.printer import ATOM, BITWISE, PRECEDENCE, UNARY, Term
from dlpack.amalgamate.runtime import Section, closure, sections
from dlpack.loops.ir import (
    Array,
    Const,
    Declare,
    Expr,
    For,
    Gathered,
    Index,
    Kernel,
    Load,
    LoopAxis,
    Op,
    ScatteredStore,
    Space,
    Store,
    expressions,
    walk,
)
from dlpack.loops.lanes import LANE
from dlpack.targets.gpu.launch import MOST_BLOCKS, launch_of
from dlpack.targets.gpu.printer import LANES, OVER_BLOCK, GpuPrinter, arrays_of_vectors, in_vectors

MOST_OPERANDS = 64
"""Of a kernel: a uniform binding of 256 bytes tells where they are."""

_TYPE = {"float32": "f32", "int32": "i32", "int64": "i32", "uint32": "u32", "bool": "bool"}
_BYTES = ("bool", "int8", "uint8")
_BUILTIN = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "nearbyint": "round", "round": "round",
            "fabs": "abs", "abs": "abs", "sqrt": "sqrt"}  # fmt: skip
_WRAPPING = {"add": "+", "sub": "-", "mul": "*"}
_OF_BLOCK = {
    "block_sum": "a + b",
    "block_product": "a * b",
    "block_max": "max(a, b)",
    "block_min": "min(a, b)",
}
_RESERVED = re.compile(
    r"\b(NULL|Self|abstract|active|alignas|alignof|as|asm|attribute|auto|await|become|cast|catch|class|common|compile|"
    r"concept|coherent|demote|do|dynamic_cast|enum|explicit|export|extends|extern|external|filter|final|finally|friend|"
    r"from|fxgroup|get|goto|groupshared|handle|highp|impl|implements|import|inline|instanceof|interface|layout|lowp|"
    r"macro|match|mediump|meta|mod|module|move|mut|mutable|namespace|new|nil|noexcept|noinline|noperspective|null|of|"
    r"operator|package|partition|pass|patch|precise|precision|premerge|priv|protected|pub|public|readonly|ref|"
    r"regardless|register|require|resource|restrict|self|set|shared|sizeof|smooth|snorm|static|std|subroutine|super|"
    r"target|template|this|thread_local|throw|trait|try|type|typedef|typeid|typename|typeof|union|unless|unorm|unsafe|"
    r"unsized|use|using|varying|virtual|volatile|wgsl|where|with|writeonly|yield)\b"
)


class Unsupported(Exception):
    """What a kernel needs and WGSL does not have, in words."""


class WgslPrinter(GpuPrinter):
    """Prints the kernels of a program; `constant` operands of the next kernel are the weights.

    64-bit integers are their lower halves: they may be indices, be compared and be chosen among, no more. Bytes are
    read, and never written. `functions` are the sections of device.wgsl that the kernels need.
    """

    def __init__(self) -> None:
        super().__init__()
        self.functions: set[str] = set()
        self.over_block: set[tuple[str, str, int]] = set()
        self.bindings: set[tuple[str, str]] = set()
        self.shared: list[str] = []
        self.constants: frozenset[int] = frozenset()
        self.threads = 0

    # --- kernels ------------------------------------------------------------------------------------------------

    def shader(self, kernel: Kernel, name: str, constants: frozenset[int]) -> str:
        """A kernel whose parameters numbered in `constants` are weights. Raises Unsupported."""
        check(kernel)
        self.constants = constants
        return self.kernel(kernel, name)

    def kernel(self, kernel: Kernel, name: str, restrict: bool = True) -> str:
        launch = launch_of(kernel)
        self.name, self.threads, self.grid = name, launch.block[0], launch.grid
        self.dtypes = {p.name: p.dtype for p in kernel.params}
        arrays = {s.name: s for s in walk(kernel.body) if isinstance(s, Array)}
        self.scratch = {a.name: a for a in arrays.values() if a.space is Space.SCRATCH}
        self.dtypes |= {a.name: a.dtype for a in self.scratch.values()}
        self.shared_vectors = arrays_of_vectors(kernel, Space.SHARED)
        self.shared_arrays = {a.name for a in arrays.values() if a.space is Space.SHARED}
        self.spaces = {p.name: "weights" if i in self.constants else "arena" for i, p in enumerate(kernel.params)}
        self.spaces |= dict.fromkeys(self.scratch, "arena")
        self.elements = {s: self._element_of(kernel, s) for s in ("arena", "weights") if s in self.spaces.values()}
        written = {p.name for p in kernel.params if p.written} | self.scratch.keys()
        read = {e.buffer for e in expressions(kernel.body) if isinstance(e, Load | Gathered)}
        self.meets_in_storage = bool(written & read)
        return _RESERVED.sub(r"\1_", super().kernel(kernel, name, restrict))

    def _element_of(self, kernel: Kernel, space: str) -> str:
        """What a buffer is an array of, in this shader: floats, if all that it reads and writes there are, and vectors
        if it reads some. A single one of their floats can be read, but not be written while its neighbours are."""
        names = {n for n, s in self.spaces.items() if s == space}
        if any(self.dtypes[n] != "float32" for n in names):
            return "u32"
        vectors = {e.buffer for e in expressions(kernel.body) if isinstance(e, Load | Gathered) and e.lanes == LANES}
        stored = {s.buffer for s in walk(kernel.body) if isinstance(s, Store) and s.value.lanes != LANES}
        stored |= {s.buffer for s in walk(kernel.body) if isinstance(s, ScatteredStore)}
        return "vec4f" if names & vectors and not names & (stored | self.scratch.keys()) else "f32"

    def head(self, kernel: Kernel, name: str, restrict: bool) -> list[str]:
        names = [p.name for p in kernel.params] + (["scratch"] if kernel.scratch else [])
        if len(names) > MOST_OPERANDS:
            raise Unsupported(f"a kernel with {len(names)} operands")
        out = [
            f"@compute @workgroup_size({self.threads})",
            f"fn {name}(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane_index: u32) {{",
            "    let thread = i32(lane_index);",
        ]
        total = math.prod(self.grid)
        if max(self.grid) > MOST_BLOCKS:
            out += [
                f"    let number = i32(group.x + group.y * {MOST_BLOCKS}u);",
                f"    if (number >= {total}) {{ return; }}",
            ]
        for i, n in enumerate(names):
            out.append(f"    let {n}_at = operands[{i // 4}].{'xyzw'[i % 4]};")
        return out

    def block_index(self, dimension: int) -> str:
        if max(self.grid) <= MOST_BLOCKS:
            return f"i32(group.{'xyz'[dimension]})"
        before = math.prod(self.grid[:dimension])
        return f"number / {before} % {self.grid[dimension]}"

    def constant(self, name: str, value: str) -> str:
        return f"let {name} = {value}"

    def guarded(self, s: For, pad: str) -> list[str]:
        return [f"{pad}if ({self.first(s)} < {s.end}) {{", f"{pad}    let {s.var} = {self.first(s)};"]

    def loop(self, s: For, pad: str) -> list[str]:
        step = f"{s.var}++" if s.step == 1 else f"{s.var} += {s.step}"
        begin = self.first(s) if s.axis is LoopAxis.THREAD else str(s.begin)
        return [f"{pad}for (var {s.var} = {begin}; {s.var} < {s.end}; {step}) {{"]

    def barrier(self) -> str:
        return "storageBarrier(); workgroupBarrier()" if self.meets_in_storage else "workgroupBarrier()"

    def line(self, text: str, depth: int) -> list[str]:
        """Not wrapped: the text is downloaded."""
        return [f"{'    ' * depth}{text};"]

    # --- variables ----------------------------------------------------------------------------------------------

    def type(self, dtype: str, lanes: int) -> str:
        return "vec4f" if lanes == LANES else _TYPE.get(dtype, "i32")

    def _Array(self, s: Array, depth: int) -> list[str]:
        if s.space is Space.SCRATCH:
            return []
        if s.space is Space.SHARED:
            wide = s.name in self.shared_vectors
            kind = f"array<vec4f, {s.size // LANES}>" if wide else f"array<{self.type(s.dtype, 1)}, {s.size}>"
            text = f"var<workgroup> {self.name}_{s.name}: {kind};"
            if text not in self.shared:
                self.shared.append(text)
            return []
        wide = s.name in self.vectors
        kind = f"array<vec4f, {s.size // LANES}>" if wide else f"array<{self.type(s.dtype, 1)}, {s.size}>"
        return self.line(f"var {s.name}: {kind}", depth)

    def _Declare(self, s: Declare, depth: int) -> list[str]:
        value = "" if s.value is None else f" = {self.expr(self.as_lanes(s.value, s.lanes))}"
        if s.constant and value:
            return self.line(f"let {s.name}{value}", depth)
        return self.line(f"var {s.name}: {self.type(s.dtype, s.lanes)}{value}", depth)

    def literal(self, value: float | int | bool, dtype: str) -> str:
        if dtype == "bool":
            return "true" if value else "false"
        if dtype == "float32":
            if not math.isfinite(value):
                self.functions.add("numbers")
                return "not_a_number()" if math.isnan(value) else f"{'-' if value < 0 else ''}infinity()"
            if abs(value) > 3.4e38:  # in decimals, rounded up, it would be too large
                return f"{float(value).hex()}f"
            text = str(np.float32(value))
            return text + ("f" if "e" in text or "." in text else ".0f")
        if not -(1 << 31) <= int(value) < (1 << 32 if dtype == "uint32" else 1 << 31):
            raise Unsupported(f"the integer {int(value)}")
        return f"{int(value)}u" if dtype == "uint32" else str(int(value))

    # --- memory -------------------------------------------------------------------------------------------------

    def _Load(self, e: Load) -> Term:
        if e.lanes > 1:
            if e.buffer not in self.spaces and self._wide(e.buffer):
                return f"{self._array(e.buffer)}[{self.index(in_vectors(e.index))}]", ATOM
            return self._vector(e.buffer, self.index(e.index)), ATOM
        return self._read(e.buffer, self.index(e.index), e.dtype)

    def _Gathered(self, e: Gathered) -> Term:
        text = self.expr(e.index)
        if e.lanes > 1:
            return self._vector(e.buffer, text), ATOM
        return self._read(e.buffer, text, e.dtype)

    def _store(self, buffer: str, index: str, value: Expr, depth: int) -> list[str]:
        text = self.expr(value)
        if buffer not in self.spaces:
            return self.line(f"{self._array(buffer)}[{index}] = {text}", depth)
        dtype, kind = self.dtypes[buffer], self.elements[self.spaces[buffer]]
        if dtype in _BYTES:
            raise Unsupported(f"bytes that are written ({dtype})")
        if dtype == "int64":
            low, high = (f"{self._place(buffer, f'({index}) * 2 + {k}')} = " for k in (0, 1))
            inside = [*self.line(f"let wide = {text}", depth + 1), *self.line(f"{low}bitcast<u32>(wide)", depth + 1)]
            pad = "    " * depth
            return [f"{pad}{{", *inside, *self.line(f"{high}bitcast<u32>(wide >> 31u)", depth + 1), f"{pad}}}"]
        text = text if kind == _TYPE[dtype] else f"bitcast<{kind}>({text})"
        return self.line(f"{self._place(buffer, index)} = {text}", depth)

    def _Store(self, s: Store, depth: int) -> list[str]:
        if s.value.lanes == 1:
            return self._store(s.buffer, self.index(s.index), s.value, depth)
        if self._wide(s.buffer):
            if s.buffer in self.spaces:
                target = self._in_vectors(s.buffer, self.index(s.index))
            else:
                target = f"{self._array(s.buffer)}[{self.index(in_vectors(s.index))}]"
            return self.line(f"{target} = {self.expr(s.value)}", depth)
        value = self.expr(s.value)
        value = f"bitcast<vec4u>({value})" if self._holds_words(s.buffer) else value
        lanes = [f"{self._whole(s.buffer, self.index(s.index + k))} = four.{'xyzw'[k]}" for k in range(LANES)]
        pad = "    " * depth
        inside = [line for text in lanes for line in self.line(text, depth + 1)]
        return [f"{pad}{{", *self.line(f"let four = {value}", depth + 1), *inside, f"{pad}}}"]

    def _ScatteredStore(self, s: ScatteredStore, depth: int) -> list[str]:
        return self._store(s.buffer, self.expr(s.index), s.value, depth)

    def _array(self, buffer: str) -> str:
        """An array's name: those that threads share are declared outside the function."""
        return f"{self.name}_{buffer}" if buffer in self.shared_arrays else buffer

    def _wide(self, buffer: str) -> bool:
        """Whether the elements are vectors, in memory as the shader sees it."""
        if buffer in self.spaces:
            return self.elements[self.spaces[buffer]] == "vec4f"
        return buffer in self.shared_vectors or buffer in self.vectors

    def _whole(self, buffer: str, index: str) -> str:
        return self._place(buffer, index) if buffer in self.spaces else f"{self._array(buffer)}[{index}]"

    def _place(self, buffer: str, index: str) -> str:
        """The element of `arena` or `weights` where an operand's element lies."""
        space = self.spaces[buffer]
        kind = self.elements[space]
        self.bindings.add((space, kind))
        start = f"{buffer}_at"
        if buffer in self.scratch:
            start = f"scratch_at + {self.scratch[buffer].offset // 4}"
        return f"{space}_{kind}[{start} + {index}]"

    def _read(self, buffer: str, index: str, dtype: str) -> Term:
        if buffer not in self.spaces:
            return f"{self._array(buffer)}[{index}]", ATOM
        stored, kind = self.dtypes[buffer], self.elements[self.spaces[buffer]]
        if stored in _BYTES:
            self.functions.add("byte")
            space = self.spaces[buffer]
            self.bindings.add((space, kind))
            at = f"{buffer}_at + {index}"
            byte = f"byte_of({space}_{kind}[({at}) / 4], {at})"
            if stored == "bool":
                return f"{byte} != 0u", PRECEDENCE["!="]
            return (f"i32({byte})" if stored == "uint8" else f"bitcast<i32>({byte} << 24u) >> 24u"), PRECEDENCE[">>"]
        if kind == "vec4f":
            at = f"({buffer}_at + {index})"
            return f"{self._in_vectors(buffer, index)}[{at} % {LANES}]", ATOM
        text = self._place(buffer, f"({index}) * 2" if stored == "int64" else index)
        return (text if kind == _TYPE[stored] else f"bitcast<{_TYPE[stored]}>({text})"), ATOM

    def _in_vectors(self, buffer: str, first: str) -> str:
        """The vector of `arena` or `weights` that begins at an operand's element."""
        space = self.spaces[buffer]
        self.bindings.add((space, "vec4f"))
        return f"{space}_vec4f[({buffer}_at + {first}) / {LANES}]"

    def _vector(self, buffer: str, first: str) -> str:
        if self._wide(buffer):
            return self._in_vectors(buffer, first)
        lanes = ", ".join(self._whole(buffer, f"{first} + {k}" if k else first) for k in range(LANES))
        return f"bitcast<vec4f>(vec4u({lanes}))" if self._holds_words(buffer) else f"vec4f({lanes})"

    def _holds_words(self, buffer: str) -> bool:
        """Whether a parameter's floats are seen as integers, since others of its buffer are."""
        return buffer in self.spaces and self.elements[self.spaces[buffer]] == "u32"

    # --- operators ----------------------------------------------------------------------------------------------

    def operand(self, op: str, e: Expr, p: int) -> str:
        """WGSL has no precedence between most kinds of operators: what is mixed needs parentheses."""
        text, precedence = self.term(e)
        compared = PRECEDENCE["=="] <= p <= PRECEDENCE["<"] + 1 and precedence <= PRECEDENCE["<"]
        if (op in BITWISE and precedence < UNARY) or compared or (op in ("&&", "||") and precedence <= PRECEDENCE["&"]):
            return f"({text})"
        return super().operand(op, e, p)

    def _Op(self, e: Op) -> Term:
        args = e.args
        if e.op == LANE and isinstance(args[1], Const):
            return f"{self.expr(args[0], ATOM)}.{'xyzw'[int(args[1].value)]}", ATOM
        if e.op in OVER_BLOCK:
            return f"{self._over_block(e.op, e.dtype)}({self.expr(args[0])}, thread)", ATOM
        if e.op == "select":
            chosen = ", ".join(self.expr(self.as_lanes(a, e.lanes)) for a in (args[2], args[1]))
            return f"select({chosen}, {self.expr(args[0])})", ATOM
        if e.op in ("<<", ">>", "shift_left", "shift_right"):
            op = "<<" if e.op in ("<<", "shift_left") else ">>"
            return f"{self.expr(args[0], UNARY)} {op} u32({self.expr(args[1])})", PRECEDENCE[op]
        if e.op in _WRAPPING:
            return super()._Op(Op(e.dtype, e.lanes, _WRAPPING[e.op], args))
        return super()._Op(e)

    def _over_block(self, op: str, dtype: str) -> str:
        kind = self.type(dtype, 1)
        self.over_block.add((op, kind, self.threads))
        return f"{op}_{kind}_{self.threads}"

    def splat(self, e: Op) -> str:
        return f"vec4f({self.expr(e.args[0])})"

    def cast(self, e: Op) -> Term:
        (a,) = e.args
        to, of = self.type(e.dtype, 1), self.type(a.dtype, 1)
        if to == of:
            return self.term(a)
        if to == "bool":
            zero = self.literal(0, "float32" if of == "f32" else "uint32" if of == "u32" else "int32")
            return f"{self.operand('!=', a, PRECEDENCE['!='])} != {zero}", PRECEDENCE["!="]
        return f"{to}({self.expr(a)})", ATOM

    def call(self, e: Op) -> str:
        name = e.op.removesuffix("_")
        args = ", ".join(self.expr(a) for a in e.args)
        if name == "reinterpret":
            return f"bitcast<{self.type(e.dtype, e.lanes)}>({args})"
        if e.lanes > 1:
            raise Unsupported(f"{name} of vectors")
        if name in _BUILTIN:
            return f"{_BUILTIN[name]}({args})"
        if name in ("max", "min", "vmax", "vmin") and e.dtype != "float32":
            return f"{name[-3:]}({args})"
        if name in ("vmax", "vmin"):
            return f"select({self.expr(e.args[1])}, {self.expr(e.args[0])}, {self._less(name, e)})"
        if name not in device_sections() or (e.dtype == "uint32" and name.endswith(("div", "mod"))):
            raise Unsupported(f"the function {name}{' of uint32' if e.dtype == 'uint32' else ''}")
        self.functions.add(name)
        return f"{name}_({args})"

    def _less(self, name: str, e: Op) -> str:
        op = "<" if name == "vmin" else ">"
        return f"{self.operand(op, e.args[0], PRECEDENCE[op])} {op} {self.operand(op, e.args[1], PRECEDENCE[op] + 1)}"

    def declarations(self) -> str:
        """What stands before the kernels printed so far: their bindings, the arrays that threads share, functions."""
        access = {"arena": (0, "read_write"), "weights": (1, "read")}
        out = [
            f"@group(0) @binding({access[s][0]}) var<storage, {access[s][1]}> {s}_{kind}: array<{kind}>;"
            for s, kind in sorted(self.bindings)
        ]
        out.append("// Where this dispatch's operands begin, in elements.")
        out.append(f"@group(0) @binding(2) var<uniform> operands: array<vec4i, {MOST_OPERANDS // 4}>;")
        out += self.shared
        for kind, threads in sorted({(kind, threads) for _, kind, threads in self.over_block}):
            out.append(f"var<workgroup> parts_{kind}_{threads}: array<{kind}, {threads}>;")
        out += [s.text for s in closure(device_sections(), self.functions)]
        return "\n\n".join(["\n".join(out), *(over_block(*o) for o in sorted(self.over_block))])


def over_block(op: str, kind: str, threads: int) -> str:
    """The function that gives all threads of a block what `op` makes of the value of each."""
    parts = f"parts_{kind}_{threads}"
    return f"""fn {op}_{kind}_{threads}(value: {kind}, thread: i32) -> {kind} {{
    {parts}[thread] = value;
    for (var distance = {threads // 2}; distance > 0; distance /= 2) {{
        workgroupBarrier();
        if (thread < distance) {{
            let a = {parts}[thread];
            let b = {parts}[thread + distance];
            {parts}[thread] = {_OF_BLOCK[op]};
        }}
    }}
    return workgroupUniformLoad(&{parts}[0]);
}}"""


def device_sections() -> dict[str, Section]:
    """The functions of device.wgsl."""
    return sections([(resources.files(__package__) / "device.wgsl").read_text(encoding="utf-8")])


def check(kernel: Kernel) -> None:
    """Raises Unsupported where a kernel has values for which WGSL has no type, or does with one what it cannot."""
    for p in kernel.params:
        if p.dtype not in (*_TYPE, *_BYTES):
            raise Unsupported(f"values of {p.dtype}")
        if p.written and p.dtype in _BYTES:
            raise Unsupported(f"{p.dtype} values in memory that are written: WGSL writes 4 bytes at least")
    for s in walk(kernel.body):
        if isinstance(s, Declare | Array) and s.dtype not in (*_TYPE, *_BYTES):
            raise Unsupported(f"values of {s.dtype}")
        if isinstance(s, Array) and s.space is Space.SCRATCH and s.dtype in (*_BYTES, "int64"):
            raise Unsupported(f"scratch memory for {s.dtype}")
    for e in expressions(kernel.body):
        if e.dtype not in (*_TYPE, *_BYTES):
            raise Unsupported(f"values of {e.dtype}")
        if isinstance(e, Op) and (what := _impossible(e)):
            raise Unsupported(what)


_OF_INT64 = ("select", "cast", "min", "max", "vmin", "vmax")


def _impossible(e: Op) -> str:
    """What an operation does that its type cannot: arithmetic of bytes, and of 64 bits beyond 32."""
    op = e.op.removesuffix("_")
    if e.dtype in ("int8", "uint8") and op != "select":
        return f"arithmetic of {e.dtype}"
    if e.dtype == "int64" and op not in _OF_INT64:
        known = sum(isinstance(a, Const | Index) for a in e.args)
        if op not in ("+", "-", "add", "sub") or known < len(e.args) - 1:
            return "64-bit arithmetic"
    if op == "cast" and e.dtype == "int64" and e.args[0].dtype in ("float32", "uint32"):
        return f"64-bit integers of {e.args[0].dtype}"
    return ""

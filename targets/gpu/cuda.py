"""CUDA C: kernel IR → text for NVRTC, and the device functions that the text needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources

from dlpack.amalgamate.cpp import CPP_TYPE, CppPrinter, literal
from dlpack.amalgamate.printer import ATOM, Term, used_buffers
from dlpack.amalgamate.runtime import closure, sections
from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    Array,
    Const,
    Declare,
    For,
    Gathered,
    Kernel,
    Load,
    LoopAxis,
    Op,
    ScatteredStore,
    Space,
    Stmt,
    Store,
    expressions,
    walk,
)
from dlpack.loops.lanes import LANE
from dlpack.runtime_c import read_runtime
from dlpack.targets.gpu.launch import launch_of

LANES = 4
_OVER_BLOCK = ("block_sum", "block_product", "block_max", "block_min")


class CudaPrinter(CppPrinter):
    """Blocks and threads are CUDA's; a vector is four floats at a multiple of 16 bytes. Every address is written out:
    threads have few registers for pointers, and the device compiler finds what addresses have in common."""

    POINTERS = False

    def __init__(self) -> None:
        super().__init__()
        self.vectors: set[str] = set()
        """The kernel's arrays in registers whose elements are vectors."""

    def kernel(self, kernel: Kernel, name: str, restrict: bool = True) -> str:
        self.vectors = _arrays_of_vectors(kernel)
        return super().kernel(kernel, name, restrict)

    def needs(self) -> set[str]:
        return super().needs() - {"scalar_loop", "twice"}

    def head(self, kernel: Kernel, name: str, restrict: bool) -> list[str]:
        used = used_buffers(kernel)
        params = []
        for p in kernel.params:
            label = p.name if p.name in used else f"/*{p.name}*/"
            params.append(
                f"{'' if p.written else 'const '}{CPP_TYPE[p.dtype]}* {'__restrict__ ' if restrict else ''}{label}"
            )
        if kernel.scratch:
            params.append("uint8_t* scratch")
        threads = launch_of(kernel).block[0]
        start = f'extern "C" __global__ void __launch_bounds__({threads}) {name}('
        return [start, *(f"    {p}," for p in params[:-1]), f"    {params[-1] if params else ''}) {{"]

    def loop(self, s: For, pad: str) -> list[str]:
        step = f"++{s.var}" if s.step == 1 else f"{s.var} += {s.step}"
        begin = _first(s) if s.axis is LoopAxis.THREAD else str(s.begin)
        unroll = [f"{pad}#pragma unroll"] if s.unrolled else []
        return [*unroll, f"{pad}for (int {s.var} = {begin}; {s.var} < {s.end}; {step}) {{"]

    def block(self, stmts: Sequence[Stmt], depth: int) -> list[str]:
        """A trip for each thread at the end of a block needs no scope of its own."""
        last = stmts[-1] if stmts else None
        if not isinstance(last, For) or last.axis is not LoopAxis.THREAD or last.end - last.begin != last.step:
            return super().block(stmts, depth)
        pad = "    " * depth
        index = [] if last.step == 1 else [f"{pad}const int {last.var} = {_first(last)};"]
        return [*super().block(stmts[:-1], depth), *index, *self.block(last.body, depth)]

    def _For(self, s: For, depth: int) -> list[str]:
        """A loop over blocks, or over no more trips than there are threads, is none: each has its own trip."""
        pad = "    " * depth
        trips = s.end - s.begin
        if s.axis is LoopAxis.BLOCK:
            return self._grid(s, pad, depth)
        if s.axis is not LoopAxis.THREAD or trips > s.step:
            return super()._For(s, depth)
        if trips == s.step:
            return [f"{pad}{{", *self.block((s,), depth + 1), f"{pad}}}"]
        if trips == 1 and not s.begin:
            return [f"{pad}if (threadIdx.x == 0) {{", *self.block(s.body, depth + 1), f"{pad}}}"]
        head = f"{pad}if (const int {s.var} = {_first(s)}; {s.var} < {s.end}) {{"
        return [head, *self.block(s.body, depth + 1), f"{pad}}}"]

    def _grid(self, s: For, pad: str, depth: int) -> list[str]:
        inner = s.body[0] if len(s.body) == 1 else None
        outer = 0
        while isinstance(inner, For) and inner.axis is LoopAxis.BLOCK:
            outer += 1
            inner = inner.body[0] if len(inner.body) == 1 else None
        index = [f"{pad}const int {s.var} = blockIdx.{'xyz'[outer]};"] if s.end > 1 else []
        return [*index, *self.block(s.body, depth)]

    def array(self, s: Array) -> str:
        kind = CPP_TYPE[s.dtype]
        if s.space is Space.SHARED:
            return f"alignas(16) __shared__ {kind} {s.name}[{s.size}]"
        if s.space is Space.SCRATCH:
            return super().array(s)
        if s.name in self.vectors:
            return f"{self.type(s.dtype, LANES)} {s.name}[{s.size // LANES}]"
        return f"{kind} {s.name}[{s.size}]"

    def prefetch(self, address: str) -> list[str]:
        return []

    def barrier(self) -> str:
        return "__syncthreads()"

    def literal(self, value: float | int | bool, dtype: str) -> str:
        if dtype in ("float32", "float64") and not math.isfinite(value):
            self.functions.add("constants_")
            kind = f"constants<{CPP_TYPE[dtype]}>"
            return f"{kind}::nan" if math.isnan(value) else f"{'-' if value < 0 else ''}{kind}::inf"
        return literal(value, dtype)

    def address(self, buffer: str, index: Linear) -> str:
        """Written as an element's, so that a test's compiler sees whether it is inside an array."""
        return f"&{self.element(buffer, self.index(index))}"

    def vector_load(self, e: Load | Gathered, address: str) -> str:
        if e.buffer in self.vectors and isinstance(e, Load):
            return self.element(e.buffer, self.index(_in_vectors(e.index)))
        self.functions.add("load4")
        return f"load4({address})"

    def _Gathered(self, e: Gathered) -> Term:
        if e.lanes > 1:
            return self.vector_load(e, f"&{self.element(e.buffer, self.expr(e.index))}"), ATOM
        return super()._Gathered(e)

    def vector_store(self, s: Store, address: str) -> str:
        if s.buffer in self.vectors:
            return f"{self.element(s.buffer, self.index(_in_vectors(s.index)))} = {self.expr(s.value)}"
        self.functions.add("store4")
        return f"store4({address}, {self.expr(s.value)})"

    def kept(self, s: Declare, load: str) -> str:
        return load

    def _Op(self, e: Op) -> Term:
        if e.op == LANE and isinstance(e.args[1], Const):
            return f"{self.expr(e.args[0], ATOM)}.{'xyzw'[int(e.args[1].value)]}", ATOM
        if e.op in _OVER_BLOCK:
            value, threads = e.args
            self.functions.add(e.op)
            return f"{e.op}<{self.expr(threads)}>({self.expr(value)})", ATOM
        if e.op == "select" and e.args[0].lanes == 1:  # what is not chosen is not loaded
            text = f"{self.expr(e.args[0], 1)} ? {self.expr(e.args[1], 1)} : {self.expr(e.args[2], 0)}"
            return self.narrow(e, "?", text, 0)
        return super()._Op(e)


def _arrays_of_vectors(kernel: Kernel) -> set[str]:
    """The arrays in registers that are only accessed by whole vectors."""
    arrays = {s.name for s in walk(kernel.body) if isinstance(s, Array) and s.space is Space.REGISTER}
    stored = {s.buffer for s in walk(kernel.body) if isinstance(s, Store) and s.value.lanes != LANES}
    stored |= {s.buffer for s in walk(kernel.body) if isinstance(s, ScatteredStore)}
    single = {e.buffer for e in expressions(kernel.body) if isinstance(e, Load | Gathered) and e.lanes != LANES}
    return arrays - stored - single


def _in_vectors(index: Linear) -> Linear:
    """The number of a vector, of its first element's."""
    return Linear(index.const // LANES, tuple((atom, c // LANES) for atom, c in index.terms))


def _first(s: For) -> str:
    """The first trip of a thread."""
    return f"{s.begin} + threadIdx.x" if s.begin else "threadIdx.x"


def device_functions(printer: CudaPrinter) -> str:
    """What the printed kernels need beside CUDA C itself: types, and the maths of runtime_c for one lane."""
    own = sections([(resources.files(__package__) / "device.h").read_text(encoding="utf-8")])
    runtime = read_runtime()
    common = sections([runtime[name] for name in ("maths.h", "values.h")])
    first = {name: s for name, s in own.items() if name not in common and not name.startswith("block_")}
    everything = first | {name: own.get(name, s) for name, s in common.items()} | own  # what a block shares comes last
    wanted = printer.needs() | (printer.overloads() & everything.keys())
    return "\n\n".join(s.text for s in closure(everything, ["vectors", *wanted]) if s.text)

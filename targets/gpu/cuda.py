"""CUDA C: kernel IR → text for NVRTC, and the device functions that the text needs."""

from __future__ import annotations

import math
from importlib import resources

from dlpack.amalgamate.cpp import CPP_TYPE, CppPrinter, literal
from dlpack.amalgamate.printer import ATOM, Term, used_buffers
from dlpack.amalgamate.runtime import closure, sections
from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    Array,
    Barrier,
    Const,
    Declare,
    For,
    Gathered,
    Kernel,
    Load,
    LoopAxis,
    Op,
    Space,
    Store,
    expressions,
    walk,
)
from dlpack.loops.lanes import LANE
from dlpack.runtime_c import read_runtime
from dlpack.targets.gpu.launch import launch_of
from dlpack.targets.gpu.printer import LANES, OVER_BLOCK, GpuPrinter, in_vectors


class CudaPrinter(GpuPrinter, CppPrinter):
    """Blocks and threads are CUDA's; a vector is four floats at a multiple of 16 bytes."""

    THREAD = "threadIdx.x"

    def needs(self) -> set[str]:
        return super().needs() - {"scalar_loop", "twice"}

    def head(self, kernel: Kernel, name: str, restrict: bool) -> list[str]:
        used, passed = used_buffers(kernel), passed_on(kernel)
        params = []
        for p in kernel.params:
            label = p.name if p.name in used else f"/*{p.name}*/"
            alone = "__restrict__ " if restrict and p.name not in passed else ""
            params.append(f"{'' if p.written else 'const '}{CPP_TYPE[p.dtype]}* {alone}{label}")
        if kernel.scratch:
            params.append("uint8_t* scratch")
        threads = launch_of(kernel).block[0]
        start = f'extern "C" __global__ void __launch_bounds__({threads}) {name}('
        return [start, *(f"    {p}," for p in params[:-1]), f"    {params[-1] if params else ''}) {{"]

    def loop(self, s: For, pad: str) -> list[str]:
        step = f"++{s.var}" if s.step == 1 else f"{s.var} += {s.step}"
        begin = self.first(s) if s.axis is LoopAxis.THREAD else str(s.begin)
        unroll = [f"{pad}#pragma unroll"] if s.unrolled else []
        return [*unroll, f"{pad}for (int {s.var} = {begin}; {s.var} < {s.end}; {step}) {{"]

    def block_index(self, dimension: int) -> str:
        return f"blockIdx.{'xyz'[dimension]}"

    def constant(self, name: str, value: str) -> str:
        return f"const int {name} = {value}"

    def guarded(self, s: For, pad: str) -> list[str]:
        return [f"{pad}if (const int {s.var} = {self.first(s)}; {s.var} < {s.end}) {{"]

    def array(self, s: Array) -> str:
        kind = CPP_TYPE[s.dtype]
        if s.space is Space.SHARED:
            return f"alignas(16) __shared__ {kind} {s.name}[{s.size}]"
        if s.space is Space.SCRATCH:
            return super().array(s)
        if s.name in self.vectors:
            return f"{self.type(s.dtype, LANES)} {s.name}[{s.size // LANES}]"
        return f"{'alignas(16) ' if s.name in self.mixed else ''}{kind} {s.name}[{s.size}]"

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
            return self.element(e.buffer, self.index(in_vectors(e.index)))
        self.functions.add("load4")
        return f"load4({address})"

    def _Gathered(self, e: Gathered) -> Term:
        if e.lanes > 1:
            return self.vector_load(e, f"&{self.element(e.buffer, self.expr(e.index))}"), ATOM
        return super()._Gathered(e)

    def vector_store(self, s: Store, address: str) -> str:
        if s.buffer in self.vectors:
            target, value = self.element(s.buffer, self.index(in_vectors(s.index))), s.value
            if isinstance(value, Op) and value.op == "+" and self.expr(value.args[0]) == target:
                return f"{target} += {self.expr(value.args[1])}"
            return f"{target} = {self.expr(value)}"
        self.functions.add("store4")
        return f"store4({address}, {self.expr(s.value)})"

    def kept(self, s: Declare, load: str) -> str:
        return load

    def _Op(self, e: Op) -> Term:
        if e.op == LANE and isinstance(e.args[1], Const):
            return f"{self.expr(e.args[0], ATOM)}.{'xyzw'[int(e.args[1].value)]}", ATOM
        if e.op in OVER_BLOCK:
            value, threads = e.args
            self.functions.add(e.op)
            return f"{e.op}<{self.expr(threads)}>({self.expr(value)})", ATOM
        if e.op == "select" and e.args[0].lanes == 1:  # what is not chosen is not loaded
            text = f"{self.expr(e.args[0], 1)} ? {self.expr(e.args[1], 1)} : {self.expr(e.args[2], 0)}"
            return self.narrow(e, "?", text, 0)
        return super()._Op(e)


def passed_on(kernel: Kernel) -> set[str]:
    """The parameters through which threads of a block may pass values on: written and read, on two sides of a barrier.
    They are not __restrict__, by which a compiler may keep what it has read across the barrier."""
    meets = any(isinstance(s, Barrier) for s in walk(kernel.body))
    meets |= any(isinstance(e, Op) and e.op in OVER_BLOCK for e in expressions(kernel.body))
    read = {e.buffer for e in expressions(kernel.body) if isinstance(e, Load | Gathered)}
    return {p.name for p in kernel.params if p.written and p.name in read} if meets else set()


def device_functions(printer: CudaPrinter) -> str:
    """What the printed kernels need beside CUDA C itself: types, and the maths of runtime_c for one lane."""
    own = sections([(resources.files(__package__) / "device.h").read_text(encoding="utf-8")])
    runtime = read_runtime()
    common = sections([runtime[name] for name in ("maths.h", "values.h")])
    first = {name: s for name, s in own.items() if name not in common and not name.startswith("block_")}
    everything = first | {name: own.get(name, s) for name, s in common.items()} | own  # what a block shares comes last
    wanted = printer.needs() | (printer.overloads() & everything.keys())
    return "\n\n".join(s.text for s in closure(everything, ["vectors", *wanted]) if s.text)

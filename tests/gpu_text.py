"""Kernels of GPUs on this computer: a program's CUDA C, compiled for the CPU and run step by step."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import processes

from dlpack.amalgamate.cpp import CPP_TYPE
from dlpack.graph.ir import Graph
from dlpack.plan.compiler import compile_graph
from dlpack.plan.program import Address, CallStep, CopyStep, HaloStep, LoopStep, Program, Step
from dlpack.plan.weight_steps import DequantizeStep, PackedDim, RepackStep, WinogradStep
from dlpack.targets.gpu.cuda import CudaPrinter, device_functions
from dlpack.targets.gpu.launch import Launch, launch_of
from dlpack.targets.gpu.machine import SM_53, Gpu
from dlpack.targets.gpu.schedule import GpuBackend

SHIM = Path(__file__).parent / "cuda_on_host.h"
FLAGS = ("-O1", "-std=c++17", "-march=native", "-ffp-contract=fast", "-fno-strict-aliasing", "-fvisibility=hidden",
         "-fsanitize=array-bounds", "-fsanitize-trap=array-bounds", "-w", "-shared", "-fPIC")  # fmt: skip
ALIGNMENT = 256
"""As the driver aligns memory."""

FILL = 0xFF
"""What memory holds before a run: NaN, -1."""


BEYOND = 1 << 14
"""Bytes behind each output that no kernel may write."""


WINOGRAD = {
    2: np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    4: np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
}
"""By m, the G of F(m x m, 3x3), whose weights are G w G^T."""


@dataclass(frozen=True)
class CudaText:
    """A program's kernels as text: `device` functions, and each kernel by its name."""

    device: str
    kernels: dict[str, str]

    def __str__(self) -> str:
        return "\n\n".join([self.device, *self.kernels.values()])


def cuda_text(program: Program) -> CudaText:
    printer = CudaPrinter()
    kernels = {k.name: printer.kernel(k.kernel, k.name, k.restrict) for k in program.kernels}
    return CudaText(device_functions(printer), kernels)


def host_text(program: Program, text: str) -> str:
    """The text for a CPU's compiler, with a function for each kernel that takes the arguments as the driver does."""
    lines = [f'#include "{SHIM}"', text, ""]
    for k in program.kernels:
        types = [f"{'' if p.written else 'const '}{CPP_TYPE[p.dtype]}*" for p in k.kernel.params]
        types += ["uint8_t*"] if k.kernel.scratch else []
        arguments = ", ".join(f"*static_cast<{t}*>(args[{i}])" for i, t in enumerate(types))
        lines += [
            f"CUDA_ON_HOST_API const int params_{k.name} = {len(types)};",
            f"CUDA_ON_HOST_API void run_{k.name}(void** args) {{ {k.name}({arguments}); }}",
        ]
    return "\n".join(lines) + "\n"


def compile_for_host(program: Program, text: str, folder: Path, name: str = "kernels") -> Path:
    source, library = folder / f"{name}.cc", folder / f"{name}.so"
    source.write_text(host_text(program, text))
    processes.run(["clang++", *FLAGS, "-o", str(library), str(source)], check=True)
    return library


def compiled_for(graph: Graph, gpu: Gpu = SM_53) -> Program:
    return compile_graph(graph, "net", GpuBackend(gpu))


class Weights:
    """A program's weights as its kernels read them: those of the file, and those that a predictor makes of them."""

    def __init__(self, program: Program) -> None:
        self.weights = _aligned(len(program.weights), 0)
        self.weights[: len(program.weights)] = np.frombuffer(program.weights, np.uint8)
        self.prepared = _aligned(program.prepared, 0)
        for step in program.prepare:
            self.prepare(step)

    def prepare(self, step: Step) -> None:
        """Makes a weight of what is stored, as a predictor does when it is created."""
        if isinstance(step, WinogradStep):
            self.transform(step)
            return
        assert isinstance(step, RepackStep | DequantizeStep), step
        if isinstance(step, RepackStep):
            source = self.stored(step.source, step.read // _dtype(step.source.dtype).itemsize)
            values = source[_offsets(step.extents, [a for a, _ in step.places])]
            places = [b for _, b in step.places]
        else:
            values, places = self.dequantized(step), list(step.places)
        dtype = _dtype(step.target.dtype)
        target = self.prepared[step.target.offset :][: step.written].view(dtype)
        target[_offsets(step.extents, places)] = values.astype(dtype)

    def transform(self, step: WinogradStep) -> None:
        """Computes a layer's Winograd weights, which lie in one block."""
        shape, g = (3, 3, step.inputs, step.outputs), WINOGRAD[step.edge - 2]
        w = self.stored(step.source, prod(shape)).astype(np.float64).reshape(shape)
        whole = (step.edge, step.edge, step.inputs, step.room)
        u = self.stored(step.target, prod(whole)).reshape(whole)
        u[..., : step.outputs] = np.einsum("ia,jb,abco->ijco", g, g, w)

    def dequantized(self, step: DequantizeStep) -> np.ndarray[Any, Any]:
        per_byte, mask = 8 // step.bits, (1 << step.bits) - 1
        codes = self.stored(step.source, step.read)[:, None] >> (np.arange(per_byte) * step.bits).astype(np.uint8)
        codes = (codes & mask).reshape(-1)[: prod(step.extents)].reshape(step.extents)
        table = self.stored(step.table, 1 << step.bits)
        number = np.zeros(step.extents, np.int64)
        for d, i in enumerate(np.indices(step.extents, sparse=True)):
            number += i // step.blocks[d] * step.steps[d]
        values = table[codes]
        if step.zeros:
            values = values - table[self.stored(step.zeros, step.count)][number]
        return values * self.stored(step.scales, step.count)[number]

    def stored(self, a: Address, count: int) -> np.ndarray[Any, Any]:
        dtype = _dtype(a.dtype)
        memory = self.prepared if a.space == "prepared" else self.weights
        return memory[a.offset :][: count * dtype.itemsize].view(dtype)


class Runner(Weights):
    """Runs a program's steps with the kernels of a compiled library."""

    def __init__(self, program: Program, library: Path, order: str = "f") -> None:
        super().__init__(program)
        self.program = program
        self.api = ctypes.CDLL(str(library))
        self.api.cuda_on_host_faults.restype = ctypes.c_ulonglong
        self.api.cuda_on_host_order(ctypes.c_char(order.encode()))
        self.launched: dict[str, Launch] = {k.name: launch_of(k.kernel) for k in program.kernels}
        self.arena = _aligned(program.arena.size, FILL)
        self.launches = 0
        self.overrun = False
        """Whether a run has written beyond an output's end."""

    @property
    def faults(self) -> int:
        """Barriers that not all threads of a block came to."""
        return int(self.api.cuda_on_host_faults())

    def run(self, inputs: Mapping[str, Any], number: int = 0) -> list[np.ndarray[Any, Any]]:
        shapes = self.program.shape_sets[number]
        self.inputs = [np.ascontiguousarray(np.asarray(inputs[t.name]).reshape(t.shape)) for t in shapes.inputs]
        self.outputs = [np.full(t.nbytes + BEYOND, FILL, np.uint8) for t in shapes.outputs]
        for step in shapes.steps:
            self.step(step, ())
        sizes = [t.nbytes for t in shapes.outputs]
        self.overrun = any((o[n:] != FILL).any() for o, n in zip(self.outputs, sizes, strict=True))
        return [
            o[: t.nbytes].view(_dtype(t.dtype)).reshape(t.shape)
            for o, t in zip(self.outputs, shapes.outputs, strict=True)
        ]

    def address(self, a: Address, trips: Sequence[int]) -> int:
        memory = {"arena": self.arena, "weights": self.weights, "prepared": self.prepared}
        base = memory[a.space] if a.space in memory else getattr(self, f"{a.space}s")[a.index]
        return int(base.ctypes.data) + a.offset + sum(t * s for t, s in zip(trips, a.steps, strict=False))

    def step(self, step: Step, trips: tuple[int, ...]) -> None:
        if isinstance(step, LoopStep):
            for t in range(step.count):
                for s in step.body:
                    self.step(s, (*trips, t))
        elif isinstance(step, CopyStep):
            ctypes.memmove(self.address(step.target, trips), self.address(step.source, trips), step.nbytes)
        elif isinstance(step, HaloStep):
            self.halo(step, self.address(step.target, trips))
        else:
            assert isinstance(step, CallStep), step
            self.launch(step, [ctypes.c_void_p(self.address(a, trips)) for a in step.arguments])

    def halo(self, step: HaloStep, at: int) -> None:
        dtype = _dtype(step.target.dtype)
        memory = (ctypes.c_char * (prod(step.shape) * dtype.itemsize)).from_address(at)
        values = np.frombuffer(memory, dtype).reshape(step.shape)
        inside = tuple(slice(a, n - b) for n, a, b in zip(step.shape, step.low, step.high, strict=True))
        border = np.ones(step.shape, bool)
        border[inside] = False
        values[border] = step.fill

    def launch(self, step: CallStep, pointers: list[ctypes.c_void_p]) -> None:
        launch = self.launched[step.kernel]
        assert len(pointers) == ctypes.c_int.in_dll(self.api, f"params_{step.kernel}").value
        arguments = (ctypes.c_void_p * max(1, len(pointers)))(*(ctypes.addressof(p) for p in pointers))
        grid_block = (ctypes.c_uint * 6)(*launch.grid, *launch.block)
        run = ctypes.cast(getattr(self.api, f"run_{step.kernel}"), ctypes.c_void_p)
        self.api.cuda_on_host_launch(run, arguments, grid_block)
        self.launches += 1


def prepared(program: Program) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays "weights" and "prepared" of a program, as bytes."""
    made = Weights(program)
    return {"weights": made.weights[: len(program.weights)], "prepared": made.prepared[: program.prepared]}


def _dtype(name: str) -> np.dtype[Any]:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, None) or name)


def _offsets(extents: Sequence[int], places: Sequence[PackedDim]) -> np.ndarray[Any, Any]:
    """Where the elements of a weight lie, in elements from its beginning."""
    out = np.zeros(extents, np.int64)
    for i, p in zip(np.indices(extents, sparse=True), places, strict=True):
        out += i // p.size * p.outer + i % p.size * p.inner
    return out


def _aligned(size: int, fill: int) -> np.ndarray[Any, Any]:
    memory = np.full(size + 2 * ALIGNMENT, fill, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size + ALIGNMENT]


def errors(got: Sequence[Any], want: Sequence[Any]) -> Iterator[float]:
    """Of each output the largest error, as a part of the range of what is expected."""
    for g, w in zip(got, want, strict=True):
        g, w = np.asarray(g, np.float64), np.asarray(w, np.float64)
        yield float(np.nan_to_num(np.abs(g - w), nan=np.inf).max(initial=0) / max(np.abs(w).max(initial=0), 1e-30))

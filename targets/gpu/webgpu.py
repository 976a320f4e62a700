"""A program for WebGPU: its shaders in one text, and the plan by which web/webgpu.js launches them.

Memory is one buffer, the arena with the inputs and outputs behind it, and the weights in buffers of at most 128 MiB
each, which every adapter can bind: in the order of their use, so that a kernel's weights are in one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from dlpack.plan.program import Address, CallStep, CopyStep, HaloStep, LoopStep, Place, Program, ShapeSet, Step, Tensor
from dlpack.plan.weight_steps import DequantizeStep, PackedDim, RepackStep
from dlpack.targets.gpu.launch import MOST_BLOCKS, launch_of
from dlpack.targets.gpu.wgsl import Unsupported, WgslPrinter

BINDING = 128 << 20
"""Bytes of a buffer that a shader of any adapter can see."""

ALIGNMENT = 256
"""Bytes of which the offset of inputs, outputs and weights is a multiple."""

COPY = "copy_words"
_COPY_THREADS = 256
_COPY = """\
// operands[0]: from which word to which, and how many.
@compute @workgroup_size(256)
fn copy_words(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane_index: u32) {
    let i = i32((group.x + group.y * 65535u) * 256u + lane_index);
    if (i < operands[0].z) { arena_u32[operands[0].y + i] = arena_u32[operands[0].x + i]; }
}"""


@dataclass(frozen=True)
class WebGpuProgram:
    """The shaders' text, and the plan as JSON."""

    shaders: str
    plan: dict[str, Any]


def webgpu_program(program: Program) -> WebGpuProgram:
    """Raises Unsupported where the model computes with what WGSL does not have."""
    return _Planner(program).result()


@dataclass
class _Window:
    """A buffer of weights: where each of a program's weights lies in it, and how it gets there."""

    size: int = 0
    at: dict[tuple[str, int], int] = field(default_factory=dict)
    copies: list[list[int]] = field(default_factory=list)
    repacks: list[dict[str, Any]] = field(default_factory=list)


class _Planner:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.kernels = {k.name: k.kernel for k in program.kernels}
        self.about = {k.name: (f"// {k.title}", f"// {k.schedule}") for k in program.kernels}
        self.printer = WgslPrinter()
        self.texts: list[str] = []
        self.shaders: list[dict[str, Any]] = []
        self.numbers: dict[tuple[str, frozenset[int]], int] = {}
        self.windows = [_Window()]
        made = (s for s in program.prepare if isinstance(s, RepackStep | DequantizeStep))
        self.prepared = {s.target.offset: s for s in made}
        self.places = {"weights": program.weight_places, "prepared": program.prepared_places}
        self.base: dict[tuple[str, int], int] = {}

    def result(self) -> WebGpuProgram:
        sets = [self.shape_set(s) for s in self.program.shape_sets]
        number = len(self.shaders)  # also for what stays on the GPU from one run to the next
        self.shaders.append({"name": COPY, "groups": [1, 1, 1]})
        self.printer.bindings.add(("arena", "u32"))
        text = "\n\n".join([self.printer.declarations(), *self.texts, _COPY]) + "\n"
        weights = [{"bytes": w.size, "copies": w.copies, "repacks": w.repacks} for w in self.windows]
        plan = {"format": 1, "shaders": self.shaders, "copy": number, "weights": weights, "sets": sets}
        return WebGpuProgram(text, plan)

    # --- a set of shapes ----------------------------------------------------------------------------------------

    def shape_set(self, shapes: ShapeSet) -> dict[str, Any]:
        self.base, end = {}, _aligned(shapes.arena.size)
        tensors: dict[str, list[list[int]]] = {"input": [], "output": []}
        for space, those in (("input", shapes.inputs), ("output", shapes.outputs)):
            for i, t in enumerate(those):
                self.base[space, i] = end
                tensors[space].append([end, t.nbytes])
                end += _aligned(max(t.nbytes, 4))
        return {
            "arena": max(end, ALIGNMENT),
            "inputs": tensors["input"],
            "outputs": tensors["output"],
            "wide": [i for i, t in enumerate(shapes.inputs) if _is_wide(t)],
            "borders": [self.border(s) for s in _all(shapes.steps) if isinstance(s, HaloStep)],
            "steps": [s for step in shapes.steps for s in self.step(step)],
        }

    def border(self, step: HaloStep) -> list[int]:
        """Where a padded buffer begins, how many words it has, and the one that its border is filled with. All of it is
        filled, once: nothing but its own values is ever stored there."""
        dtype = np.dtype(step.target.dtype)
        if dtype.itemsize != 4 or any(step.target.steps):
            raise Unsupported(f"borders of {step.target.dtype}")
        return [self.offset(step.target) // 4, prod(step.shape), int(np.array(step.fill, dtype).view(np.uint32))]

    def step(self, step: Step) -> Iterator[dict[str, Any]]:
        if isinstance(step, LoopStep):
            yield {"count": step.count, "body": [s for inner in step.body for s in self.step(inner)]}
        elif isinstance(step, CallStep):
            yield self.call(step)
        elif isinstance(step, CopyStep):
            yield self.copy(step)

    def call(self, step: CallStep) -> dict[str, Any]:
        kernel = self.kernels[step.kernel]
        constants = frozenset(i for i, a in enumerate(step.arguments) if a.space in self.places)
        window = self.window([step.arguments[i] for i in sorted(constants)])
        dtypes = [p.dtype for p in kernel.params] + (["float32"] if kernel.scratch else [])
        units = [1 if dtype in ("bool", "int8", "uint8") else 4 for dtype in dtypes]
        at = [self.offset(a, window) for a in step.arguments]
        found = {"shader": self.shader(step.kernel, constants), "at": _in_units(at, units)}
        if window:
            found["weights"] = window
        if any(any(a.steps) for a in step.arguments):
            found["by"] = [_in_units(a.steps, [u] * len(a.steps)) for a, u in zip(step.arguments, units, strict=True)]
        return found

    def shader(self, name: str, constants: frozenset[int]) -> int:
        """The number of a kernel's shader, whose operands numbered in `constants` are weights."""
        key = name, constants
        if key not in self.numbers:
            kernel, own = self.kernels[name], name
            while any(s["name"] == own for s in self.shaders):
                own += "_again"
            text = self.printer.shader(kernel, own, constants)
            self.texts.append("\n".join([*self.about[name], text]))
            grid = launch_of(kernel).grid
            total = prod(grid)
            groups = grid if max(grid) <= MOST_BLOCKS else (MOST_BLOCKS, -(-total // MOST_BLOCKS), 1)
            self.numbers[key] = len(self.shaders)
            self.shaders.append({"name": own, "groups": list(groups)})
        return self.numbers[key]

    def copy(self, step: CopyStep) -> dict[str, Any]:
        if step.source.space in self.places:
            raise Unsupported("weights that are copied as they are")
        ends = [self.offset(a) for a in (step.source, step.target)]
        if step.nbytes % 4 or any(x % 4 for x in (*ends, *step.source.steps, *step.target.steps)):
            raise Unsupported("copies of parts of 4 bytes")
        found: dict[str, Any] = {"at": [*(x // 4 for x in ends), step.nbytes // 4]}
        blocks = -(-step.nbytes // 4 // _COPY_THREADS)
        found["groups"] = [min(blocks, MOST_BLOCKS), -(-blocks // MOST_BLOCKS), 1]
        if any(step.source.steps) or any(step.target.steps):
            found["by"] = [[s // 4 for s in a.steps] for a in (step.source, step.target)] + [[]]
        return found

    def offset(self, a: Address, window: int = 0) -> int:
        """Where an address is, in bytes, in the arena or in a buffer of weights."""
        if a.space in self.places:
            place = self.place(a)
            return self.windows[window].at[a.space, place.offset] + a.offset - place.offset
        return a.offset + (self.base[a.space, a.index] if a.space in ("input", "output") else 0)

    # --- weights ------------------------------------------------------------------------------------------------

    def place(self, a: Address) -> Place:
        for p in self.places[a.space]:
            if p.offset <= a.offset < p.offset + max(p.nbytes, 1):
                return p
        raise Unsupported(f"weights at {a.space} {a.offset}, where none are known")

    def window(self, operands: Sequence[Address]) -> int:
        """The number of the buffer that holds all weights of a call: the last one, which gets what is missing, unless
        an earlier one has them all."""
        wanted = {(a.space, self.place(a).offset): a for a in operands}
        for number, w in enumerate(self.windows):
            if wanted.keys() <= w.at.keys():
                return number
        size = sum(_aligned(self.place(a).nbytes) for a in wanted.values())
        if self.windows[-1].size and self.windows[-1].size + size > BINDING:
            self.windows.append(_Window())
        last = self.windows[-1]
        for key, a in wanted.items():
            if key not in last.at:
                self.bring(last, key, self.place(a))
        return len(self.windows) - 1

    def bring(self, window: _Window, key: tuple[str, int], place: Place) -> None:
        """Gives a weight its place in a buffer."""
        at, size = window.size, _aligned(place.nbytes)
        window.at[key] = at
        window.size += size
        if key[0] == "weights":
            self.check_range(place)
            window.copies.append([place.offset, at, -(-place.nbytes // 4) * 4])
            return
        step = self.prepared.get(place.offset)
        if isinstance(step, RepackStep):
            made = _repacked(step)
        elif isinstance(step, DequantizeStep):
            made = _dequantised(step)
        else:
            raise Unsupported("weights that are computed when a predictor is made")
        window.repacks.append({**made, "at": at, "written": step.written, "extents": list(step.extents)})

    def check_range(self, place: Place) -> None:
        if place.dtype != "int64":
            return
        values = np.frombuffer(self.program.weights, np.int64, place.nbytes // 8, place.offset)
        if values.size and (values.min() < -(1 << 31) or values.max() >= 1 << 31):
            raise Unsupported("integers of more than 32 bits")


def _repacked(step: RepackStep) -> dict[str, Any]:
    """Where a weight is stored, and the places of its elements there and in the layout of the shaders."""
    if step.source.dtype not in ("float32", "int32", "uint32", "float16", "bfloat16") or step.source.space != "weights":
        raise Unsupported(f"weights that are stored as {step.source.dtype}")
    source = {"from": step.source.offset, "read": step.read, "of": step.source.dtype}
    return {**source, "places": [[_place(d) for d in pair] for pair in step.places]}


def _dequantised(step: DequantizeStep) -> dict[str, Any]:
    """The same of one that is stored as codes, whose numbers, zero points (null where there are none) and scales are
    stored too."""
    parts = [step.source, step.table, step.scales, *([step.zeros] if step.zeros else [])]
    if any(a.space != "weights" for a in parts):
        raise Unsupported("weights that are stored in parts elsewhere")
    codes = {
        "bits": step.bits,
        "table": step.table.offset,
        "scales": step.scales.offset,
        "zeros": step.zeros.offset if step.zeros else None,
        "count": step.count,
        "blocks": list(step.blocks),
        "steps": list(step.steps),
    }
    strides = [prod(step.extents[d + 1 :]) for d in range(len(step.extents))]
    rows = [[extent, 0, stride] for extent, stride in zip(step.extents, strides, strict=True)]
    places = [[here, _place(there)] for here, there in zip(rows, step.places, strict=True)]
    return {"from": step.source.offset, "read": step.read, "of": "codes", "codes": codes, "places": places}


def _place(d: PackedDim) -> list[int]:
    return [d.size, d.outer, d.inner]


def _in_units(values: Sequence[int], units: Sequence[int]) -> list[int]:
    if any(x % unit for x, unit in zip(values, units, strict=True)):
        raise Unsupported("operands that begin at parts of their elements")
    return [x // unit for x, unit in zip(values, units, strict=True)]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _is_wide(t: Tensor) -> bool:
    """Whether an input's values may need 64 bits, which a run has to look at."""
    return t.dtype == "int64"


def _all(steps: Sequence[Step]) -> Iterator[Step]:
    for s in steps:
        yield s
        if isinstance(s, LoopStep):
            yield from _all(s.body)


def summary(plan: Mapping[str, Any]) -> dict[str, int]:
    """What the manifest says of a plan."""
    return {
        "kernels": len(plan["shaders"]) - 1,
        "arena_bytes": max(s["arena"] for s in plan["sets"]),
        "weights_bytes": sum(w["bytes"] for w in plan["weights"]),
    }

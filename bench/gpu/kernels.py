"""A program's kernels without its host code: as a file, from which a GPU runs them one by one, and times them.

The file, an .npz, has the `plan` (JSON), the images for the GPU, the weights, and of a test its inputs and outputs.
Kernels run without a compiler, TVM or onnx, by the driver alone.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import exp, fsum, log, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.gpu.driver import Gpu, Recorded

if TYPE_CHECKING:
    from dlpack.plan.program import Address, Program, Step

Array = np.ndarray[Any, Any]
SPACES = ("arena", "weights", "prepared")
"""What addresses lie in, by number; the inputs follow, then the outputs."""

NAN = 0xFF
"""The bytes that memory holds before a test's run: NaN, -1."""

BATCH_S, ROUNDS = 2e-3, 5
"""A kernel is launched for so long in each of so many rounds, whose median counts."""

# --- on any computer: the file ----------------------------------------------------------------------------------------


def plan_of(program: Program, number: int = 0) -> dict[str, Any]:
    """What a run of a set of shapes does, loops written out, in terms that JSON has: kernels with their grids, blocks,
    schedules and times by the cost model; and in the order of a run ``[kernel, addresses]`` and ``[-1, to, from,
    nbytes]``, an address being the number of a space, or of an input or output behind these, and an offset."""
    from dlpack.plan.program import CallStep, CopyStep, HaloStep, LoopStep
    from dlpack.targets.gpu.launch import launch_of

    shapes = program.shape_sets[number]
    numbers = {k.name: i for i, k in enumerate(program.kernels)}
    steps: list[Any] = []
    borders: list[Any] = []

    def address(a: Address, trips: Sequence[int]) -> list[int]:
        tensor = len(SPACES) + a.index + (len(shapes.inputs) if a.space == "output" else 0)
        space = SPACES.index(a.space) if a.space in SPACES else tensor
        return [space, a.offset + sum(t * s for t, s in zip(trips, a.steps, strict=False))]

    def take(s: Step, trips: tuple[int, ...]) -> None:
        if isinstance(s, LoopStep):
            for t in range(s.count):
                for inner in s.body:
                    take(inner, (*trips, t))
        elif isinstance(s, CopyStep):
            steps.append([-1, address(s.target, trips), address(s.source, trips), s.nbytes])
        elif isinstance(s, HaloStep):
            about = [s.target.dtype, list(s.shape), list(s.low), list(s.high), s.fill]
            borders.append([address(s.target, trips), *about])
        else:
            assert isinstance(s, CallStep), s
            steps.append([numbers[s.kernel], [address(a, trips) for a in s.arguments]])

    for step in shapes.steps:
        take(step, ())
    kernels = []
    for k in program.kernels:
        launch = launch_of(k.kernel)
        words, _, us = k.schedule.partition(" us on ")[0].rpartition("; ")
        about = {"name": k.name, "words": words, "model_us": float(us), "macs": k.macs}
        kernels.append({**about, "grid": launch.grid, "block": launch.block})
    return {
        "memory": [shapes.arena.size, len(program.weights), program.prepared],
        "inputs": [t.nbytes for t in shapes.inputs],
        "outputs": [[t.dtype, list(t.shape), t.nbytes] for t in shapes.outputs],
        "kernels": kernels,
        "borders": borders,
        "steps": steps,
    }


def write(path: Path, plan: Mapping[str, Any], images: Mapping[str, bytes], arrays: Mapping[str, Array]) -> None:
    """Writes the file. `images` are in the order in which a GPU tries them; `arrays` may have "weights", "prepared",
    and of a test "in_0" ... and "out_0" ..., all of bytes."""
    text = json.dumps({**plan, "images": list(images)}, separators=(",", ":"))
    parts = {f"image_{name}": np.frombuffer(data, np.uint8) for name, data in images.items()}
    np.savez(path, plan=np.frombuffer(text.encode(), np.uint8), **parts, **arrays)  # type: ignore[arg-type]


# --- where the GPU is -------------------------------------------------------------------------------------------------


class OnGpu:
    """The program of a file on a GPU, whose memory holds bytes of `fill` where the file says nothing."""

    def __init__(self, gpu: Gpu, path: Path, fill: int = 0) -> None:
        self.gpu = gpu
        with np.load(path) as file:
            self.plan: dict[str, Any] = json.loads(file["plan"].tobytes())
            self.arrays = {name: file[name] for name in file.files if name != "plan"}
        module = gpu.module([self.arrays[f"image_{name}"].tobytes() for name in self._suitable()])
        self.functions = [gpu.kernel(module, k["name"]) for k in self.plan["kernels"]]
        sizes = [*self.plan["memory"], *self.plan["inputs"], *(n for _, _, n in self.plan["outputs"])]
        self.memory = [gpu.memory(n + 256) for n in sizes]
        for to, n in zip(self.memory, sizes, strict=True):
            gpu.write(to, np.full(n, fill, np.uint8))
        gpu.write(self.memory[0], self._with_borders(fill))
        for to, name in zip(self.memory[1:], SPACES[1:], strict=False):
            gpu.write(to, self.arrays.get(name, np.zeros(0, np.uint8)))

    def _suitable(self) -> Iterator[str]:
        """The images' names: first the cubin for this GPU, then PTX."""
        yield from (n for n in self.plan["images"] if n == f"sm_{self.gpu.arch}")
        yield from (n for n in self.plan["images"] if n.startswith("compute_"))

    def _with_borders(self, fill: int) -> Array:
        """The arena with the borders of padded values."""
        arena = np.full(self.plan["memory"][0], fill, np.uint8)
        for (_, offset), dtype, shape, low, high, fill in self.plan["borders"]:
            count = prod(shape)
            kind = np.dtype(dtype)
            values = arena[offset : offset + count * kind.itemsize].view(kind).reshape(shape)
            inside = tuple(slice(a, n - b) for n, a, b in zip(shape, low, high, strict=True))
            border = np.ones(shape, bool)
            border[inside] = False
            values[border] = fill
        return arena

    def _at(self, address: Sequence[int]) -> int:
        return self.memory[address[0]] + int(address[1])

    def _launch(self, step: Sequence[Any]) -> None:
        if step[0] < 0:
            self.gpu.copy(self._at(step[1]), self._at(step[2]), step[3])
            return
        kernel = self.plan["kernels"][step[0]]
        self.gpu.launch(self.functions[step[0]], kernel["grid"], kernel["block"], [self._at(a) for a in step[1]])

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs, as bytes, for inputs as bytes."""
        first = len(SPACES)
        for to, data in zip(self.memory[first:], inputs, strict=False):
            self.gpu.write(to, data)
        for step in self.plan["steps"]:
            self._launch(step)
        found = [np.zeros(n, np.uint8) for _, _, n in self.plan["outputs"]]
        for source, data in zip(self.memory[first + len(self.plan["inputs"]) :], found, strict=True):
            self.gpu.read(data, source)
        return found

    def seconds(self) -> tuple[float, list[float]]:
        """How long all launches of a run take as one graph, and each of the kernels, among many of itself."""
        with Recorded(self.gpu) as whole:
            for step in self.plan["steps"]:
                self._launch(step)
        first = {step[0]: step for step in reversed(self.plan["steps"]) if step[0] >= 0}
        each = [0.0] * len(self.functions)
        total = self._timed(whole)
        for number, step in first.items():
            with Recorded(self.gpu) as one:
                for _ in range(_REPEATED):
                    self._launch(step)
            each[number] = self._timed(one) / _REPEATED
        return total, each

    def _timed(self, graph: Recorded) -> float:
        """Seconds of a launch of the graph: the median of rounds of several."""
        graph.launch()
        self.gpu.wait()
        start = time.perf_counter()
        graph.launch()
        self.gpu.wait()
        count = max(1, min(1000, int(BATCH_S / max(time.perf_counter() - start, 1e-9))))
        rounds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for _ in range(count):
                graph.launch()
            self.gpu.wait()
            rounds.append((time.perf_counter() - start) / count)
        graph.close()
        return statistics.median(rounds)


_REPEATED = 64
"""Launches of a kernel in a graph of its own."""


def tested(gpu: Gpu, path: Path) -> dict[str, Any]:
    """What a file of a test gives: whether the outputs are right, and where not."""
    program = OnGpu(gpu, path, NAN)
    arrays, plan = program.arrays, program.plan
    got = program.run([arrays[f"in_{k}"] for k in range(len(plan["inputs"]))])
    for k, (index, true_shape) in enumerate(plan["expected"]):
        dtype, shape, nbytes = plan["outputs"][index]
        data = got[index]
        if true_shape >= 0:  # the part that counts of an output whose size only a run knows
            elements = data.view(f"V{nbytes // prod(shape)}").reshape(shape)
            part = elements[tuple(slice(int(n)) for n in got[true_shape].view(np.int64))]
            data = np.frombuffer(part.tobytes(), np.uint8)
        problem = differs(data, arrays[f"out_{k}"], dtype, plan["rtol"], plan["atol"])
        if problem:
            return {"right": False, "problem": f"output {k}, {dtype} {shape}: {problem}"}
    return {"right": True}


def differs(got: Array, want: Array, dtype: str, rtol: float, atol: float) -> str:
    """How bytes of a type differ from those expected, in words; "" where they are within the tolerance. Types that
    NumPy has not must be equal, but for bfloat16."""
    if got.nbytes != want.nbytes:
        return f"{got.nbytes} bytes instead of {want.nbytes}"
    if dtype == "bfloat16":
        got, want = ((x.view(np.uint16).astype(np.uint32) << 16).view(np.float32) for x in (got, want))
    elif dtype in np.sctypeDict or dtype.startswith("S"):
        got, want = got.view(dtype), want.view(dtype)
    wrong = got != want
    if got.dtype.kind == "f":
        got, want = got.astype(np.float64), want.astype(np.float64)
        with np.errstate(all="ignore"):
            wrong = ~np.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True)
    if not wrong.any():
        return ""
    at = int(np.argmax(wrong))
    return f"{int(wrong.sum())} of {wrong.size} values, number {at} is {got[at]} instead of {want[at]}"


def timed(gpu: Gpu, path: Path) -> dict[str, Any]:
    """The times of a file's kernels, beside those of the cost model, in µs."""
    program = OnGpu(gpu, path)
    total, each = program.seconds()
    kernels = []
    for kernel, seconds in zip(program.plan["kernels"], each, strict=True):
        about = {key: kernel[key] for key in ("name", "words", "grid", "block", "macs", "model_us")}
        kernels.append({**about, "us": round(seconds * 1e6, 3)})
    calls = [step[0] for step in program.plan["steps"] if step[0] >= 0]
    by_model = fsum(program.plan["kernels"][k]["model_us"] for k in calls)
    alone = fsum(each[k] for k in calls) * 1e6
    return {"us": total * 1e6, "kernels_us": alone, "model_us": by_model, "launches": len(calls), "kernels": kernels}


def calibration(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By kind of schedule, over the kernels of all models: how many there are, the geometric mean and the extremes of
    the measured time over the cost model's, and the sums of both, in µs."""

    def kind(kernel: Mapping[str, Any]) -> str:
        words: str = kernel["words"]
        return "a thread per tile" if words.startswith("Winograd") else words.split(",")[0].split(" by tiles")[0]

    kernels = sorted((k for row in rows for k in row.get("kernels", ()) if k["us"] > 0), key=kind)
    out = {}
    for name, group in groupby(kernels, kind):
        those = list(group)
        ratios = [k["us"] / k["model_us"] for k in those]
        out[name] = {
            "kernels": len(those),
            "measured_over_model": round(exp(fsum(map(log, ratios)) / len(ratios)), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
            "us": round(fsum(k["us"] for k in those), 1),
            "model_us": round(fsum(k["model_us"] for k in those), 1),
        }
    return out

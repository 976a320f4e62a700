"""The tile chooser beside an exhaustive sweep: `python -m bench.tiles [--only REGEX] [--target x86-64-v3]`.

For each layer the kernel is built for this machine with every register tile that fits the registers, all of them are
timed in interleaved rounds, and the chosen tile is held against the best. Times are CPU time of one thread.
"""

from __future__ import annotations

import ctypes
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import click
import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh

from bench.kinds import V3
from dlpack.targets.cpu.tiles import Tile, choose_tile, fits

if TYPE_CHECKING:
    from dlpack.plan.program import Program
    from dlpack.targets.cpu.machine import Machine

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

SAMPLE_NS = 1_000_000
"""A sample repeats a fast kernel for about this long."""


# --- layers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A convolution of `inputs` to `outputs` channels over `height` x `width`, or, without a `kernel`, a product of
    [height, inputs] and [inputs, outputs]."""

    name: str
    inputs: int
    outputs: int
    height: int
    width: int = 1
    kernel: int = 0
    stride: int = 1
    group: int = 1

    def model(self) -> onnx.ModelProto:
        """The layer between two Relus, so that it reads and writes memory as it lies within a net."""
        rng = np.random.default_rng(1)
        if self.kernel:
            shape: tuple[int, ...] = (1, self.inputs, self.height, self.width)
            weights: tuple[int, ...] = (self.outputs, self.inputs // self.group, self.kernel, self.kernel)
            places: dict[str, Any] = {"strides": [self.stride] * 2, "pads": [self.kernel // 2] * 4, "group": self.group}
            node = oh.make_node("Conv", ["r", "w"], ["l"], **places)
        else:
            shape, weights = (1, self.height, self.inputs), (self.inputs, self.outputs)
            node = oh.make_node("MatMul", ["r", "w"], ["l"])
        nodes = [oh.make_node("Relu", ["x"], ["r"]), node, oh.make_node("Relu", ["l"], ["y"])]
        graph = oh.make_graph(
            nodes,
            "layer",
            [oh.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [oh.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            [nh.from_array(rng.standard_normal(weights, dtype=np.float32), "w")],
        )
        return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=9)


LAYERS = (
    Layer("conv 3x3 64 to 64, stride 2, 56x56", 64, 64, 56, 56, kernel=3, stride=2),
    Layer("conv 1x1 512 to 512, 14x14", 512, 512, 14, 14, kernel=1),
    Layer("conv 1x1 1024 to 1024, 7x7", 1024, 1024, 7, 7, kernel=1),
    Layer("conv 1x1 16 to 96, 112x112", 16, 96, 112, 112, kernel=1),
    Layer("conv 7x7 3 to 64, stride 2, 224x224", 3, 64, 224, 224, kernel=7, stride=2),
    Layer("conv 5x5 32 to 96, 14x14", 32, 96, 14, 14, kernel=5),
    Layer("conv 1x1 256 to 18, 26x26", 256, 18, 26, 26, kernel=1),
    Layer("conv 3x3 depthwise 512, 14x14", 512, 512, 14, 14, kernel=3, group=512),
    Layer("product 128x384x1536", 384, 1536, 128),
    Layer("product 128x128x512", 128, 512, 128),
    Layer("product 1x4096x4096", 4096, 4096, 1),
    Layer("product 1x512x10", 512, 10, 1),
)


# --- the sweep --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """What the schedule asks `choose_tile`, without the machine."""

    rows: int
    columns: int
    depth: int
    broadcast: bool
    streamed: bool


@dataclass(frozen=True)
class Result:
    """A layer's floating point operations, the chosen tile, and nanoseconds of CPU time: one per tile and round."""

    layer: str
    flops: float
    chosen: Tile
    samples: dict[Tile, list[float]] = field(default_factory=dict)

    def gflops(self, tile: Tile) -> float:
        """By the least time: what other programs add to a sample is no property of the tile."""
        return self.flops / min(self.samples[tile])

    def median_gflops(self, tile: Tile) -> float:
        return self.flops / statistics.median(self.samples[tile])

    @property
    def best(self) -> Tile:
        return max(self.samples, key=self.gflops)

    @property
    def ratio(self) -> float:
        """The chosen tile's speed as a part of the best one's."""
        return self.gflops(self.chosen) / self.gflops(self.best)


def every_tile(question: Question, machine: Machine) -> list[Tile]:
    """All tiles that fit the registers and are no larger than the result needs."""
    q = question
    widest = -(-q.columns // machine.lanes)
    return [
        Tile(height, vectors * machine.lanes)
        for vectors in range(1, min(widest, machine.registers) + 1)
        for height in range(1, min(q.rows, machine.registers) + 1)
        if fits(height, vectors, machine, q.broadcast, q.streamed)
    ]


@contextmanager
def _chooser(tile: Tile | None, asked: list[Question]) -> Iterator[None]:
    """Has the schedule's rules take `tile`, or what `choose_tile` says; notes what they ask."""

    def choose(
        rows: int, columns: int, depth: int, machine: Machine, broadcast: bool, streamed: bool, **more: Any
    ) -> Tile:
        asked.append(Question(rows, columns, depth, broadcast, streamed))
        return tile or choose_tile(rows, columns, depth, machine, broadcast, streamed, **more)

    with patch("dlpack.targets.cpu.register_tile.choose_tile", choose):
        yield


def compile_layer(layer: Layer, machine: Machine, tile: Tile | None = None) -> tuple[Program, Question]:
    """The program whose only step is the layer's kernel, with `tile` or the chosen one, and what the rule asked."""
    from dlpack import operators
    from dlpack.model.clean import clean
    from dlpack.model.read import read_graph
    from dlpack.plan.compiler import compile_graph
    from dlpack.plan.program import CallStep
    from dlpack.targets.cpu.schedule import CpuBackend

    asked: list[Question] = []
    model = clean(layer.model(), {}, lambda op, domain: not operators.supported(op, domain))
    with _chooser(tile, asked):
        program = compile_graph(read_graph(model, operators.supported), "layer", CpuBackend(machine), winograd=False)
    (kernel,) = [k for k in program.kernels if k.macs]
    (step,) = [s for s in program.steps if isinstance(s, CallStep) and s.kernel == kernel.name]
    (question,) = asked
    shape_set = replace(program.shape_sets[0], steps=(step,))
    return replace(program, shape_sets=(shape_set,), kernels=(kernel,)), question


class Variant:
    """A layer with one tile: its program, and the compiled function with memory to run in."""

    def __init__(self, layer: Layer, machine: Machine, tile: Tile | None) -> None:
        self.program, self.question = compile_layer(layer, machine, tile)
        rows, columns = re.findall(r"\d+", self.program.kernels[0].schedule)
        self.tile = Tile(int(rows), int(columns))

    @property
    def label(self) -> str:
        return f"tile_{self.tile.rows}_{self.tile.columns}"

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Bytes of the input, the output and the arena."""
        return self.program.inputs[0].nbytes, self.program.outputs[0].nbytes, self.program.arena.size

    def bind(self, library: ctypes.CDLL, memory: Sequence[Bytes]) -> None:
        """Takes the function from the library; `memory` is for the input, the output and the arena."""
        self.weights = _aligned(len(self.program.weights))
        self.weights[:] = np.frombuffer(self.program.weights, np.uint8)
        x, y, arena = (ctypes.c_void_p(m.ctypes.data) for m in memory)
        self.function = getattr(library, self.label)
        self.function.restype = None
        self.arguments = (ctypes.byref(x), ctypes.byref(y), arena, ctypes.c_void_p(self.weights.ctypes.data))

    def sample(self, calls: int) -> float:
        """Nanoseconds of CPU time per call, after one that brings weights and activations to the caches."""
        function, arguments = self.function, self.arguments
        function(*arguments)
        began = time.thread_time_ns()
        for _ in range(calls):
            function(*arguments)
        return (time.thread_time_ns() - began) / calls


def _aligned(size: int) -> Bytes:
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def variants_of(layer: Layer, machine: Machine) -> list[Variant]:
    """The layer with the chosen tile, then with every other."""
    chosen = Variant(layer, machine, None)
    tiles = [t for t in every_tile(chosen.question, machine) if t != chosen.tile]
    return [chosen, *(Variant(layer, machine, t) for t in tiles)]


def compile_variants(variants: Sequence[Variant], folder: Path, flags: Sequence[str], cc: str | None) -> Path:
    """One shared library with a function for each."""
    from dlpack.amalgamate.batch import BatchPrinter
    from dlpack.runtime_c import read_runtime
    from dlpack.targets.toolchains.compiler import compile_library

    printer = BatchPrinter(read_runtime())
    texts = [printer.program(v.program, v.label) for v in variants]
    source, library = folder / "layer.cc", folder / "layer.so"
    source.write_text("\n\n".join([printer.opening(), *texts]), encoding="utf-8")
    compile_library(source, library, "", tuple(flags), cc)
    return library


def run_layer(layer: Layer, variants: Sequence[Variant], library: Path, rounds: int) -> Result:
    """Times all variants in turn, `rounds` times."""
    loaded = ctypes.CDLL(str(library))
    memory = [_aligned(max(sizes)) for sizes in zip(*(v.sizes for v in variants), strict=True)]
    for m in memory:
        m.view(np.float32)[:] = np.random.default_rng(2).random(m.size // 4, dtype=np.float32)
    for v in variants:
        v.bind(loaded, memory)
    result = Result(layer.name, 2.0 * variants[0].program.macs, variants[0].tile, {v.tile: [] for v in variants})
    calls = {v.tile: max(1, round(SAMPLE_NS / max(1.0, v.sample(3)))) for v in variants}
    for _ in range(rounds):
        for v in variants:
            result.samples[v.tile].append(v.sample(calls[v.tile]))
    return result


# --- the table --------------------------------------------------------------------------------------------------------


def table(results: Sequence[Result]) -> str:
    """One row per layer, as Markdown."""
    lines = [
        "| layer | tiles | chosen | GFLOP/s | best | GFLOP/s | chosen / best | of medians |",
        "|---|--:|---|--:|---|--:|--:|--:|",
    ]
    for r in results:
        chosen, best = (f"{t.rows} x {t.columns} | {r.gflops(t):.1f}" for t in (r.chosen, r.best))
        medians = r.median_gflops(r.chosen) / max(r.median_gflops(t) for t in r.samples)
        lines.append(f"| {r.layer} | {len(r.samples)} | {chosen} | {best} | {r.ratio:.3f} | {medians:.3f} |")
    return "\n".join(lines)


def ranking(result: Result, count: int = 8) -> str:
    """The fastest tiles of a layer, fastest first."""
    fastest = sorted(result.samples, key=result.gflops, reverse=True)[:count]
    return ", ".join(f"{t.rows}x{t.columns} {result.gflops(t):.1f}" for t in fastest)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--only", default="", help="Regular expression: the layers to run.", metavar="REGEX")
@click.option("--rounds", default=20, type=click.IntRange(1), help="Rounds, per layer.")
@click.option("--target", default="native", type=click.Choice(["native", V3]), help="Whose kernels.")
@click.option("--cc", default=None, help="The C++ compiler (default: the bundled Clang).", metavar="PATH")
def main(only: str, rounds: int, target: str, cc: str | None) -> None:
    """Holds the chosen register tiles against every tile that fits the registers, on this machine."""
    from dlpack.targets import get_target

    build = get_target(target).builds[0]
    machine = build.machine()
    layers = [layer for layer in LAYERS if re.search(only, layer.name)]
    if not layers or machine.lanes == 1:
        raise click.UsageError("this machine has no vectors" if layers else f"--only {only!r} leaves no layer")
    results = []
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder, ThreadPoolExecutor(2) as compilers:
        waiting = []
        for number, layer in enumerate(layers):
            variants = variants_of(layer, machine)
            own = Path(folder, str(number))
            own.mkdir()
            waiting.append((layer, variants, compilers.submit(compile_variants, variants, own, build.flags, cc)))
        libraries = [library.result() for _, _, library in waiting]  # nothing compiles while something is timed
        for (layer, variants, _), library in zip(waiting, libraries, strict=True):
            results.append(run_layer(layer, variants, library, rounds))
            click.echo(f"{layer.name}: {ranking(results[-1])}", err=True)
    click.echo(table(results))


if __name__ == "__main__":
    main(prog_name="python -m bench.tiles")

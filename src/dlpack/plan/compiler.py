"""The compiler: the graphs of a model, one for each set of input shapes, to one program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import dlpack.operators  # noqa: F401 - enters all operators into the registry
from dlpack.graph.fuse import fuse
from dlpack.graph.idioms import idioms
from dlpack.graph.ir import Graph
from dlpack.graph.quantized import quantized
from dlpack.graph.rewrite import rewrite
from dlpack.graph.winograd import ChooseTile, Layer, winograd
from dlpack.kernels.build import Schedule
from dlpack.kernels.place import place
from dlpack.kernels.shared import Shared
from dlpack.meaning.quantization import Meaning
from dlpack.plan.assembler import Assembler
from dlpack.plan.program import CallStep, LoopStep, NamedKernel, Program, Step, Variant


def compile_graph(
    graph: Graph, name: str, schedule: Schedule, winograd_tile: ChooseTile = lambda layer: 0, threads: int = 1
) -> Program:
    """Rewrites, fuses, places, lowers and plans a graph; up to `threads` threads share the kernels' trips."""
    compiler = Compiler(name, schedule, winograd_tile, threads)
    compiler.add(graph)
    return compiler.program()


class Compiler:
    """Compiles the graphs of a model, one for each set of input shapes, to one program; see `compile_graph`."""

    def __init__(
        self, name: str, schedule: Schedule, winograd_tile: ChooseTile = lambda layer: 0, threads: int = 1
    ) -> None:
        self.name, self.schedule, self.winograd_tile, self.threads = name, schedule, winograd_tile, threads
        self.shared = Shared()
        self.parts: list[Program] = []
        self.kernels: dict[int, NamedKernel] = {}  # by the kernel's identity

    def add(self, graph: Graph, meanings: Mapping[str, Meaning] | None = None) -> Variant:
        """Compiles the graph for one more set of shapes; the first one's schedules decide how weights lie.

        `meanings` are those of inputs and outputs, by name.
        """
        told = meanings or {}
        graph = idioms(rewrite(quantized(graph)))
        graph = winograd(graph, lambda layer: self._tile(layer, graph))
        assembler = Assembler(place(graph, fuse(graph)), self.name, self.schedule, self.threads, self.shared)
        part = assembler.program(self.shared.blob)
        self.shared.settle()
        names, known, number = {}, dict(self.kernels), len(self.parts)
        for k in part.kernels:
            old = known.get(id(k.kernel))
            new = replace(k, name=f"s{number}_{k.name}") if number else k
            if old is not None:
                new = replace(old, restrict=self.kernels[id(k.kernel)].restrict and k.restrict)
            names[k.name] = new.name
            self.kernels[id(k.kernel)] = new
        (variant,) = part.variants
        variant = replace(
            variant,
            inputs=tuple(replace(t, meaning=told.get(t.name, t.meaning)) for t in variant.inputs),
            outputs=tuple(replace(t, meaning=told.get(t.name, t.meaning)) for t in variant.outputs),
            steps=tuple(_renamed(s, names) for s in variant.steps),
        )
        self.parts.append(replace(part, variants=(variant,), weights=b""))
        return variant

    def program(self) -> Program:
        """The program for all sets added."""
        return replace(
            self.parts[0],
            variants=tuple(v for p in self.parts for v in p.variants),
            kernels=tuple(self.kernels.values()),
            weights=bytes(self.shared.blob),
            prepare=tuple(s for p in self.parts for s in p.prepare),
            prepared=self.shared.prepared,
            threads=max(p.threads for p in self.parts),
        )

    def _tile(self, layer: Layer, graph: Graph) -> int:
        """Winograd's tile for a layer; where the weights are stored for one algorithm already, they stay with it."""
        weights = self.shared.digest(graph, layer.weights)
        earlier, choice = self.shared.winograd.earlier(weights), self.winograd_tile(layer)
        choice = choice if not earlier or choice in earlier else earlier[0]
        self.shared.winograd.add(weights, choice)
        return choice


def _renamed(step: Step, names: Mapping[str, str]) -> Step:
    """The step with other names for kernels."""
    if isinstance(step, CallStep):
        return replace(step, kernel=names[step.kernel])
    if isinstance(step, LoopStep):
        return replace(step, body=tuple(_renamed(s, names) for s in step.body))
    return step

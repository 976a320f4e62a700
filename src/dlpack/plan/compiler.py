"""The compiler: the graphs of a model, one for each set of input shapes, to one program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import dlpack.operators  # noqa: F401 - enters all operators into the registry
from dlpack.errors import UnsupportedError
from dlpack.graph.attention import attention
from dlpack.graph.blocks import blocks_of
from dlpack.graph.bytes import read_as_bytes
from dlpack.graph.chosen import chosen_products
from dlpack.graph.few import with_small_pictures
from dlpack.graph.fuse import fuse
from dlpack.graph.group_norms import group_norms
from dlpack.graph.halves import halved
from dlpack.graph.heads import scaled_queries, shared_heads
from dlpack.graph.idioms import idioms
from dlpack.graph.ir import Graph
from dlpack.graph.packed import packed_weights
from dlpack.graph.parallel import parallel_convolutions
from dlpack.graph.pictures import with_borders
from dlpack.graph.quantized import quantized
from dlpack.graph.rewrite import rewrite
from dlpack.graph.rounded import rounded, rounded_sources
from dlpack.graph.strassen import strassen
from dlpack.graph.winograd import Layer, winograd
from dlpack.kernels.backend import Backend
from dlpack.kernels.place import place
from dlpack.kernels.settled import Settled, Weights
from dlpack.meaning.quantization import Meaning
from dlpack.plan.assembler import Assembler
from dlpack.plan.launches import in_launches
from dlpack.plan.nibbles import in_nibbles
from dlpack.plan.program import (
    Address,
    CallStep,
    LoopStep,
    NamedKernel,
    Program,
    ShapeSet,
    Step,
)
from dlpack.plan.steps import with_addresses


def compile_graph(graph: Graph, name: str, backend: Backend, winograd: bool = True, threads: int = 1) -> Program:
    """Rewrites, fuses, places, lowers and plans a graph; up to `threads` threads share the kernels' trips.

    `winograd`: whether convolutions may be Winograd's, where the backend expects them to be faster so.
    """
    compiler = Compiler(name, backend, winograd, threads)
    compiler.add(graph)
    return compiler.program()


class Compiler:
    """Compiles the graphs of a model, one for each set of input shapes, to one program; see `compile_graph`."""

    def __init__(
        self,
        name: str,
        backend: Backend,
        winograd: bool = True,
        threads: int = 1,
        weights: Weights | None = None,
        alone: bool = True,
    ) -> None:
        """`weights`: those of the bundle's programs that are compiled before this one, for other machines. `alone`:
        there are no other programs and no other sets of shapes, which would read weights as they are."""
        self.name, self.backend, self.winograd, self.threads = name, backend, winograd, threads
        self.alone = alone
        self.settled = Settled(weights)
        self.parts: list[Program] = []
        self.kernels: dict[int, NamedKernel] = {}  # by the kernel's identity
        self.rounded: dict[str, int] = {}  # by ONNX node, in blocks of how many elements

    def add(self, graph: Graph, meanings: Mapping[str, Meaning] | None = None) -> ShapeSet:
        """Compiles the graph for one more set of shapes; the first set's schedules decide how weights are laid out.

        `meanings` are those of inputs and outputs, by name.
        """
        if graph.opens and not graph.open and self.backend.layouts.halves:
            raise UnsupportedError("pictures of any size and arithmetic in float16 do not go together yet")
        if (graph.open or graph.opens) and self.backend.layouts.rounds:
            raise UnsupportedError("open dimensions and arithmetic in int8 do not go together yet")
        meanings, layouts = meanings or {}, self.backend.layouts
        graph = parallel_convolutions(graph)
        graph = quantized(graph, layouts.dots, layouts.look_up, layouts.dots_each)
        if self.backend.layouts.widens:
            graph, packed = packed_weights(graph)
            if graph.caches and not self.backend.layouts.rounds:
                graph, packed = read_as_bytes(graph, packed)
            self.settled.pack(graph, packed)
        graph = rewrite(group_norms(graph))
        if self.backend.layouts.rounds:
            graph, packed = rounded(graph, lambda name: self.settled.packed_of(graph, name), self.backend.layouts.dots)
            self.settled.pack(graph, packed)
            self.rounded |= rounded_sources(graph)
        graph = idioms(graph)
        if layouts.chooses:
            graph = chosen_products(graph, lambda table: self.settled.packed_of(graph, table) is not None)
        along = graph.open or any(n.op == "JoinPixels" for n in graph.nodes)
        graph = attention(graph, None if along else self.backend.layouts.attention)
        graph = shared_heads(scaled_queries(graph))
        graph = halved(graph) if self.backend.layouts.halves else graph
        graph = winograd(graph, lambda layer: self._tile(layer, graph))
        if graph.opens:
            graph = with_small_pictures(with_borders(graph), self.backend.winograd_tile)
        if self.winograd and self.alone:
            graph = strassen(graph, layouts.strassen, lambda name: self.settled.packed_of(graph, name) is None)
        groups = fuse(graph)
        placement = place(graph, groups, self.backend.layouts)
        assembler = Assembler(placement, self.name, self.backend, self.threads, self.settled)
        part = assembler.program()
        self.settled.settle()
        names, known, number = {}, dict(self.kernels), len(self.parts)
        places = f"s{number}_" if number else ""
        for k in part.kernels:
            old = known.get(id(k.kernel))
            new = replace(k, name=f"s{number}_{k.name}") if number else k
            if old is not None:
                new = replace(old, restrict=self.kernels[id(k.kernel)].restrict and k.restrict)
            names[k.name] = new.name
            self.kernels[id(k.kernel)] = new
        (shape_set,) = part.shape_sets
        kernels = {node: names.get(kernel, kernel) for node, kernel in assembler.kernels_by_node().items()}
        shape_set = replace(
            shape_set,
            inputs=tuple(replace(t, meaning=meanings.get(t.name, t.meaning)) for t in shape_set.inputs),
            outputs=tuple(replace(t, meaning=meanings.get(t.name, t.meaning)) for t in shape_set.outputs),
            steps=tuple(_renamed(s, names, places) for s in shape_set.steps),
            places=tuple(replace(p, key=f"{places}{p.key}", name=f"{places}{p.name}") for p in shape_set.places),
            blocks=blocks_of(graph, groups, kernels),
        )
        self.parts.append(replace(part, shape_sets=(shape_set,), weights=b""))
        return shape_set

    def program(self) -> Program:
        """The program for all sets added."""
        self.settled.weights.settle()
        places = {tuple((c.offset, c.shape, c.strides) for c in part.caches) for part in self.parts}
        assert len(places) == 1, "caches lie in the same places in all sets of shapes"
        whole = replace(
            self.parts[0],
            shape_sets=tuple(s for p in self.parts for s in p.shape_sets),
            kernels=tuple(self.kernels.values()),
            weights=bytes(self.settled.weights.blob),
            prepare=tuple(s for p in self.parts for s in p.prepare),
            prepared=self.settled.prepared,
            weight_places=tuple({place.key: place for p in self.parts for place in p.weight_places}.values()),
            prepared_places=tuple(place for p in self.parts for place in p.prepared_places),
            threads=max(p.threads for p in self.parts),
            rounded=self.rounded,
        )
        return in_launches(in_nibbles(whole, self.backend.layouts.nibbles, self.backend.layouts.rounds))

    def _tile(self, layer: Layer, graph: Graph) -> int:
        """Winograd's tile for a layer; where the weights are stored for one algorithm already, they stay with it."""
        weights = self.settled.digest(graph, layer.weights)
        earlier = self.settled.winograd.earlier(weights)
        choice = self.backend.winograd_tile(layer) if self.winograd else 0
        choice = choice if not earlier or choice in earlier else earlier[0]
        self.settled.winograd.add(weights, choice)
        return choice


def _renamed(step: Step, names: Mapping[str, str], places: str) -> Step:
    """The step with other names for kernels, and `places` before the keys of places in the arena."""

    def moved(a: Address) -> Address:
        return replace(a, place=f"{places}{a.place}") if a.place else a

    if isinstance(step, LoopStep):
        return replace(step, body=tuple(_renamed(s, names, places) for s in step.body))
    if isinstance(step, CallStep):
        few = step.few and replace(step.few, kernel=names[step.few.kernel])
        step = replace(step, kernel=names[step.kernel], few=few)
    renamed: Step = with_addresses(step, moved)
    return renamed

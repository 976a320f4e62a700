"""Packed weights are prefetched a block ahead, and tiles have no more rows than L1 holds beside them."""

from __future__ import annotations

import nets
import numpy as np
from onnx import helper

from dlpack.loops.ir import For, Prefetch, blocks, walk
from dlpack.plan.compiler import compile_graph
from dlpack.plan.program import NamedKernel
from dlpack.stages.prepare import clean_graph
from dlpack.targets.cpu.machine import AVX512
from dlpack.targets.cpu.schedule import CpuBackend


def pixelwise(inputs: int, outputs: int) -> NamedKernel:
    """A 1x1 convolution of 7x7 pixels, which lie as within a network."""
    weights = {"w": np.ones((outputs, inputs, 1, 1), np.float32)}
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Conv", ["r", "w"], ["y"])]
    model = nets.model(nodes, {"x": (1, inputs, 7, 7)}, {"y": (1, outputs, 7, 7)}, weights)
    program = compile_graph(clean_graph(model, {})[1], "net", CpuBackend(AVX512))
    return next(k for k in program.kernels if k.macs)


def prefetched(body: tuple[object, ...], values: dict[str, int]) -> list[int]:
    """The places in the weights that are prefetched, in the order of the run."""
    out = list[int]()
    for s in body:
        if isinstance(s, Prefetch):
            out.append(s.index.const + sum(c * values[str(v)] for v, c in s.index.terms))
        elif isinstance(s, For):
            for i in range(s.begin, s.end, s.step):
                out += prefetched(s.body, {**values, s.var: i})
        else:
            for inner in blocks(s):
                out += prefetched(inner, values)
    return out


def test_the_tiles_of_a_block_prefetch_the_next_one() -> None:
    """Each element's line is asked for while the block before its own is used, and not all by the first tile."""
    kernel = pixelwise(128, 128).kernel
    (tiles,) = (s for s in walk(kernel.body) if isinstance(s, For) and s.var == "c_tile")
    inner = [s for s in tiles.body if isinstance(s, For)]
    assert len(inner) > 1 or inner[0].end > 1
    block = 128 * 32
    places = prefetched(tiles.body, {tiles.var: 0})
    lines = [place // 16 for place in places]
    assert set(lines) >= set(range(block // 16, 2 * block // 16)) and min(places) == block
    assert len(places) < block / 4
    assert not prefetched(pixelwise(64, 64).kernel.body, {})  # which stay in L1


def test_rows_that_share_sets_make_lower_tiles() -> None:
    """Pixels of 4 KiB share one set of twelve lines, two of which are left to the weights."""
    assert "10 x 32" in pixelwise(1024, 32).schedule and "14 x 32" in pixelwise(768, 32).schedule

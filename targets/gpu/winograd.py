"""The rule for Winograd's convolution, in three launches, and where it is faster than the direct one.

The first transforms the input's tiles, a thread per tile and channel; the second multiplies them by the weights, a
product of matrices for each of a tile's positions; the third transforms the products, a thread per tile of the output
and channel, and computes what follows the convolution. Between them the tiles lie in scratch memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlpack.kernels.backend import Layer
from dlpack.kernels.spec import Scheduled
from dlpack.loops.index import Linear, Range
from dlpack.loops.ir import Block as Statements
from dlpack.loops.ir import Expr, Store
from dlpack.loops.layout import Block, Layout
from dlpack.loops.tir import loop_names, lower
from dlpack.targets.cpu.blocks import BlockInfo
from dlpack.targets.cpu.winograd import LARGEST_ERROR, error_bound
from dlpack.targets.gpu.cost import choose_tile, threads_for, traffic_seconds
from dlpack.targets.gpu.gemm import Place, TileWriter, words_for
from dlpack.targets.gpu.lowering import GRID, SHARE, WRITTEN, lower_gpu_kernel
from dlpack.targets.gpu.machine import Gpu
from dlpack.targets.gpu.product import Product, Read, V, inside
from dlpack.targets.gpu.state import GpuState

SIZES = (2, 4)
"""The m of F(m x m, 3x3) whose tiles fit a thread's registers."""

GAIN = 0.9
"""The part of the direct convolution's time that Winograd's may take by the model, which is surer of the former."""


def winograd(state: GpuState) -> Scheduled | None:
    """Schedules Winograd's convolution (operators/winograd.py); None for any other kernel."""
    sch, gpu = state.sch, state.gpu
    if state.statements or all(sch.get(b).name_hint != "winograd_out" for b in state.blocks()):
        return None
    half_in, tiles, products, half_out, *others = state.blocks()
    for b in others[:-1]:
        sch.compute_inline(b)
    out, info = others[-1], state.info(products)
    edge, _, batch, count, outputs = (axis.extent for axis in info.spatial)
    size, inputs = edge - 2, info.extent_of_reduction
    packed = _pack(state, info)
    into, back = (_seconds(gpu, edge, size, batch * count, n) for n in (inputs, outputs))

    i, j, *others = list(sch.get_loops(tiles))
    sch.reorder(*others, i, j)
    _transform(state, others, half_in, (i, j))

    sch.annotate(sch.get_loops(products)[0], WRITTEN, 1)

    n, o, y, x = sch.get_loops(out)
    (yo, yi), (xo, xi) = (sch.split(loop, [None, size]) for loop in (y, x))
    last = [n, o, yo, xo]
    last = [last[d] for d in state.spec.order]
    sch.reorder(*last, yi, xi)
    _transform(state, last, half_out, (yi, xi))

    product = _product(state, info, packed)
    tile, between = choose_tile(gpu, edge * edge, batch * count, outputs, inputs, alone=True)
    threads = threads_for(gpu, min(batch * count * inputs, batch * count * outputs))
    kernel = lower_gpu_kernel(
        lower(sch),
        state.operands(),
        state.spec.order,
        loop_names(sch),
        threads,
        0,
        lambda: (_products(product, tile),),
    )
    words = [
        state.on_paper(f"Winograd F({size}x{size}, 3x3): a thread per tile and channel", into),
        state.on_paper(words_for(tile), between),
        state.on_paper("a thread per tile and channel", back),
    ]
    return Scheduled(kernel, state.packed, "\n".join(words))


def _transform(state: GpuState, shared: list[Any], half: Any, inner: tuple[Any, Any]) -> None:
    """A thread for each trip of the `shared` loops computes a tile, whose first half it keeps in registers."""
    sch = state.sch
    for loop in shared:
        sch.annotate(loop, SHARE, GRID)
    sch.compute_at(half, shared[-1], preserve_unit_loops=True)
    sch.set_scope(half, 0, "local")
    rows, columns = list(sch.get_loops(half))[-5:-3]
    for loop in (rows, columns, *inner):
        sch.unroll(loop)


def _pack(state: GpuState, info: BlockInfo) -> Layout:
    """The transformed weights lie [edge, edge, inputs, outputs], with room for whole vectors of outputs."""
    read = next(r for r in info.reads if state.is_constant(r.buffer))
    edge, _, inputs, outputs = (int(d) for d in read.buffer.shape)
    room = -(-outputs // V) * V
    matrix = inputs * room
    layout = Layout((edge * matrix, matrix, room, matrix), 0, ((3, Block(outputs, 1, room)),))
    index = state.param_index[read.buffer]
    state.packed[index] = layout
    state.padded.add(index)
    return layout


def _product(state: GpuState, info: BlockInfo, packed: Layout) -> Product:
    """The products of a tile's positions as one of matrices: [edge, edge] times [tiles, inputs] x [inputs, outputs]."""
    first, second, batch, count, column = info.spatial
    (step,) = info.reduction
    weights = next(r for r in info.reads if state.is_constant(r.buffer))
    names = {first.name: 0, second.name: 1, step.name: 2}
    of_x = (first, second, batch, count, step)
    x = Read("tiles", {**_dense(of_x), column.name: 0}, 0, True)
    strides = {axis: packed.strides[d] for axis, d in names.items()}
    strides |= {column.name: 1, batch.name: 0, count.name: 0}
    w = Read(state.spec.operands[state.param_index[weights.buffer]].name, strides, 0, True, padded=True)
    return Product(info, (first, second), (batch, count), column, (step,), x, w, info.writes[0].buffer, None)


def _dense(axes: tuple[Any, ...]) -> dict[str, int]:
    """The strides of an array of scratch memory with these axes, the last one innermost."""
    strides, step = {}, 1
    for axis in reversed(axes):
        strides[axis.name] = step
        step *= axis.extent
    return strides


def _products(product: Product, tile: Any) -> Any:
    """The launch between the transforms."""
    ranges: dict[str, Range] = {}
    rows = product.sizes[1]
    strides = _dense(product.info.spatial)
    column = product.column

    def store(index: Mapping[str, Linear], place: Place, sums: Expr) -> Statements:
        address = place.column
        for axis, form in index.items():
            address += form * strides[axis]
        body: Statements = (Store("products", address, sums, V),)
        return inside(place.row, rows, ranges, inside(place.column, column.extent, ranges, body))

    return TileWriter(product, tile, ranges, store).grid()


def _seconds(gpu: Gpu, edge: int, size: int, tiles: int, channels: int) -> float:
    """The estimated time of the transform of so many tiles: bound by what is read and written of each."""
    threads = tiles * channels
    blocks = -(-threads // threads_for(gpu, threads))
    return traffic_seconds(gpu, 4 * threads * (edge * edge + size * size), blocks)


def choose_winograd(gpu: Gpu, layer: Layer) -> int:
    """The m for which F(m x m, 3x3) takes the least time by the model, all three launches; 0 where none is faster than
    the direct convolution, on GPUs whose weights are those of the file, and where outputs fill no vectors."""
    if layer.integers or not gpu.prepares or layer.outputs % V or layer.inputs < V or layer.window != 3:
        return 0
    pixels = layer.batch * layer.height * layer.width
    _, direct = choose_tile(gpu, 1, pixels, layer.outputs, 9 * layer.inputs)

    def seconds(size: int) -> float:
        edge = size + 2
        tiles = layer.batch * -(-layer.height // size) * -(-layer.width // size)
        _, products = choose_tile(gpu, edge * edge, tiles, layer.outputs, layer.inputs, alone=True)
        transforms = (_seconds(gpu, edge, size, tiles, n) for n in (layer.inputs, layer.outputs))
        return products + sum(transforms)

    best = min((m for m in SIZES if error_bound(m, layer.inputs) <= LARGEST_ERROR), key=seconds, default=0)
    return best if best and seconds(best) < GAIN * direct else 0

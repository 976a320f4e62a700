"""Steps that there are for pictures of any size within bounds (graph/pictures.py), besides calls of kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from dlpack.graph.few import FEW, ONE_ROW
from dlpack.graph.fuse import Group
from dlpack.graph.ir import Node, Sizes
from dlpack.kernels.calls import Argument, Call
from dlpack.kernels.place import Buffer, Placement
from dlpack.loops.ir import For, Kernel, walk
from dlpack.loops.sizes import Size
from dlpack.plan.program import (
    Address,
    CallStep,
    CountStep,
    FewCall,
    HaloStep,
    PixelsStep,
    RowsStep,
    ShareStep,
    SpreadStep,
    Step,
    Stride,
    TapsStep,
)

A_STEP = -2
"""In place of a kernel's number: the group is a step."""

STEP_NAMES = {
    "Spread": "spread", "Dense": "gather", "Share": "share", "Count": "count", "Taps": "taps",
    "JoinPixels": "move_pixels", "PartPixels": "move_pixels",
}  # fmt: skip
BY_STEPS = tuple(STEP_NAMES)


def step_call(group: Group, placement: Placement) -> Call:
    """The operands of a step: what it reads, then what it writes."""
    places = [placement.places[v] for v in (*group.inputs, *group.outputs)]
    return Call(A_STEP, tuple(Argument(p.buffer, p.layout.offset) for p in places), group)


def step_of(node: Node, addresses: Sequence[Address], placement: Placement) -> Step:
    if node.op == "Share":
        return ShareStep(addresses[0], node.attrs["sizes"], node.attrs["fixed"])
    if node.op == "Count":
        return CountStep(addresses[0], node.attrs["size"])
    if node.op == "Taps":
        a = node.attrs
        to = a["whole"] if a["to"] is None else a["to"]
        how = tuple(a[key] for key in TapsStep.HOW)
        return TapsStep(addresses[0], addresses[1] if len(addresses) > 1 else None, a["from"], to, a["whole"], how)
    if node.op in ("JoinPixels", "PartPixels"):
        return _pixels_step(node, addresses, placement)
    back = node.op == "Dense"
    value = node.inputs[0] if back else node.outputs[0]
    t, layout = placement.graph.types[value], placement.places[value].layout
    opened = placement.graph.open
    sizes = t.sizes or tuple(placement.graph.length if n == opened else None for n in t.shape)
    dims = [(size or n, stride) for n, size, stride in zip(t.shape, sizes, layout.strides, strict=True) if n > 1]
    return SpreadStep(addresses[0], addresses[1], tuple(dims), back)


def _pixels_step(node: Node, addresses: Sequence[Address], placement: Placement) -> PixelsStep:
    """The picture's dimensions, as they lie in memory, where the pixels are one dimension of the other value."""
    join, d = node.op == "JoinPixels", node.attrs["axis"]
    picture, row = (node.inputs[0], node.outputs[0])[:: 1 if join else -1]
    shape = placement.graph.types[picture].shape
    apart, behind = (placement.places[v].layout.strides for v in (picture, row))
    rows, *columns = node.attrs["sides"]
    dims: list[tuple[int | Size, Stride, Stride]] = []
    for k in sorted(range(len(shape)), key=lambda k: -apart[k]):
        inside = columns and k == d + 1
        count = rows if k == d else columns[0] if inside else shape[k]
        one = behind[k if k <= d else k - len(columns)]
        one = (columns[0], one) if columns and k == d else one
        if count != 1:
            dims.append((count, apart[k], one) if join else (count, one, apart[k]))
    return PixelsStep(addresses[0], addresses[1], tuple(dims))


def few_step(call: Call, placement: Placement, names: Sequence[str], address: Callable[[Argument], Address]) -> FewCall:
    """What is called for small pictures."""
    t = placement.graph.types[call.group.output]
    height, width = (s or n for n, s in zip(t.shape[2:], t.sizes[2:], strict=True))
    arguments = tuple(address(a) for a in call.arguments)
    _, most = call.group.nodes[0].attrs[FEW]
    return FewCall(names[call.kernel], arguments, (height, width), most)


def in_one_row(step: CallStep, call: Call, placement: Placement, kernel: Kernel, last: bool) -> list[Step]:
    """The step, with the rows of the picture one behind the other meanwhile where the operator profits from that.

    `last`: nothing else reads the input later. The kernel's loop along a row must end with any tile.
    """
    node, types = call.group.nodes[0], placement.graph.types
    t = types[call.group.output]
    buffers = [placement.places[v].buffer for v in (node.inputs[0], call.group.output)]
    pictures = [v for v in call.group.inputs if types[v].sizes]
    rows, columns = t.sizes[2:] if ONE_ROW in node.attrs else (None, None)
    if rows is None or columns is None or not last or pictures != [node.inputs[0]] or kernel.open_trips:
        return [step]
    if any(placement.buffers[b].kind != "arena" for b in buffers) or set(kernel.sizes) != {rows, columns}:
        return [step]
    ends = [s.open for s in walk(kernel.body) if isinstance(s, For) and s.open]
    if any(o.size == columns and (o.most or o.less) for o in ends):
        return [step]
    moved: list[RowsStep] = []
    for value, address in ((node.inputs[0], step.arguments[0]), (call.group.output, step.arguments[-1])):
        _, channel, row, pixel = placement.places[value].layout.strides
        if channel != 1:
            return [step]
        moved.append(RowsStep(address, rows, columns, types[value].shape[1], pixel, row, bool(moved)))
    return [moved[0], replace(step, one_row=(rows, columns)), moved[1]]


class Borders:
    """Borders, which steps fill; those that move with the size of a picture before something reads what was written."""

    def __init__(self, placement: Placement) -> None:
        self.buffers = placement.buffers
        types = placement.graph.types
        self.sizes: dict[str, Sizes] = {
            name: types[name].sizes for name, b in placement.buffers.items() if b.halo and any(types[name].sizes)
        }
        self.written: set[str] = set()

    def due(self, call: Call) -> Iterator[Buffer]:
        """The buffers whose border is to be filled before a call."""
        count = len(call.group.outputs)
        read, written = call.arguments[:-count], call.arguments[-count:]
        for name in dict.fromkeys(a.buffer for a in read):
            if name in self.written:
                self.written.discard(name)
                yield self.buffers[name]
        self.written.update(a.buffer for a in written if a.buffer in self.sizes)

    def step(self, b: Buffer, target: Address) -> HaloStep:
        """Fills the border of a buffer that lies at `target`, of a picture of any size that around what a run has."""
        assert b.halo is not None
        order = sorted(range(len(b.shape)), key=lambda d: -b.layout.strides[d])
        shape, low, high = (tuple(of[d] for d in order) for of in (b.shape, b.halo.low, b.halo.high))
        used = tuple(self.sizes[b.name][d] for d in order) if b.name in self.sizes else ()
        return HaloStep(target, shape, low, high, b.halo.fill, used)

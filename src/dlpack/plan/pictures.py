"""Steps that there are for pictures of any size within bounds (graph/pictures.py), besides calls of kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dlpack.graph.few import FEW
from dlpack.graph.fuse import Group
from dlpack.graph.ir import Node, Sizes
from dlpack.kernels.calls import Argument, Call
from dlpack.kernels.few import longest, squares
from dlpack.kernels.place import Buffer, Placement
from dlpack.plan.program import Address, FewCall, ShareStep, SpreadStep, Step, TapsStep

A_STEP = -2
"""In place of a kernel's number: the group is a step."""

STEP_NAMES = {"Spread": "spread", "Dense": "gather", "Share": "share", "Taps": "taps"}
BY_STEPS = tuple(STEP_NAMES)


def step_call(group: Group, placement: Placement) -> Call:
    """The operands of a step: what it reads, then what it writes."""
    places = [placement.places[v] for v in (*group.inputs, *group.outputs)]
    return Call(A_STEP, tuple(Argument(p.buffer, p.layout.offset) for p in places), group)


def step_of(node: Node, addresses: Sequence[Address], placement: Placement) -> Step:
    if node.op == "Share":
        return ShareStep(addresses[0], node.attrs["sizes"], node.attrs["fixed"])
    if node.op == "Taps":
        a = node.attrs
        to = a["whole"] if a["to"] is None else a["to"]
        how = tuple(a[key] for key in TapsStep.HOW)
        return TapsStep(addresses[0], addresses[1] if len(addresses) > 1 else None, a["from"], to, a["whole"], how)
    back = node.op == "Dense"
    value = node.inputs[0] if back else node.outputs[0]
    t, layout = placement.graph.types[value], placement.places[value].layout
    dims = [
        (size or n, stride)
        for n, size, stride in zip(t.shape, t.sizes or (None,) * len(t.shape), layout.strides, strict=True)
        if n > 1
    ]
    return SpreadStep(addresses[0], addresses[1], tuple(dims), back)


def few_step(call: Call, placement: Placement, names: Sequence[str], address: Callable[[Argument], Address]) -> FewCall:
    """What is called for small pictures."""
    t = placement.graph.types[call.group.output]
    height, width = (s or n for n, s in zip(t.shape[2:], t.sizes[2:], strict=True))
    arguments = tuple(address(a) for a in call.arguments)
    node = call.group.nodes[0]
    sides = tuple(longest(n, side) for n, side in zip(t.shape[2:], squares(node), strict=True))
    return FewCall(names[call.kernel], arguments, height, width, node.attrs[FEW].most, sides)


class Borders:
    """The borders that move with the size of a picture: they are filled before something reads what was written."""

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

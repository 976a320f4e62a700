"""One kernel while it is being scheduled: its blocks, where its operands lie, how its constants are packed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any

from dlpack.kernels.spec import WIDENED, KernelSpec, Scheduled
from dlpack.loops.bytes_together import bytes_together
from dlpack.loops.expressions import Operand, dtype_of
from dlpack.loops.factors import factor_out
from dlpack.loops.half_sums import in_parts
from dlpack.loops.ir import HALF
from dlpack.loops.lanes import by_lane
from dlpack.loops.layout import Block, Layout, dense
from dlpack.loops.lower import PARALLEL, lower_kernel
from dlpack.loops.matrices import pairs_of_rows
from dlpack.loops.opened import opened
from dlpack.loops.rests import OF_PICTURES, OF_TEXTS, with_rests
from dlpack.loops.sized import sized
from dlpack.loops.slopes import larger_part
from dlpack.loops.sums import start_from_addend
from dlpack.loops.tir import Schedule, loop_names, lower, new_schedule
from dlpack.targets.cpu.blocks import Access, BlockInfo, examine
from dlpack.targets.cpu.machine import Machine, in_halves
from dlpack.targets.cpu.tiles import are_far, bytes_per_cycle, room

PARALLEL_CYCLES = 6000
"""Kernels that take fewer are not worth a second thread: to wake and to wait for it takes one or two microseconds."""


class State:
    """One kernel while it is being scheduled."""

    def __init__(self, spec: KernelSpec, machine: Machine) -> None:
        self.spec, self.machine = spec, machine
        self.sch: Schedule = new_schedule(spec.tensors)
        func = self.sch.mod["main"]
        self.statements = str(func.body.block.name_hint) != "root"  # one block that is not te's: operators/loops.py
        self.root = None if self.statements else self.sch.get_sblock("root")
        self.param_index = {p: i for i, p in enumerate(func.params)}
        if any(str(t.dtype) == "float16" for t in spec.tensors):
            self.machine = in_halves(machine)
            for b in self.blocks():
                if str(self.sch.get(b).name_hint).startswith(WIDENED):
                    self.sch.compute_inline(b)
        self.packed: dict[int, Layout] = {}
        self.padded: set[int] = set()

    def layout(self, buffer: Any) -> Layout:
        i = self.param_index.get(buffer)
        if i is None:
            return dense([int(d) for d in buffer.shape])
        return self.packed.get(i, self.spec.operands[i].layout)

    def is_constant(self, buffer: Any) -> bool:
        return self.param_index.get(buffer, -1) in self.spec.constant

    def blocks(self) -> list[Any]:
        return list(self.sch.get_child_blocks(self.root))

    def info(self, block: Any) -> BlockInfo:
        return examine(self.sch.get(block), self.layout)

    def widths(self, buffers: Iterable[Any]) -> list[int]:
        """The blocks' sizes of those constants that are packed already."""
        return [block.size for block in self._blocks_of(buffers)]

    def rooms(self, buffers: Iterable[Any]) -> list[int]:
        """The room of the blocks of those constants that are packed already."""
        return [block.room for block in self._blocks_of(buffers)]

    def _blocks_of(self, buffers: Iterable[Any]) -> Iterator[Block]:
        fixed = (self.spec.fixed.get(self.param_index[b], ()) for b in buffers)
        return (block for layouts in fixed for layout in layouts for _, block in layout.blocks)

    def share(self, loops: Sequence[Any], part: float = 1.0) -> None:
        """Lets threads share the trips of that loop of `loops` that splits most evenly, an earlier rather than a later.

        They are loops over the output around all that the kernel does. A kernel of a few microseconds is left alone.
        `part`: of what the schedule's loops go through, so much is computed.
        """
        threads = self.machine.threads
        if threads == 1 or self.cycles() * part < PARALLEL_CYCLES:
            return
        extents = [int(self.sch.get(x).extent) for x in loops]
        uneven = [-(-n // threads) * threads / n for n in extents]
        best = [x for x, n, u in zip(loops, extents, uneven, strict=True) if n > 1 and u < min(uneven) + 0.05]
        if best:
            self.sch.annotate(best[0], PARALLEL, 1)

    def cycles(self) -> float:
        """Estimated: a vector operation per reduced element, four per element of another stage; at least as long as
        the weights of sums take to come from the cache that holds them, which is most of a product of one row."""
        infos = [self.info(b) for b in self.blocks()]
        each = self.machine.lanes * self.machine.fma_ports
        operations = sum(points(i) * (i.extent_of_reduction if i.reduces else 4) / each for i in infos)
        reads = (r for i in infos if i.reduces for r in i.reads if self.is_constant(r.buffer) and _reads_all(r))
        weights = sum({r.buffer: r.size * itemsize(r.buffer) for r in reads}.values())
        return max(operations, weights / bytes_per_cycle(self.machine, weights))

    def finish(self, description: str) -> Scheduled:
        operands = [
            Operand(o.name, self.packed.get(i, o.layout), o.written, i in self.padded)
            for i, o in enumerate(self.spec.operands)
        ]
        kernel = lower_kernel(
            lower(self.sch), operands, self.machine.lanes, self.spec.order, loop_names(self.sch), list(self.spec.open)
        )
        constants = {kernel.params[i].name for i in self.spec.constant}
        kernel = factor_out(kernel, constants, self.machine.registers)
        if self.machine.by_lane:
            kernel = in_parts(larger_part(kernel))
            registers = room(self.machine) if self.machine.pairs else 0
            kernel = start_from_addend(kernel, constants)
            kernel = by_lane(kernel, self.machine.lanes, registers, tuple(self.spec.open))
        if self.machine.narrows_together:
            kernel = bytes_together(start_from_addend(kernel, constants, ("int32",)))
        if self.machine.dot == "smmla":
            kernel = pairs_of_rows(kernel)
        if self.spec.open:
            shapes = [t.shape for t in self.spec.tensors]
            kernel = opened(kernel, operands, shapes, self.spec.tags, self.spec.constant, self.spec.open)
        elif self.spec.tags:
            shapes = [t.shape for t in self.spec.tensors]
            kernel = sized(kernel, operands, shapes, self.spec.tags, self.spec.reduces)
        if self.spec.open or self.spec.tags:
            weights = (prod(map(int, self.spec.tensors[i].shape)) for i in self.spec.constant)
            kind = OF_TEXTS if self.spec.open else OF_PICTURES
            kernel = with_rests(kernel, any(are_far(n, self.machine) for n in weights), kind)
        return Scheduled(kernel, self.packed, description)


def _reads_all(access: Access) -> bool:
    """Whether axes go along all dimensions, none of which is at a place that is data."""
    shape = [int(d) for d in access.buffer.shape]
    return {d for d, n in enumerate(shape) if n > 1} <= set(access.dimension_of.values())


def itemsize(buffer: Any) -> int:
    """Bytes of an element."""
    dtype = dtype_of(buffer)
    return 1 if dtype.endswith("int8") else 2 if dtype == HALF else 4


def points(info: BlockInfo) -> int:
    """Elements that a block computes."""
    n = 1
    for a in info.spatial:
        n *= a.extent
    return n

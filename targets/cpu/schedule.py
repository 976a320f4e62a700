"""Schedule rules for CPUs: a rule takes a kernel's blocks and schedules them, or returns None; the first match wins.

The tiles are computed from the machine description; nothing is searched. All rules leave loops that
`dlpack.loops.lower` understands: vector loops of any length, unrolled register tiles, local accumulators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlpack.kernels.backend import Layer, LayoutPreferences
from dlpack.kernels.spec import KernelSpec, Scheduled
from dlpack.loops.lower import VECTOR_REDUCE
from dlpack.targets.cpu.attention import attention, fuses
from dlpack.targets.cpu.block_dot import block_dot, round_blocks
from dlpack.targets.cpu.blocks import Access, Axis, BlockInfo
from dlpack.targets.cpu.dot import dot
from dlpack.targets.cpu.machine import Machine, in_halves
from dlpack.targets.cpu.pixels import pixels
from dlpack.targets.cpu.register_tile import held_lines, register_tile
from dlpack.targets.cpu.state import State, points
from dlpack.targets.cpu.strassen import strassen_pays
from dlpack.targets.cpu.tiles import LINE
from dlpack.targets.cpu.winograd import choose_integers, choose_winograd, winograd

PARALLEL_RUN = 4096
"""Elements that a thread takes at a time where there is but one loop."""


class CpuBackend:
    """A processor core as `dlpack.kernels.backend.Backend`."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.name = machine, machine.name
        self.layouts = LayoutPreferences(
            dots=machine.dot_operand,
            dots_each=machine.dot_each,
            look_up=machine.look_up,
            attention=None if machine.halves else lambda found: fuses(found, machine),
            strassen=None if machine.halves else lambda product: strassen_pays(product, machine),
            halves=machine.halves,
            chooses=machine.lanes > 1 and not machine.by_lane,
            nibbles=machine.lanes if machine.looks_up_16 else 0,
            rounds=machine.lanes if machine.rounds else 0,
        )

    def schedule(self, spec: KernelSpec) -> Scheduled:
        return schedule(spec, self.machine)

    def winograd_tile(self, layer: Layer) -> int:
        if layer.integers:
            return choose_integers(self.machine, layer)
        machine = in_halves(self.machine) if layer.halves else self.machine
        sizes = (layer.batch, layer.inputs, layer.outputs, layer.height, layer.width)
        return choose_winograd(machine, *sizes, layer.window, layer.tile)


def schedule(spec: KernelSpec, machine: Machine) -> Scheduled:
    """Schedules and lowers one kernel."""
    for rule in RULES:
        result = rule(State(spec, machine))
        if result is not None:
            return result
    raise AssertionError("the last rule takes every kernel")


def rows(state: State) -> Scheduled | None:
    """Several stages over the same rows (softmax, normalisation, a reduction of rows): one pass per row."""
    sch, order = state.sch, state.spec.order
    if not order:
        return None
    inline_single_use(state)
    blocks = state.blocks()
    infos = [state.info(b) for b in blocks]
    reducing = [i for i in infos if i.reduces]
    if not reducing or any(i.opaque for i in infos) or len(infos[-1].spatial) != len(order):
        return None
    if infos[-1].reduces and len(blocks) > 1:
        return None
    for i in reducing:  # the reduced dimensions must be the contiguous ones
        last = i.reduction[-1].name
        moving = [r for r in i.reads if r.strides.get(last) != 0 and r.buffer != i.writes[0].buffer]
        if not moving or any(r.strides.get(last) != 1 for r in moving):
            return None
    out, info = blocks[-1], infos[-1]
    loops = list(sch.get_loops(out))[: len(order)]
    sch.reorder(*[loops[d] for d in order])
    # The outer dimensions that every stage shares: those of the output that the reductions keep.
    common = min(sum(a.extent > 1 for a in i.spatial) for i in reducing)
    outer = [d for d in order if info.spatial[d].extent > 1][:common]
    if len(blocks) > 1 and outer:
        for b in reversed(blocks[:-1]):
            sch.compute_at(b, loops[outer[-1]], preserve_unit_loops=True)
            sch.set_scope(b, 0, "local")
    state.share([loops[d] for d in outer])
    for b, i in zip(blocks[:-1], infos, strict=False):
        _vectorise_stage(state, b, i, None)
    if info.reduces:
        _vectorise_stage(state, out, info, None)
    elif info.spatial[order[-1]].extent > 1 and order[-1] not in outer:
        sch.vectorize(loops[order[-1]])
    return state.finish("rows")


def inline_single_use(state: State) -> None:
    """Inlines the pointwise stages that are as large as the output and read once."""
    sch = state.sch
    blocks = state.blocks()
    size = max(points(state.info(b)) for b in blocks)
    for b in blocks[:-1]:
        i = state.info(b)
        if not i.reduces and not i.opaque and points(i) == size and len(sch.get_consumers(b)) == 1:
            sch.compute_inline(b)


def generic(state: State) -> Scheduled | None:
    """Every stage on its own: loops in memory order, vectors along the contiguous dimension."""
    inline_single_use(state)
    blocks = state.blocks()
    for b in blocks:
        info = state.info(b)
        if info.opaque:
            continue
        order = state.spec.order if len(info.spatial) == len(state.spec.order) else None
        if len(blocks) == 1:
            loops = list(state.sch.get_loops(b))
            if len(loops) == 1 and state.machine.threads > 1:
                loops = list(state.sch.split(loops[0], [None, PARALLEL_RUN]))
            state.share(loops[: len(loops) - len(info.reduction)][:-1])
        _vectorise_stage(state, b, info, order)
    return state.finish("loops")


def _vectorise_stage(state: State, block: Any, info: BlockInfo, order: Sequence[int] | None) -> None:
    """Puts the loop that walks memory with stride 1 innermost and marks it for vectors."""
    sch = state.sch
    loops = list(sch.get_loops(block))
    own = (
        loops[len(loops) - len(info.spatial) - len(info.reduction) :]
        if len(loops) >= len(info.spatial) + len(info.reduction)
        else None
    )
    if own is None:
        return
    spatial, reduction = own[: len(info.spatial)], own[len(info.spatial) :]
    if not info.reduces:
        if not spatial:
            return
        inner = order[-1] if order is not None else _unit_axis(info, info.spatial)
        if order is not None and len(order) == len(spatial):
            sch.reorder(*[spatial[d] for d in order])
        elif inner is not None and inner != len(spatial) - 1:
            sch.reorder(*[x for k, x in enumerate(spatial) if k != inner], spatial[inner])
        if inner is not None:
            sch.vectorize(spatial[inner])
        return
    if len(info.writes) != 1 or info.dtype != "float32":
        return
    last = info.reduction[-1]
    others = [r for r in info.reads if r.buffer != info.writes[0].buffer]
    if any(r.strides.get(last.name) == 1 for r in others) and all(r.strides.get(last.name) in (0, 1) for r in others):
        if len(reduction) > 1 and all(_one_run(r, info.reduction) for r in others):
            reduction = [sch.fuse(*reduction)]
        sch.decompose_reduction(block, reduction[0])
        exact = state.spec.reduces and state.spec.tags and not state.spec.open  # ends with any pixel of a row
        if not exact or not state.spec.may_be_less(last.extent):
            sch.annotate(sch.get_loops(block)[-1], VECTOR_REDUCE, 1)
        return
    inner = _unit_axis(info, info.spatial)
    if inner is None:
        return
    v = spatial[inner]
    vo, vi = sch.split(v, [None, state.machine.lanes * 4])
    sch.reorder(*[x for k, x in enumerate(spatial) if k != inner], vo, *reduction, vi)
    sch.vectorize(vi)
    sch.decompose_reduction(block, reduction[0])


def _one_run(read: Access, axes: Sequence[Axis]) -> bool:
    """Whether a read walks through memory without gaps along axes, of which the last is the innermost; or stands."""
    steps = [read.strides.get(a.name) for a in axes]
    if not any(steps):
        return None not in steps
    return all(outer == a.extent * (inner or 0) for outer, inner, a in zip(steps, steps[1:], axes[1:], strict=False))


def _unit_axis(info: BlockInfo, axes: Sequence[Any]) -> int | None:
    """The axis along which the write, and as many reads as can be, have stride 1."""
    write = info.writes[0]
    best = [k for k, a in enumerate(axes) if a.extent > 1 and write.strides.get(a.name) == 1]
    return best[-1] if best else None


def across(state: State) -> Scheduled | None:
    """One value from one memory order to another: in runs of the output whose elements are in as many lines of the
    input, which stay in L1 until all of each line has been read."""
    sch, order = state.sch, state.spec.order
    inline_single_use(state)
    blocks = state.blocks()
    info = state.info(blocks[0])
    plain = len(blocks) == 1 and not info.reduces and not info.opaque and state.machine.lanes > 1
    if not plain or not order or len(info.spatial) != len(order):
        return None
    inner = info.spatial[order[-1]]
    moving = [r for r in info.reads if r.size >= points(info) // 2]
    lines = {a.name for r in moving for a in info.spatial if r.strides.get(a.name) == 1 and a.extent > 1}
    if len(moving) != 1 or len(lines) != 1 or inner.name in lines or not (step := moving[0].strides.get(inner.name)):
        return None
    (d,) = (d for d in order if info.spatial[d].name in lines)
    whole = bool(state.spec.open) or state.spec.may_be_less(inner.extent)
    lengths = [n for n in RUNS if not whole or inner.extent % n == 0] or [*RUNS]
    lengths = lengths[-1:] if state.spec.open and state.spec.may_be_less(inner.extent) else lengths  # few are beyond
    length = next((n for n in lengths if n <= held_lines(4 * step, state.machine)), lengths[-1])
    if info.spatial[d].extent < LINE or inner.extent < 2 * length:
        return None
    loops = list(sch.get_loops(blocks[0]))
    runs, run = sch.split(loops[order[-1]], [None, length])
    outer = [loops[k] for k in order[:-1] if k != d]
    sch.reorder(*outer, runs, loops[d], run)
    sch.vectorize(run)
    state.share([*outer, runs])
    return state.finish(f"loops, in runs of {length}")


RUNS = (64, 32, 16)
"""Lengths of a run, in elements."""


def as_written(state: State) -> Scheduled | None:
    """Loops that the operator wrote itself (operators/loops.py)."""
    return state.finish("as written") if state.statements else None


RULES: tuple[Callable[[State], Scheduled | None], ...] = (
    as_written,
    winograd,
    pixels,
    attention,
    round_blocks,
    block_dot,
    dot,
    register_tile,
    rows,
    across,
    generic,
)

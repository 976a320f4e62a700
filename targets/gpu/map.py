"""The rules that take what no other does: a thread per output, or the stages of a kernel one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlpack.kernels.spec import Scheduled
from dlpack.targets.cpu.blocks import BlockInfo
from dlpack.targets.cpu.schedule import inline_single_use
from dlpack.targets.cpu.state import points
from dlpack.targets.gpu.cost import threads_for
from dlpack.targets.gpu.lowering import GRID, SHARE, THREADS
from dlpack.targets.gpu.state import GpuState


def map_rule(state: GpuState) -> Scheduled | None:
    """A thread per output: pointwise, movement, pooling, depthwise, and sums, each by one thread."""
    found = _match(state)
    return None if found is None else _apply(state, found, threads_for(state.gpu, points(found.info)))


@dataclass(frozen=True)
class _Map:
    """A kernel of one stage: `out` writes the output, from the sums of `reduction`, if there is one."""

    out: Any
    info: BlockInfo
    reduction: Any | None


def _match(state: GpuState) -> _Map | None:
    sch = state.sch
    inline_single_use(state)
    blocks = state.blocks()
    infos = [state.info(b) for b in blocks]
    reducing = [b for b, i in zip(blocks, infos, strict=True) if i.reduces]
    written = sum(o.written for o in state.spec.operands)
    if written != 1 or len(reducing) > 1 or any(i.opaque or len(i.writes) != 1 for i in infos):
        return None
    last = blocks[-1]
    for b in blocks[:-1]:
        if b not in reducing:
            sch.compute_inline(b)
    if not reducing:
        return _Map(last, state.info(last), None)
    reduction = reducing[0]
    if reduction == last:
        last = sch.cache_write(reduction, 0, "local")
    else:
        if len(state.info(reduction).spatial) != len(state.info(last).spatial) or points(
            state.info(reduction)
        ) != points(state.info(last)):
            return None  # several outputs need the same sum
        sch.set_scope(reduction, 0, "local")
    return _Map(last, state.info(last), reduction)


def _apply(state: GpuState, found: _Map, threads: int) -> Scheduled:
    sch = state.sch
    loops = share(state, found.out, found.info, GRID)
    if found.reduction is not None:
        info = state.info(found.reduction)
        if len(state.spec.order) == len(info.spatial) > 0:
            state.pack_along(info, info.spatial[state.spec.order[-1]])
        if loops:
            sch.compute_at(found.reduction, loops[-1], preserve_unit_loops=True)
        sch.decompose_reduction(found.reduction, list(sch.get_loops(found.reduction))[-len(info.reduction)])
    return state.done("a thread per output", threads)


def share(state: GpuState, block: Any, info: BlockInfo, whose: str) -> list[Any]:
    """Shares all of a stage's loops over its output, in memory order where that is the kernel's; returns them."""
    sch, order = state.sch, state.spec.order
    loops = list(sch.get_loops(block))
    own = loops[len(loops) - len(info.spatial) - len(info.reduction) :][: len(info.spatial)]
    if len(order) == len(own) > 1:
        own = [own[d] for d in order]
        sch.reorder(*own)
    for loop in own:
        sch.annotate(loop, SHARE, whose)
    return own


def stages(state: GpuState) -> Scheduled | None:
    """Every stage on its own, one after the other in a single block, whose threads share a stage's outputs."""
    inline_single_use(state)
    sch = state.sch
    infos = [(b, state.info(b)) for b in state.blocks()]
    if any(i.opaque for _, i in infos):
        return state.done("one thread", 1)
    widest = max(points(i) for _, i in infos)
    for b, info in infos:
        share(state, b, info, THREADS)
        if info.reduces:
            sch.decompose_reduction(b, list(sch.get_loops(b))[-len(info.reduction)])
    threads = 32
    while threads < min(widest, state.gpu.threads):
        threads *= 2
    return state.done("one block, stage by stage", threads)

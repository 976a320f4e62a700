"""How a kernel is launched: its grid, its block, and the shared memory that a block takes."""

from __future__ import annotations

from dataclasses import dataclass

from dlpack.loops.ir import Array, For, Kernel, LoopAxis, Space, walk

ITEMSIZE = {"float64": 8, "int64": 8, "uint64": 8, "int8": 1, "uint8": 1, "bool": 1, "int16": 2, "uint16": 2}
"""Bytes of an element, where they are not 4."""

MOST_BLOCKS = 65535
"""Blocks in the second and third dimension of a grid, on all GPUs; on WebGPU also in the first."""


@dataclass(frozen=True)
class Launch:
    """`grid` in blocks and `block` in threads, each (x, y, z); `shared` is the bytes of the kernel's own arrays, all
    of them static, without those of device functions (128 at most)."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int


def launch_of(kernel: Kernel) -> Launch:
    """What the loops of a kernel ask for. Raises ValueError where its loops of threads differ in their number."""
    grid = [s.end for s in walk(kernel.body) if isinstance(s, For) and s.axis is LoopAxis.BLOCK]
    threads = {s.step for s in walk(kernel.body) if isinstance(s, For) and s.axis is LoopAxis.THREAD}
    if len(threads) != 1 or len(grid) > 3:
        raise ValueError(f"a kernel with loops for {sorted(threads)} threads and {len(grid)} loops of blocks")
    x, y, z = (*reversed(grid), 1, 1, 1)[:3]
    arrays = {s.name: s for s in walk(kernel.body) if isinstance(s, Array) and s.space is Space.SHARED}
    shared = sum(-(-a.size * ITEMSIZE.get(a.dtype, 4) // 16) * 16 for a in arrays.values())
    return Launch((x, y, z), (threads.pop(), 1, 1), shared)

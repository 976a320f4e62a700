"""What a call of a kernel consists of: the kernel, its arguments, what is to be done before."""

from __future__ import annotations

from dataclasses import dataclass

from dlpack.graph.fuse import Group
from dlpack.loops.ir import Kernel
from dlpack.loops.layout import Layout
from dlpack.loops.sizes import Size


@dataclass(frozen=True)
class Argument:
    """What a kernel is called with: a buffer, an element offset, and the packed layout where it is a packed constant.

    `in_place` marks an input that the kernel reads only where it then writes the output.
    """

    buffer: str
    offset: int
    packed: Layout | None = None
    in_place: bool = False


@dataclass(frozen=True)
class Fill:
    """An argument of a call, contiguous along the open dimension, that is to have `value` behind its elements.

    `rows` has the other dimensions' extents and strides; a `Size` is what a run has, and `size` that of the dimension.
    """

    argument: int
    rows: tuple[tuple[int | Size, int], ...]
    value: float
    size: Size


@dataclass(frozen=True)
class Call:
    """One kernel at work: `kernel` numbers it among the distinct ones."""

    kernel: int
    arguments: tuple[Argument, ...]
    group: Group
    fills: tuple[Fill, ...] = ()
    few: Call | None = None
    """What is called instead where a run's picture is small (kernels/few.py)."""

    @property
    def each(self) -> tuple[Call, ...]:
        """The call and the one for small pictures, if there is one."""
        return (self, self.few) if self.few else (self,)


@dataclass(frozen=True)
class KernelEntry:
    kernel: Kernel
    description: str
    inputs: int

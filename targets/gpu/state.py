"""One kernel while it is being scheduled for a GPU."""

from __future__ import annotations

from math import prod

from dlpack.kernels.spec import KernelSpec, Scheduled
from dlpack.loops.expressions import Operand
from dlpack.loops.ir import Param
from dlpack.loops.layout import dense
from dlpack.loops.tir import loop_names, lower
from dlpack.targets.cpu.blocks import Axis, BlockInfo
from dlpack.targets.cpu.machine import SCALAR
from dlpack.targets.cpu.state import State
from dlpack.targets.gpu.cost import traffic_seconds
from dlpack.targets.gpu.launch import ITEMSIZE, launch_of
from dlpack.targets.gpu.lowering import lower_gpu_kernel
from dlpack.targets.gpu.machine import Gpu


class GpuState(State):
    """What the rules for GPUs share with those for processors: blocks, strides of accesses, packed constants."""

    def __init__(self, spec: KernelSpec, gpu: Gpu) -> None:
        super().__init__(spec, SCALAR)
        self.gpu = gpu

    def pack_along(self, info: BlockInfo, axis: Axis) -> None:
        """Packs the constants that a stage reads along `axis` with far apart elements: that dimension innermost, so
        that neighbouring threads read neighbouring elements."""
        for read in info.reads:
            i = self.param_index.get(read.buffer, -1)
            dimension = read.dimension_of.get(axis.name)
            if i not in self.spec.constant or dimension is None or read.strides.get(axis.name) in (0, 1, None):
                continue
            shape = [int(d) for d in read.buffer.shape]
            wanted = dense(shape, (*(d for d in range(len(shape)) if d != dimension), dimension))
            fixed = self.spec.fixed.get(i, ())
            if not fixed or wanted in fixed:
                self.packed[i] = wanted

    def operands(self) -> list[Operand]:
        return [
            Operand(o.name, self.packed.get(i, o.layout), o.written, i in self.padded, o.aligned)
            for i, o in enumerate(self.spec.operands)
        ]

    def params(self) -> tuple[Param, ...]:
        """The kernel's parameters, for a rule that writes the kernel itself."""
        both = zip(self.spec.operands, self.spec.tensors, strict=True)
        return tuple(Param(o.name, str(t.dtype), o.written) for o, t in both)

    def done(self, description: str, threads: int) -> Scheduled:
        """Lowers what is scheduled, with `threads` threads in a block."""
        kernel = lower_gpu_kernel(
            lower(self.sch), self.operands(), self.spec.order, loop_names(self.sch), threads, self.gpu.shared_bytes
        )
        seconds = traffic_seconds(self.gpu, self.nbytes, prod(launch_of(kernel).grid))
        return Scheduled(kernel, self.packed, self.on_paper(description, seconds))

    @property
    def nbytes(self) -> int:
        """What the operands take up, each once."""
        shapes = ([int(n) for n in t.shape] for t in self.spec.tensors)
        return sum(
            prod(s, start=1) * ITEMSIZE.get(str(t.dtype), 4) for s, t in zip(shapes, self.spec.tensors, strict=True)
        )

    def on_paper(self, description: str, seconds: float) -> str:
        """A schedule in words, with the cost model's time."""
        return f"{description}; {seconds * 1e6:.1f} us on {self.gpu.name} by the cost model"

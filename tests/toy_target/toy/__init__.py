"""toy: a machine that does not exist. Its kernels are in a language of macros, which its own section of the file
defines; the host puts each kernel on a tape, which --toy-count counts. `test_toy_target.py` builds and runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from dlpack.amalgamate.cpp import CppPrinter
from dlpack.amalgamate.machines import Code
from dlpack.kernels.backend import Backend, Layer, LayoutPreferences
from dlpack.kernels.spec import KernelSpec, Scheduled
from dlpack.loops.ir import For
from dlpack.plan.program import Program
from dlpack.targets.base import Build, Target, TargetOption, processor
from dlpack.targets.cpu.machine import SCALAR, Machine
from dlpack.targets.toolchains.compiler import missing_compiler
from dlpack.targets.toolchains.host import library_name

COUNT = "toy-count"


class ToyPrinter(CppPrinter):
    """Loops are ``REPEAT(i, 0, 8)``, and a kernel is declared with ``TOY``."""

    def head(self, kernel: Any, name: str, restrict: bool) -> list[str]:
        first, *rest = super().head(kernel, name, restrict)
        return [first.replace("void ", "TOY ", 1), *rest]

    def loop(self, s: For, pad: str) -> list[str]:
        if s.step != 1:
            return super().loop(s, pad)
        return [f"{pad}REPEAT({s.var}, {s.begin}, {s.end}) {{"]


class ToyBackend:
    """Schedules as a processor without vectors does, and wants every value in the order of its dimensions."""

    name = "toy"
    layouts = LayoutPreferences(few_channels=1 << 30, long_row=1, wide_rows=1 << 30)

    def __init__(self, cpu: Backend) -> None:
        self.cpu = cpu

    def schedule(self, spec: KernelSpec) -> Scheduled:
        return self.cpu.schedule(spec)

    def winograd_tile(self, layer: Layer) -> int:
        return 0


def backend(machine: Machine, threads: int) -> Backend:
    return ToyBackend(processor(machine, threads))


def code(machine: Machine, program: Program, count: bool) -> Code:
    counted = 'extern "C" __attribute__((visibility("default"))) inline int toy_launches = 0;' if count else ""
    section = "#define TOY static void\n#define REPEAT(i, from, to) for (int i = from; i < to; ++i)"
    section += "\n#define TAPE(kernel) kernel" if not count else "\n#define TAPE(kernel) ++toy_launches, kernel"
    parts = (("TOY", "the language of the kernels below", f"{section}\n{counted}".strip()),)

    def launch(kernel: str, arguments: Sequence[str]) -> str:
        return f"TAPE({kernel})({', '.join(arguments)});"

    return Code(program, "toy", printer=ToyPrinter, sections=parts, launch=launch, conditions=frozenset({"toy"}))


def build(count: bool) -> Build:
    return Build(
        lambda: SCALAR,
        library_name(),
        runs_here=lambda: True,
        backend=backend,
        code=partial(code, count=count),
    )


def select(values: Mapping[str, Any]) -> tuple[Build, ...]:
    return (build(bool(values.get(COUNT))),)


TARGET = Target(
    name="toy",
    about="a machine that does not exist",
    builds=(build(count=False),),
    missing=missing_compiler,
    options=(TargetOption(COUNT, "Count the kernels that the host launches."),),
    select=select,
)

"""What a target is to the rest of the compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dlpack.targets.cpu.machine import Machine
from dlpack.targets.toolchains.compiler import Toolchain
from dlpack.targets.toolchains.emulate import Emulator

if TYPE_CHECKING:
    from dlpack.amalgamate.machines import Code
    from dlpack.kernels.backend import Backend
    from dlpack.plan.program import Program

Array = np.ndarray[Any, Any]
Manifest = dict[str, Any]


@dataclass(frozen=True)
class TargetOption:
    """An option of `dlpack build` that only the targets have that declare it.

    `name` as on the command line, without the dashes. It is a flag, unless `metavar` names the value that it takes.
    """

    name: str
    help: str
    metavar: str = ""


@dataclass(frozen=True)
class PackageOptions:
    """What a target's packaging gets from the command line: the compiler, the target's own options by name, and whether
    it shall link the weights of NAME.weights into its libraries (`Target.links_weights`). `programs` are those, by
    machine, that do not stand in NAME.cc (`Build.code`)."""

    cc: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    links_weights: bool = False
    programs: Mapping[str, Program] = field(default_factory=dict)


def processor(machine: Machine, threads: int) -> Backend:
    """The backend for a processor core; `threads` of them may work on one kernel."""
    from dlpack.targets.cpu.schedule import CpuBackend

    return CpuBackend(replace(machine, threads=threads))


def processor_code(machine: Machine, program: Program) -> Code:
    """What the emitter prints of a program for a processor core: C++."""
    from dlpack.amalgamate.cpp import CppPrinter
    from dlpack.amalgamate.machines import Code

    return Code(program, machine.name, machine.condition, machine.instructions, lambda: CppPrinter(machine.fma_call))


def about(machine: Described) -> str:
    """Which processor a machine is the description of, for people; "" where it is only a kind."""
    return machine.about if isinstance(machine, Machine) else ""


class Described(Protocol):
    """What the pipeline asks of a machine's description: its name, and the compiler's flags for a file with code for it
    alone. `Build.backend` and `Build.code` know the rest."""

    @property
    def name(self) -> str: ...

    @property
    def flags(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Build:
    """One compiled form of a predictor: kernels written for one machine, compiled by one toolchain.

    `machine()` describes what the kernels run on, `backend(machine, threads)` writes them, and `code(machine, program)`
    is how the emitter prints them; None: they do not stand in NAME.cc, and the target's `package` gets the program.
    `library` is the pattern
    of the shared library's name, which `toolchain` compiles with `flags`; builds of the same library stand in it
    together, and it takes the first one that its computer can run. Without `library` the target's `package` compiles.
    `for_dots`: its machine differs from the next in products of 8-bit integers alone, so other models do without it.
    `halves`: its kernels compute in float16, so the weights have to be float16s, and larger errors are accepted.
    `opens`: its kernels can do less than their largest size, which open dimensions and texts that grow need.
    `rounds`: they round what they multiply with weights of few bits, and larger errors are accepted of them too.
    `runs_here()` is whether this computer can run it; on others `emulators` can, to verify it.
    """

    machine: Callable[[], Described]
    library: str = ""
    toolchain: Toolchain = field(default_factory=Toolchain)
    flags: tuple[str, ...] = ()
    for_dots: bool = False
    halves: bool = False
    opens: bool = True
    rounds: bool = False
    runs_here: Callable[[], bool] = lambda: False
    emulators: tuple[Emulator, ...] = ()
    backend: Callable[[Any, int], Backend] = processor
    code: Callable[[Any, Program], Code] | None = processor_code


@dataclass(frozen=True)
class Target:
    """A place where a predictor runs, as one or several `builds`, the best first; `select(options)` chooses among
    them by the target's own options.

    What is not a library is what the target's own `package(folder, manifest, options)` compiles and writes: it enters
    it into the manifest and returns a line for the log. A target with neither gives the .cc alone.
    `separates_weights`: the weights stay out of the .cc whatever their size, since they come over a network, or since
    `package` puts them where they belong.
    `links_weights`: the target's package can link the file of weights into its libraries, so that large ones, where
    they are to be embedded, need not be compiled as text.
    `options`: those of `dlpack build` that are this target's alone; `package` and `select` get their values.

    `missing()` is what is missing to build it (None: nothing), `limited()` what is missing to build it without an
    option that leaves something out, and that option.
    `run(bundle, inputs)` gives the outputs by name, for each build in the bundle, where it is not a library for
    `dlpack.load`; `measure(bundle, inputs, rounds)` gives for each build the milliseconds of the `runs`, the `cpu`
    time of each, and the `steps` of a run as (name, median).
    """

    name: str
    about: str
    builds: tuple[Build, ...]
    missing: Callable[[], str | None] = lambda: None
    limited: Callable[[], str | None] = lambda: None
    options: tuple[TargetOption, ...] = ()
    select: Callable[[Mapping[str, Any]], tuple[Build, ...]] | None = None
    separates_weights: bool = False
    links_weights: bool = False
    package: Callable[[Path, Manifest, PackageOptions], str] | None = None
    run: Callable[[Path, Mapping[str, Array]], dict[str, dict[str, Array]]] | None = None
    measure: Callable[[Path, Mapping[str, Array], int], dict[str, dict[str, Any]]] | None = None

    def chosen(self, values: Mapping[str, Any]) -> tuple[Build, ...]:
        """The builds that the target's own options ask for."""
        return self.select(values) if self.select else self.builds

    def emulators(self) -> list[Emulator]:
        """What can act as the machines of the builds, installed or not."""
        return [e for build in self.builds for e in build.emulators]

    def runs_here(self) -> bool:
        """Whether this computer can run one of the builds."""
        return any(build.runs_here() for build in self.builds)

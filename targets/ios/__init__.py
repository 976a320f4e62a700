"""ios: a Swift package for apps on iPhones, iPads and Macs, over an xcframework or over NAME.cc, which Xcode compiles.

arm64 is an iPhone's, an iPad's and Apple's Macs' and their simulators'; x86-64 are Intel's Macs and simulators on them.
Those have AVX2, but for Macs until 2012 and for what Rosetta translates before macOS 15, so that code for SSE4.1 stands
beside it and the processor is asked.
"""

from __future__ import annotations

from dataclasses import replace

from dlpack.targets.arithmetic import HALVES, as_asked
from dlpack.targets.arithmetic import OPTION as ARITHMETIC
from dlpack.targets.base import Build, Target, TargetOption
from dlpack.targets.cpu.machine import APPLE, AVX2, NEON_DOTPROD, NEON_FP16, NEON_I8MM, SSE4, Machine
from dlpack.targets.ios.package import XCODE_SOURCE, package
from dlpack.targets.toolchains.compiler import missing_compiler
from dlpack.targets.toolchains.host import runs_avx2, runs_sse4
from dlpack.targets.toolchains.processors import ARM64_MAX, CORTEX_A57, CORTEX_A76, host_processor

IPHONE = replace(APPLE, dot="")
"""iPhones that run iOS 13 may be older than the A13, the first with dot products; without them, floats are faster."""


def _with_dots(machine: Machine) -> Machine:
    """An iPhone that multiplies 8-bit integers as `machine` does."""
    return replace(IPHONE, name=machine.name, dot=machine.dot, flags=machine.flags, instructions=machine.instructions)


def _in_halves() -> Machine:
    """An iPhone from the A11 on, of which each core computes in float16."""
    return replace(
        IPHONE, name=NEON_FP16.name, halves=True, condition=NEON_FP16.condition, flags=NEON_FP16.flags,
        instructions=NEON_FP16.instructions,
    )  # fmt: skip


BUILDS = (
    Build(lambda: _with_dots(NEON_I8MM), for_dots=True, emulators=(ARM64_MAX,)),
    Build(lambda: _with_dots(NEON_DOTPROD), for_dots=True, emulators=(CORTEX_A76,)),
    Build(_in_halves, halves=True, emulators=(ARM64_MAX,)),
    Build(lambda: IPHONE, emulators=(CORTEX_A57,)),
    Build(lambda: AVX2, emulators=(host_processor("x86-64-v3", runs_avx2),)),
    Build(lambda: SSE4, emulators=(host_processor("x86-64-v2", runs_sse4),)),
)

TARGET = Target(
    name="ios",
    about="a Swift package for iOS and macOS",
    builds=BUILDS,
    select=lambda values: as_asked(BUILDS, values, HALVES),
    missing=missing_compiler,
    options=(
        TargetOption(XCODE_SOURCE, "The package has the .cc file, which Xcode compiles, and no xcframework."),
        ARITHMETIC,
    ),
    links_weights=True,
    package=package,
)

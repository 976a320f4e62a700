"""wasm: browsers and node. Two builds beside each other, SIMD and relaxed SIMD, and a JavaScript package."""

from __future__ import annotations

from dlpack.targets.base import Build, Target, TargetOption
from dlpack.targets.cpu.machine import WASM
from dlpack.targets.toolchains.compiler import missing_compiler
from dlpack.targets.wasm.package import SINGLE_FILE, package
from dlpack.targets.wasm.run import measure, run, runs_here

TARGET = Target(
    name="wasm",
    about="browsers and node",
    builds=(Build(lambda: WASM, runs_here=runs_here),),
    missing=missing_compiler,
    separates_weights=True,
    package=package,
    run=run,
    measure=measure,
    options=(TargetOption(SINGLE_FILE, "Also write NAME.html: one page with code and weights inside."),),
)

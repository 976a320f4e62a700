"""pyodide: Python in a browser, and CPython. Two wheels with the same API, and nothing in them but the model."""

from __future__ import annotations

from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import WASM
from dlpack.targets.pyodide.package import package
from dlpack.targets.pyodide.run import run, runs_here
from dlpack.targets.toolchains.compiler import missing_compiler

TARGET = Target(
    name="pyodide",
    about="wheels for Pyodide and, with wasmtime, CPython",
    builds=(Build(lambda: WASM, address_bits=32, runs_here=runs_here),),
    missing=missing_compiler,
    separates_weights=True,
    package=package,
    run=run,
)

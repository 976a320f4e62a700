"""Compiles NAME.cc to WebAssembly with zig's clang."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from dlpack.errors import ToolchainError
from dlpack.targets.toolchains.compiler import FLAGS, compile_with, missing_compiler

BUILDS = {"simd": "generic+simd128+bulk_memory", "relaxed": "generic+simd128+bulk_memory+relaxed_simd"}
"""The builds and the processor that zig calls them by; the page takes the fastest that the browser can run."""

DOTS = "dots"
"""A third build of models with products of 8-bit integers: `relaxed`, with the engine's own dot product, for engines
that take all 8 bits of its second factor as unsigned. The specification leaves open what becomes of the highest, so a
page tries it. Where all second factors have 4 bits, 7 suffice; a page tries these too, as V8 11.3 doubles their sum."""

OF_7_BITS = "_OF_7_BITS"
"""What the name of the macro ends with for products of which 7 bits suffice."""

THREADS = "_threads"
"""What the name of a build ends with that is for several threads, which share the memory."""

PAGES = (64, 1 << 15)
"""Pages of 64 KiB that the memory of several threads has at first, and up to which it may grow."""

STACK = 256 << 10
"""Bytes of stack; it lies below everything else, so that an overflow traps."""


def dot_bits(source: str, name: str) -> int:
    """How many bits of second factors the engine's dot product has to take for a NAME.cc with this text: 8, 7, or 0,
    where there are no such products."""
    macro = f"{name.upper()}_DOTS"
    found = set(re.findall(rf"\b{macro}(?:{OF_7_BITS})?\b", source))
    return 8 if macro in found else 7 if found else 0


def builds_of(source: str, name: str, threads: int) -> dict[str, tuple[str, ...]]:
    """The builds of a NAME.cc with this text, and the options that each is compiled with, the processor's first."""
    builds: dict[str, tuple[str, ...]] = {build: (processor,) for build, processor in BUILDS.items()}
    if dot_bits(source, name):
        macro = f"-D{name.upper()}_DOTS"
        builds[DOTS] = (BUILDS["relaxed"], macro, macro + OF_7_BITS)
    for build, (processor, *more) in list(builds.items()) if threads > 1 else ():
        builds[build + THREADS] = (f"{processor}+atomics", *more)
    return builds


def compile_wasm(
    source: Path, output: Path, processor: str, name: str, cc: str | None, *options: str, classifier: bool = False
) -> None:
    """Compiles NAME.cc to a module that exports the C API and `__heap_base`.

    It imports nothing and exports its memory; for several threads it imports that, and exports `__stack_pointer`.

    Pictures and class names are left out without `classifier`: preprocess.js and the manifest have them.
    """
    first, most = (n << 16 for n in PAGES)
    shared = [
        "-Wl,--import-memory", "-Wl,--shared-memory", f"-Wl,--initial-memory={first}", f"-Wl,--max-memory={most}",
        "-Wl,--export=__stack_pointer",
    ]  # fmt: skip
    command = [
        *zig_command(processor, name, cc), *([] if classifier else [f"-D{name.upper()}_NO_CLASSIFIER"]),
        "-target", "wasm32-freestanding", "-nostdlib", "-Wl,--no-entry", "-Wl,--export-dynamic",
        "-Wl,--export=__heap_base", f"-Wl,-z,stack-size={STACK}",
        *(shared if "atomics" in processor else []), *options, "-s", str(source), "-o", str(output),
    ]  # fmt: skip
    compile_with(command, output)


def zig_command(processor: str, name: str, cc: str | None) -> list[str]:
    """zig's clang with the options that every build for WebAssembly has."""
    if cc:
        raise ToolchainError("WebAssembly is compiled by zig's clang: leave --cc out")
    problem = missing_compiler()
    if problem:
        raise ToolchainError(f"there is no compiler here: install {problem}")
    command = [sys.executable, "-m", "ziglang", "cc", "-x", "c++", f"-mcpu={processor}", *FLAGS]
    return [*command, f"-D{name.upper()}_FREESTANDING"]

"""The bundle for a microcontroller: libNAME.a, a CMake and an Arduino form, and what it takes of RAM and flash."""

from __future__ import annotations

import shlex
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from dlpack.errors import ToolchainError, UnsupportedError, UsageError
from dlpack.targets.base import Manifest, PackageOptions
from dlpack.targets.microcontroller.cores import Core
from dlpack.targets.microcontroller.forms import write_arduino, write_cmake
from dlpack.targets.microcontroller.sizes import Flash, Ram, parse_size, predictor_ram, read_flash, read_stack
from dlpack.targets.toolchains.compiler import FLAGS, compile_with, zig_command

RAM, FLASH, BIND, ARDUINO = "ram", "flash", "bind", "arduino"
"""The options of these targets beside --core."""

BARE_FLAGS = (
    "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables",
    "-fno-threadsafe-statics", "-fno-stack-protector", "-g0",
)  # fmt: skip
"""For a program without a system: each function and table in a section of its own, of which the linker keeps those that
are used; no tables for exceptions."""


def package_core(folder: Path, manifest: Manifest, core: Core, options: PackageOptions) -> str:
    """Writes into a bundle all that a microcontroller's target adds.

    Raises UnsupportedError where the predictor takes more than --ram or --flash allow.
    """
    name, bind = manifest["name"], bool(options.values.get(BIND))
    if options.values.get(ARDUINO) and "weights" in manifest:
        raise UsageError("an Arduino library cannot have a separate weights file: remove --weights file, or --arduino")
    limits = {o: parse_size(o, text) for o in (RAM, FLASH) if (text := options.values.get(o))}
    archive = folder / f"lib{name}.a"
    with tempfile.TemporaryDirectory(prefix="dlpack-core-") as scratch:
        usage = compile_archive(folder, manifest, core, archive, Path(scratch), options.cc, bind=bind)
        program = Path(scratch) / "program"
        _link(core, archive, program, [f"{name}_{function}" for function in _used(bind)])
        embedded = 0 if "weights" in manifest else manifest["weights_bytes"]
        flash = read_flash(program, embedded)
        stack = read_stack(usage, name)
    if embedded == 0:
        flash = Flash(flash.code, flash.constants, manifest["weights_bytes"])  # somewhere they have to be
    ram = predictor_ram(manifest, stack, bind)
    manifest["archive"] = archive.name
    manifest["microcontroller"] = {
        "core": core.name,
        "flags": list(core.machine.flags),
        "bind": bind,
        "flash": {**asdict(flash), "total": flash.total},
        "ram": {**asdict(ram), "total": ram.total},
    }
    report = _report(flash, ram)
    _check(name, limits, flash, ram, report)
    write_cmake(folder, manifest)
    if options.values.get(ARDUINO):
        with tempfile.TemporaryDirectory(prefix="dlpack-core-") as scratch:
            libraries = {}
            for place, abi in core.arduino:
                library = Path(scratch) / f"{abi or 'only'}.a"
                if not library.exists():
                    compile_archive(folder, manifest, core, library, Path(scratch), None, bind=bind, abi=abi)
                libraries[place] = library
            write_arduino(folder, manifest, core.about, libraries)
    return f"{archive.name} for {core.about}: {report}"


def compile_archive(
    folder: Path, manifest: Manifest, core: Core, archive: Path, scratch: Path, cc: str | None, *, bind: bool,
    abi: str = "",
) -> Path:  # fmt: skip
    """Compiles NAME.cc for a core to a static library, with zig or the compiler `cc` and its options.

    Gives the compiler's list of the functions' frames on the stack. `abi` is the float ABI, the
    core's own where it is empty.
    """
    name = manifest["name"]
    output, usage = scratch / f"{name}.o", scratch / f"{name}.su"
    defines = [f"-D{name.upper()}_FREESTANDING", *([f"-D{name.upper()}_BIND_ONLY"] if bind else [])]
    flags = [*FLAGS, *BARE_FLAGS, *defines, "-c", str(folder / manifest["source"]), "-o", str(output)]
    if cc:
        command = [*shlex.split(cc), *core.machine.flags, "-fstack-usage", *flags]
    else:
        target = core.zig_target.removesuffix("hf") if abi == "softfp" else core.zig_target
        softly = ["-mfloat-abi=softfp"] if abi == "softfp" else []
        frames = ["-Xclang", "-stack-usage-file", "-Xclang", str(usage)]
        command = [*zig_command(target), *core.zig_flags, *softly, *frames, *flags]
    compile_with(command, output)
    if not usage.exists():
        raise ToolchainError(f"the compiler does not report its functions' stack use: {shlex.join(command)}")
    archive.unlink(missing_ok=True)
    compile_with([sys.executable, "-m", "ziglang", "ar", "rcsD", str(archive), str(output)], archive)
    return usage


def _used(bind: bool) -> tuple[str, ...]:
    """What a program calls at least."""
    return ("create", "bind_input", "bind_output", "run") if bind else ("create", "set_input", "run", "output_data")


def _link(core: Core, archive: Path, program: Path, used: list[str]) -> None:
    """Links a program that uses functions of the library, to see what the linker keeps."""
    keep = [f"-Wl,-u,{f}" for f in used]
    flags = [*core.zig_flags, "-nostdlib", "-rtlib=compiler-rt", "-Wl,--gc-sections", f"-Wl,-e,{used[0]}", *keep]
    compile_with([*zig_command(core.zig_target), *flags, "-x", "none", str(archive), "-o", str(program)], program)


def _check(name: str, limits: dict[str, int], flash: Flash, ram: Ram, report: str) -> None:
    over = []
    for option, need, what in ((RAM, ram.total, "RAM"), (FLASH, flash.total, "flash")):
        if option in limits and need > limits[option]:
            over.append(f"{need:,} bytes of {what}, and --{option} allows {limits[option]:,}")
    if over:
        raise UnsupportedError(f"{name} does not fit: it takes {'; '.join(over)}. In full: {report}")


def _report(flash: Flash, ram: Ram) -> str:
    return (
        f"flash {flash.total:,} bytes (code {flash.code:,}, constants {flash.constants:,}, weights {flash.weights:,}), "
        f"RAM {ram.total:,} bytes (arena {ram.arena:,}, inputs and outputs {ram.tensors:,}, handle {ram.handle:,}, "
        f"stack at most {ram.stack:,})"
    )

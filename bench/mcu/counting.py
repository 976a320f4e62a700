"""Builds a network with us and with emx-onnx-cgen for a core, and counts what a run executes under QEMU."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import dlpack.targets.toolchains
from bench.arm.emulated import build_plugin
from dlpack.options import Options
from dlpack.pipeline import build
from dlpack.targets.cortex_m import CORES
from dlpack.targets.microcontroller.board import Board
from dlpack.targets.microcontroller.cores import Core
from dlpack.targets.microcontroller.package import BARE_FLAGS
from dlpack.targets.microcontroller.sizes import read_flash
from dlpack.targets.toolchains.compiler import FLAGS, zig_command

HERE = Path(__file__).parent

# The few declarations of a C library that emx-onnx-cgen's files ask for; zig's own functions define them.
_HEADERS = {
    "math.h": "float expf(float); float fmaxf(float, float);\n#define INFINITY __builtin_inff()\n",
    "string.h": "#include <stddef.h>\nvoid* memcpy(void*, const void*, size_t); void* memset(void*, int, size_t);\n",
}


@dataclass(frozen=True)
class Cost:
    """Of one predictor on one core: instructions of a run, bytes of code and constants, of weights, of RAM with stack;
    the largest error as a part of the outputs' range."""

    who: str
    instructions: int
    code: int
    weights: int
    ram: int
    error: float


def core(name: str) -> Core:
    return next(c for c in CORES if c.name == name)


def ours(model: onnx.ModelProto, on: Core, folder: Path) -> Cost:
    """Ours, with inputs and outputs that the program binds."""
    path = folder / "net.onnx"
    onnx.save(model, path)
    options = Options(target="cortex-m", target_options={"core": on.name, "bind": True})
    bundle = build(path, folder / f"ours-{on.name}", options)
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    sizes = manifest["microcontroller"]
    defines = ["-DNAME=net", '-DHEADER="net.h"', f"-I{bundle}"]
    program = _program(model, on, folder / f"ours-{on.name}.elf", [bundle / manifest["archive"]], defines)
    count, error = _counted(program, on, bundle, folder)
    flash = sizes["flash"]
    return Cost("dlpack", count, flash["code"] + flash["constants"], flash["weights"], sizes["ram"]["total"], error)


def emx(model: onnx.ModelProto, on: Core, folder: Path, command: Sequence[str]) -> Cost:
    """emx-onnx-cgen's, with its intermediates on the stack in place of a heap; needs our bundle's reference."""
    path, text = folder / "net.onnx", folder / "emx.c"
    onnx.save(model, path)
    settings = ["--large-temp-threshold", "0", "--large-weight-threshold", str(1 << 30), "--model-name", "model"]
    _call([*command, "compile", *settings, str(path), str(text)])
    for name, declarations in _HEADERS.items():
        (folder / name).write_text(declarations, encoding="utf-8")
    usage, objects = folder / "emx.su", folder / f"emx-{on.name}.o"
    c_flags = [f for f in (*FLAGS, *BARE_FLAGS) if f not in ("-std=c++17", "-fno-rtti", "-fno-threadsafe-statics")]
    compiler = [w if w != "c++" else "c" for w in zig_command(on.zig_target) if w != "-nostdlib++"]
    frames = ["-Xclang", "-stack-usage-file", "-Xclang", str(usage)]
    _call([*compiler, *on.zig_flags, *frames, *c_flags, f"-I{folder}", "-w", "-c", str(text), "-o", str(objects)])
    alone = folder / f"emx-{on.name}-alone.elf"
    link = ["-nostdlib", "-rtlib=compiler-rt", "-Wl,--gc-sections", "-Wl,-e,model"]
    _call([*zig_command(on.zig_target), *on.zig_flags, *link, "-x", "none", str(objects), "-o", str(alone)])
    weights = sum(int(np.prod(w.dims)) * 4 for w in model.graph.initializer)
    flash = read_flash(alone, weights)
    stack = sum(
        int(line.split("\t")[1]) for line in usage.read_text(encoding="utf-8").splitlines() if ":model\t" in line
    )
    program = _program(model, on, folder / f"emx-{on.name}.elf", [objects], [])
    count, error = _counted(program, on, folder / f"ours-{on.name}", folder)
    return Cost("emx-onnx-cgen", count, flash.code + flash.constants, weights, stack, error)


def _elements(value: Any) -> int:
    return int(np.prod([d.dim_value for d in value.type.tensor_type.shape.dim]))


def _board(on: Core) -> Board:
    """The core's board, with the large memory for the stack, where emx-onnx-cgen has its intermediates."""
    assert isinstance(on.emulator, Board)
    half = on.emulator.heap[1] // 2
    start = on.emulator.heap[0]
    return replace(on.emulator, ram=(start, half), heap=(start + half, half))


def _program(model: onnx.ModelProto, on: Core, output: Path, objects: Sequence[Path], defines: Sequence[str]) -> Path:
    """The predictor with count.cc around it."""
    board = _board(on)
    drive = Path(dlpack.targets.toolchains.__path__[0])
    sizes = [f"-DINPUT={_elements(model.graph.input[0])}", f"-DOUTPUT={_elements(model.graph.output[0])}"]
    flags = [*FLAGS, *board.link_flags(output.parent), *on.zig_flags, *sizes, *defines, f"-I{drive}", "-w"]
    sources = [str(HERE / "count.cc"), "-x", "none", *map(str, objects)]
    _call([*zig_command(on.zig_target), *flags, *sources, "-o", str(output)])
    return output


def _counted(program: Path, on: Core, bundle: Path, folder: Path) -> tuple[int, float]:
    """The instructions of a run, as the difference of two runs and one, and the error."""
    plugin = build_plugin(folder)
    with np.load(bundle / "reference.npz") as reference:
        reference["in_0"].astype("<f4").tofile(folder / "in")
        wanted = reference["out_0"]
    totals = []
    for runs in (1, 2):
        command = _board(on).run_command(program, [str(runs), "in", "out"])
        told = _call([*command, "-plugin", str(plugin), "-d", "plugin"], cwd=folder)
        totals.append(sum(int(n) for n in re.findall(r"^\S+ (\d+)$", told, re.M)))
    got = np.fromfile(folder / "out", "<f4").reshape(wanted.shape)
    return totals[1] - totals[0], float(np.abs(got - wanted).max() / np.abs(wanted).max())


def _call(command: Sequence[str], cwd: Path | None = None) -> str:
    """Runs a command; what it wrote to stderr."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=cwd)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stderr

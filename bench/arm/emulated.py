"""A bundle's predictor compiled for Arm and run under qemu: whether it is right, and the instructions it executes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.targets.toolchains.compiler import FLAGS

Array = np.ndarray[Any, Any]

HERE = Path(__file__).parent

ZIG = (sys.executable, "-m", "ziglang")


@dataclass(frozen=True)
class Machine:
    """A processor: what compiles for it (options of `compiler`, a C++ compiler or zig's clang) and the emulator."""

    name: str
    emulator: tuple[str, ...]
    options: tuple[str, ...]
    compiler: str = ""

    def command(self, language: str) -> list[str]:
        zig = [*ZIG, "cc", "-x", language] if language == "c++" else [*ZIG, "cc"]
        return [*([self.compiler] if self.compiler else zig), *self.options, "-static"]


def _musl(name: str, cpu: str, emulated: str) -> Machine:
    return Machine(name, ("qemu-aarch64", "-cpu", emulated), ("-target", "aarch64-linux-musl", f"-mcpu={cpu}"))


def _musl32(name: str, cpu: str, emulated: str) -> Machine:
    return Machine(name, ("qemu-arm", "-cpu", emulated), ("-target", "arm-linux-musleabihf", f"-mcpu={cpu}"))


MACHINES = {
    m.name: m
    for m in (
        _musl("generic", "generic", "cortex-a57"),
        _musl("a53", "cortex_a53", "cortex-a53"),
        _musl("a57", "cortex_a57", "cortex-a57"),
        _musl("a72", "cortex_a72", "cortex-a72"),
        _musl("a76", "cortex_a76", "max"),
        _musl("i8mm", "generic+v8_2a+dotprod+i8mm", "max"),
        _musl("x1", "cortex_x1", "max"),
        _musl("apple", "apple_m1", "max"),
        _musl("max", "generic", "max"),
        Machine("gcc", ("qemu-aarch64", "-cpu", "cortex-a57"), (), "aarch64-linux-gnu-g++"),
        Machine(
            "armhf", ("qemu-arm", "-cpu", "cortex-a15"), ("-target", "arm-linux-musleabihf", "-mcpu=cortex_a15+neon")
        ),
        Machine("gcc32", ("qemu-arm", "-cpu", "cortex-a15"), ("-mfpu=neon-vfpv4",), "arm-linux-gnueabihf-g++"),
        Machine("a7", ("qemu-arm", "-cpu", "cortex-a7"), ("-target", "arm-linux-musleabihf", "-mcpu=cortex_a7")),
    )
}


@dataclass(frozen=True)
class Count:
    """What one run of a predictor executes: instructions by mnemonic or function, and the largest error as a part of
    the outputs' range."""

    instructions: Counter[str]
    error: float

    @property
    def total(self) -> int:
        return self.instructions.total()


def count(
    bundle: Path, machine: Machine, folder: Path, by_function: bool = False, timeout: float | None = None
) -> Count:
    """The instructions of one run of the predictor; `folder` is for what is built, `timeout` the seconds that a process
    may take. Raises CalledProcessError and TimeoutExpired."""
    built = build(bundle, machine, folder, ("-fno-inline",) if by_function else ())
    plugin = f"{build_plugin(folder)}{',by=function' if by_function else ''}"
    one, error = _run(built, bundle, machine, 1, plugin, timeout=timeout)
    two, _ = _run(built, bundle, machine, 2, plugin, timeout=timeout)
    return Count(two - one, error)


def check(
    bundle: Path,
    machine: Machine,
    folder: Path,
    wanted: Sequence[Array] | None = None,
    timeout: float | None = None,
) -> float:
    """The largest difference from `wanted`, else from the bundle's reference outputs, as a part of their range."""
    built = build(bundle, machine, folder)
    return _run(built, bundle, machine, 1, None, wanted, timeout)[1]


def build_plugin(folder: Path) -> Path:
    """Compiles the plugin that counts, with the computer's own compiler."""
    plugin = folder / "count.so"
    if not plugin.exists():
        run_limited(["gcc", "-shared", "-fPIC", "-O2", str(HERE / "count.c"), "-o", str(plugin)])
    return plugin


def build(bundle: Path, machine: Machine, folder: Path, flags: Sequence[str] = ()) -> tuple[Path, str, dict[str, Any]]:
    """Compiles the bundle's source with a program that runs it: the program, its weights' argument, the manifest."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    name = manifest["name"]
    program, kernels, driver = (folder / f"{name}-{machine.name}{end}" for end in ("", ".o", "-drive.o"))
    plain = [*machine.command("c++"), *(["-nostdlib++"] if not machine.compiler else [])]
    run_limited([*plain, *FLAGS, *flags, "-w", "-c", str(bundle / manifest["source"]), "-o", str(kernels)])
    header = [f"-DMODEL={name}", f'-DHEADER="{manifest["header"]}"', f"-I{bundle}"]
    language = ["-x", "c++"] if machine.compiler else []
    run_limited([*machine.command("c++"), *language, "-w", *header, "-c", str(HERE / "drive.c"), "-o", str(driver)])
    run_limited([*machine.command("c"), str(driver), str(kernels), "-o", str(program)])
    file = manifest.get("weights", {}).get("file")
    return program, str(bundle / file) if file else "-", manifest


def assembly(bundle: Path, machine: Machine) -> str:
    """The bundle's source as assembly."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        text = Path(folder, "kernels.s")
        flags = [*FLAGS, "-w", "-g0", "-S"]
        run_limited([*machine.command("c++"), *flags, str(bundle / manifest["source"]), "-o", str(text)])
        return text.read_text(encoding="utf-8", errors="replace")


def _run(
    built: tuple[Path, str, dict[str, Any]],
    bundle: Path,
    machine: Machine,
    runs: int,
    plugin: str | None,
    expected: Sequence[Array] | None = None,
    timeout: float | None = None,
) -> tuple[Counter[str], float]:
    """All instructions of a process that runs the predictor `runs` times (none without a plugin), and its error."""
    program, weights, manifest = built
    reference = np.load(bundle / "reference.npz")
    files = []
    for i, tensor in enumerate(manifest["inputs"]):
        files.append(program.with_name(f"{program.name}.in{i}"))
        reference[f"in_{i}"].astype(tensor["dtype"]).tofile(files[-1])
    outputs = [program.with_name(f"{program.name}.out{i}") for i in range(len(manifest["outputs"]))]
    counting = ["-plugin", plugin, "-d", "plugin"] if plugin else []
    paths = [str(p) for p in (*files, *outputs)]
    text = run_limited([*machine.emulator, *counting, str(program), weights, str(runs), *paths], timeout)
    if expected is None:
        expected = [reference[f"out_{i}"] for i in range(len(outputs))]
    got = [np.fromfile(file, tensor["dtype"]) for file, tensor in zip(outputs, manifest["outputs"], strict=True)]
    return counted(text), max(map(error, got, expected))


def error(got: Array, wanted: Array) -> float:
    """The largest difference as a part of the range; infinite where the sizes differ or a value is not finite."""
    if got.size != wanted.size:
        return float("inf")
    difference = np.abs(got.reshape(wanted.shape).astype(np.float64) - wanted).max(initial=0.0)
    return float(difference / max(np.abs(wanted).max(initial=0.0), 1e-30)) if np.isfinite(difference) else float("inf")


def counted(text: str) -> Counter[str]:
    """What the plugin wrote to stderr."""
    lines = [line.split() for line in text.splitlines()]
    return Counter({line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()})


def run_limited(command: Sequence[str], timeout: float | None = None) -> str:
    """Runs a command for at most `timeout` seconds; what it wrote to stderr. Raises CalledProcessError and
    TimeoutExpired."""
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=timeout).stderr

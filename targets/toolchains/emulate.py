"""Runs NAME.cc on a processor that this computer is not: compiled to a static program, under QEMU's user emulation."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import ToolchainError
from dlpack.meaning.shape_sets import find_set, sets_of
from dlpack.targets.toolchains.compiler import FLAGS, compile_with, program_command

Array = np.ndarray[Any, Any]

TIMEOUT = 1800
"""Seconds that a run may take: emulation is 10 to 50 times slower than the processor."""


@dataclass(frozen=True)
class Emulator:
    """Another processor or system on this computer: `command` runs a static program, which zig compiles for
    `zig_target` with `flags`. `name` is what reports call it by, `package` the Debian package that has the command.
    `suffices()` tells whether this computer's processor is enough; without a command it runs the program itself."""

    name: str
    command: tuple[str, ...]
    zig_target: str
    flags: tuple[str, ...] = ()
    package: str = "qemu-user"
    suffices: Callable[[], bool] = lambda: True

    def missing(self) -> str | None:
        """What is missing to run it, in words; None where nothing is."""
        if not self.suffices():
            return f"{self.name} on another processor" if self.command else self.name
        return (
            None
            if not self.command or shutil.which(self.command[0])
            else f"{self.command[0]} (Debian's package {self.package})"
        )

    def link_flags(self, scratch: Path) -> list[str]:  # noqa: ARG002 - a board's are in a file there
        """The flags that make the driver a program for this system."""
        bare = ["-nostdlib", "-fno-stack-protector", "-fno-builtin-strlen"] if "linux" in self.zig_target else []
        return ["-static", *bare]

    def run_command(self, program: Path, arguments: Sequence[str]) -> list[str]:
        return [*self.command, str(program), *arguments]

    def weights_argument(self, weights: Path, scratch: Path) -> str:  # noqa: ARG002 - a board reads a file there
        return str(weights.resolve())

    def run(self, bundle: Path, inputs: Mapping[str, Array], machine: str) -> dict[str, Array]:
        """The outputs by name of the kernels for a machine. Raises ToolchainError where the program does not compile
        or run."""
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        digest = hashlib.sha256((bundle / predictor_file(manifest)).read_bytes()).hexdigest()
        program = _program(self, bundle, digest)
        number = find_set(manifest, {name: x.shape for name, x in inputs.items()}) or 0
        sets = sets_of(manifest)[number]
        with tempfile.TemporaryDirectory(prefix="dlpack-run-") as folder:
            scratch = Path(folder)
            weights = (
                self.weights_argument(bundle / manifest["weights"]["file"], scratch) if "weights" in manifest else "-"
            )
            given = [f"in{k}" for k in range(len(sets["inputs"]))]
            made = [f"out{k}" for k in range(len(sets["outputs"]))]
            for path, t in zip(given, sets["inputs"], strict=True):
                (scratch / path).write_bytes(np.ascontiguousarray(inputs[t["name"]], t["dtype"]).tobytes())
            command = self.run_command(program, [weights, str(number), machine, *given, *made])
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False, cwd=scratch
                )
            except (OSError, subprocess.TimeoutExpired) as e:
                raise ToolchainError(f"{self.name} cannot run the bundle: {e}") from e
            if done.returncode:
                reason = "\n".join(done.stderr.strip().splitlines()[-8:]) or f"exit status {done.returncode}"
                raise ToolchainError(f"{self.name} cannot run the bundle: {reason}")
            return {
                t["name"]: np.fromfile(scratch / path, t["dtype"]).reshape(t["shape"])
                for path, t in zip(made, sets["outputs"], strict=True)
            }


def predictor_file(manifest: Mapping[str, Any]) -> str:
    """The bundle's file that is linked: the static library of a target that compiles one, else the source."""
    return str(manifest.get("archive", manifest["source"]))


@cache
def _program(emulator: Emulator, bundle: Path, digest: str) -> Path:  # noqa: ARG001 - the digest is the cache's key
    """The bundle's predictor with drive.cc around it."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    scratch = Path(tempfile.mkdtemp(prefix="dlpack-drive-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    program = scratch / "drive"
    with resources.as_file(resources.files(__package__)) as folder:
        name = manifest["name"]
        defines = [
            f"-DNAME={name}",
            f"-D{name.upper()}_FREESTANDING",
            f'-DHEADER="{manifest["header"]}"',
            f"-I{bundle}",
        ]
        defines += ["-DSEVERAL_SHAPES"] if {"shapes", "open"} & manifest.keys() else []
        defines += ["-DSEVERAL_VARIANTS"] if "variants" in manifest else []
        defines += ["-DBIND_ONLY"] if manifest.get("microcontroller", {}).get("bind") else []
        flags = [*FLAGS, *defines, *emulator.link_flags(scratch), *emulator.flags]
        sources = [folder / "drive.cc", bundle / predictor_file(manifest)]
        compile_with(program_command(sources, program, emulator.zig_target, flags), program)
    return program

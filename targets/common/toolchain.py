"""The compiler: zig's clang, which pip installs for every target, or one that the user names."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dlpack.errors import ToolchainError

FLAGS = ("-std=c++17", "-O2", "-fno-math-errno", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti")


def missing_compiler() -> str | None:
    """What is missing to compile, in words; None where nothing is."""
    if importlib.util.find_spec("ziglang") is None:
        return "the Python package ziglang (pip install ziglang), or name a compiler with --cc"
    return None


def compiler_command(source: Path, output: Path, zig_target: str, flags: Sequence[str], cc: str | None) -> list[str]:
    """The command that compiles `source` to the shared library `output`."""
    if cc:
        command = [*shlex.split(cc), "-fPIC"]
    else:
        problem = missing_compiler()
        if problem:
            raise ToolchainError(f"there is no compiler here: install {problem}")
        command = [sys.executable, "-m", "ziglang", "cc", "-nostdlib++", "-x", "c++"]
        command += ["-target", zig_target] if zig_target else []
        command += ["-fPIC"]
    return [*command, *FLAGS, *flags, "-shared", "-s", str(source), "-o", str(output)]


def compile_library(
    source: Path, output: Path, zig_target: str, flags: Sequence[str], cc: str | None, timeout: float = 1800
) -> str:
    """Compiles `source` to the shared library `output`; returns the compiler's name."""
    command = compiler_command(source, output, zig_target, flags, cc)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as e:
        raise ToolchainError(f"the compiler {command[0]!r} was not found; name another with --cc") from e
    except subprocess.TimeoutExpired as e:
        raise ToolchainError(f"the compiler did not end within {timeout:.0f} s: {shlex.join(command)}") from e
    if done.returncode:
        text = "\n".join(done.stderr.strip().splitlines()[-20:])
        raise ToolchainError(f"the compiler failed: {shlex.join(command)}\n{text}")
    return command[0] if cc else "zig cc"

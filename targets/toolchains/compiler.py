"""The compiler: zig's clang, which pip installs for every target, or one that the user names."""

from __future__ import annotations

import atexit
import contextlib
import errno
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dlpack.errors import ToolchainError

# -fno-unroll-loops: the kernels are unrolled as far as pays; clang would unroll loops over register tiles once more
# (LSTM 1.3 times, MLP 1.13 times slower).
_CODE_FLAGS = ("-std=c++17", "-O2", "-fno-unroll-loops")
FLAGS = (*_CODE_FLAGS, "-fno-math-errno", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti")

_LITTLE_SPACE = 1 << 20
"""Bytes free on a disk on which a compiler's failure is taken for the disk's."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler for one platform: zig's clang with `zig_target`'s triple, this computer's where it is empty."""

    zig_target: str = ""

    def library(self, source: Path, output: Path, flags: Sequence[str], cc: str | None) -> str:
        """Compiles `source` to the shared library `output`, by the user's compiler if any; returns its name."""
        return compile_library(source, output, self.zig_target, flags, cc)


def source_flags(machine_flags: Sequence[str]) -> str:
    """What a user compiles the emitted file with by hand."""
    return " ".join([*_CODE_FLAGS, *machine_flags])


def missing_compiler() -> str | None:
    """What is missing to compile, in words; None where nothing is."""
    if importlib.util.find_spec("ziglang") is None:
        return "the Python package ziglang (pip install ziglang), or name a compiler with --cc"
    return None


def compiler_command(source: Path, output: Path, zig_target: str, flags: Sequence[str], cc: str | None) -> list[str]:
    """The command that compiles `source` to the shared library `output`."""
    command = [*(shlex.split(cc) if cc else zig_command(zig_target)), "-fPIC"]
    return [*command, *FLAGS, *flags, "-shared", "-s", *_own_name(output.name), str(source), "-o", str(output)]


def zig_command(zig_target: str) -> list[str]:
    """zig's clang for C++ without a C++ library, for this computer where `zig_target` is empty."""
    problem = missing_compiler()
    if problem:
        raise ToolchainError(f"there is no compiler here: install {problem}")
    command = [sys.executable, "-m", "ziglang", "cc", "-nostdlib++", "-x", "c++"]
    return [*command, *(["-target", zig_target] if zig_target else [])]


def program_command(sources: Sequence[Path], output: Path, zig_target: str, flags: Sequence[str]) -> list[str]:
    """The command that compiles sources, and static libraries behind them, to a program, by zig."""
    libraries = [str(s) for s in sources if s.suffix == ".a"]
    texts = [str(s) for s in sources if s.suffix != ".a"]
    return [
        *zig_command(zig_target),
        *flags,
        *texts,
        *(["-x", "none", *libraries] if libraries else []),
        "-o",
        str(output),
    ]


def _own_name(library: str) -> list[str]:
    """The flags that write a library's name into it, so that programs linked to it look for that and for no path."""
    if library.endswith(".so"):
        return [f"-Wl,-soname,{library}"]
    return [f"-Wl,-install_name,@rpath/{library}"] if library.endswith(".dylib") else []


def _environment() -> dict[str, str]:
    """This process's, in which zig finds a folder for its cache also where the user's home cannot be written."""
    known = os.environ.get("ZIG_GLOBAL_CACHE_DIR")
    home = os.environ.get("HOME")
    usual = os.environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else None)
    if sys.platform == "win32" or _can_be_written(known or (f"{usual}/zig" if usual else None)):
        return dict(os.environ)
    folder = _cache_folder()
    return {**os.environ, "ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}


def _can_be_written(folder: str | None) -> bool:
    try:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return bool(folder) and os.access(str(folder), os.W_OK | os.X_OK)


@cache
def _cache_folder() -> str:
    """A folder that lives as long as this process."""
    folder = tempfile.mkdtemp(prefix="dlpack-zig-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def compile_library(
    source: Path, output: Path, zig_target: str, flags: Sequence[str], cc: str | None, timeout: float = 1800
) -> str:
    """Compiles `source` to the shared library `output`; returns the compiler's name."""
    compile_with(compiler_command(source, output, zig_target, flags, cc), output, timeout)
    return shlex.split(cc)[0] if cc else "zig cc"


def compile_with(command: Sequence[str], output: Path, timeout: float = 1800) -> None:
    """Runs a compiler that makes `output`; raises ToolchainError with its words where it fails."""
    try:
        status, text = _run(command, timeout)
    except (FileNotFoundError, PermissionError) as e:
        raise ToolchainError(f"the compiler {command[0]!r} was not found or cannot run; name another with --cc") from e
    except subprocess.TimeoutExpired as e:
        raise ToolchainError(f"the compiler did not finish within {timeout:.0f} s: {shlex.join(command)}") from e
    if status:
        full = shutil.disk_usage(output.parent).free < _LITTLE_SPACE  # zig's linker dies without a word
        if full or "No space left" in text or "NoSpaceLeft" in text:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))
        tail = "\n".join(text.strip().splitlines()[-20:])
        raise ToolchainError(f"the compiler failed: {shlex.join(command)}\n{tail}")
    if not output.is_file():
        raise ToolchainError(f"the compiler wrote no library: {shlex.join(command)}")


def _run(command: Sequence[str], timeout: float) -> tuple[int, str]:
    """Runs a command; its exit status and what it wrote to stderr.

    It gets a session of its own, so that on Ctrl-C or at the timeout all its processes end, not the first alone.
    """
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        env=_environment(),
    ) as process:
        try:
            _, text = process.communicate(timeout=timeout)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return process.returncode, text

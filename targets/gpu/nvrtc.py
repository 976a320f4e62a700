"""CUDA C → cubins and PTX by NVRTC, NVIDIA's compiler as a library: needs no GPU and no toolkit."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dlpack.errors import ToolchainError, UsageError

PACKAGE = "nvidia-cuda-nvrtc-cu12"

OLDEST_PTX = "6.4"
"""The PTX ISA of CUDA 10.1, the oldest driver that the runtime works with. NVRTC writes its own, newer one, which a
driver refuses that does not know it, although the text for compute_53 uses nothing newer."""

_HINT = re.compile(rb"^\s*\.pragma \"used_bytes_mask [^\n]*\n", re.MULTILINE)
"""The only thing of ISA 8.3 that NVRTC writes into such PTX: which bytes of a vector are used."""

_OPTIONS = ("--std=c++17", "-default-device", "--ptxas-options=-v")


@dataclass(frozen=True)
class Resources:
    """What a kernel takes on one architecture: registers of a thread, bytes of shared memory of a block, and of each
    thread bytes of stack and bytes that it stores and loads because registers do not suffice."""

    registers: int
    shared: int
    stack: int
    spills: int


@dataclass(frozen=True)
class Image:
    """Compiled kernels: a cubin for the architecture sm_`arch`, or PTX, of which a driver makes code for that one and
    all later ones. `kernels` has the resources by kernel, for a cubin alone."""

    arch: int
    kind: str
    data: bytes
    kernels: Mapping[str, Resources] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{'sm' if self.kind == 'cubin' else 'compute'}_{self.arch}"


@dataclass(frozen=True)
class Launch:
    """How a kernel runs: the number of blocks and of a block's threads, each in x, y and z."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.block[0] * self.block[1] * self.block[2]


@dataclass(frozen=True)
class Limits:
    """What a block may take, and how many blocks a grid, of CUDA's table of compute capabilities; of static shared
    memory 48 KiB on all."""

    registers: int = 65536
    shared: int = 48 << 10
    threads: int = 1024
    grid: tuple[int, int, int] = (2**31 - 1, 65535, 65535)


LIMITS = {53: Limits(registers=32768), 62: Limits(registers=32768)}
"""By architecture, where they are not the usual ones."""


def missing_nvrtc() -> str | None:
    """What is missing to compile for GPUs, in words; None where nothing is."""
    if _library_path() is None:
        return f"the Python package {PACKAGE} (pip install 'dlpack-aot[cuda]')"
    return None


def compile_images(source: str, archs: Sequence[str], launches: Iterable[Launch] = ()) -> list[Image]:
    """Compiles CUDA C for each of `archs`: ``sm_NN`` gives a cubin, ``compute_NN`` PTX.

    Equal sources are compiled once: results are kept in the user's cache. The kernels of `launches` are checked against
    the limits of each architecture. Raises ToolchainError if NVRTC is missing, refuses the source, or a kernel takes
    more than an architecture has, UsageError for an architecture that NVRTC does not know.
    """
    for arch in archs:
        check_arch(arch)
    with ThreadPoolExecutor(min(len(archs), os.cpu_count() or 1) or 1) as pool:
        images = list(pool.map(lambda arch: _compiled(source, arch), archs))
    launched = list(launches)
    for image in images:
        check_limits(image, launched)
    return images


def check_arch(arch: str) -> None:
    """Raises UsageError for what is no architecture of NVRTC's."""
    known = supported_archs()
    match = re.fullmatch(r"(?:sm|compute)_(\d+)", arch)
    if not match or int(match[1]) not in known:
        raise UsageError(f"unknown GPU architecture {arch!r}; known are: {', '.join(f'sm_{n}' for n in known)}")


def check_limits(image: Image, launches: Iterable[Launch]) -> None:
    """Raises ToolchainError where a launch takes more registers, threads or shared memory than a block has, or more
    blocks than a grid."""
    limits = LIMITS.get(image.arch, Limits())
    for launch in launches:
        if any(n > most for n, most in zip(launch.grid, limits.grid, strict=True)):
            of, allowed = (" x ".join(f"{n:,}" for n in shape) for shape in (launch.grid, limits.grid))
            raise ToolchainError(f"kernel {launch.kernel}: a grid of {of} blocks, {image.name} allows {allowed}")
        if launch.threads > limits.threads:
            raise ToolchainError(
                f"kernel {launch.kernel}: {launch.threads} threads a block, {image.name} allows {limits.threads}"
            )
        if image.kind != "cubin":
            continue
        if launch.kernel not in image.kernels:
            raise ToolchainError(f"kernel {launch.kernel} is launched, but not in the source for {image.name}")
        takes = image.kernels[launch.kernel]
        warps = -(-launch.threads // 32)
        registers = warps * -(-takes.registers * 32 // 256) * 256  # a warp gets them in groups of 256
        if registers > limits.registers:
            raise ToolchainError(
                f"kernel {launch.kernel} takes {registers:,} registers a block on {image.name} ({takes.registers} for "
                f"each of {launch.threads} threads); there are {limits.registers:,}"
            )
        if takes.shared > limits.shared:
            raise ToolchainError(
                f"kernel {launch.kernel} takes {takes.shared:,} bytes of shared memory a block on {image.name}; there "
                f"are {limits.shared:,}"
            )


# --- the library ------------------------------------------------------------------------------------------------------


def _library_path() -> Path | None:
    try:
        spec = importlib.util.find_spec("nvidia.cuda_nvrtc")
    except ModuleNotFoundError:
        return None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        pattern = "bin/nvrtc64_*_0.dll" if sys.platform == "win32" else "lib/libnvrtc.so.*"
        found = sorted(p for p in Path(folder).glob(pattern) if "alt" not in p.name)
        if found:
            return found[0]
    return None


@cache
def _library() -> Any:
    path = _library_path()
    if path is None:
        raise ToolchainError(f"kernels for GPUs cannot be compiled here: install {missing_nvrtc()}")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as e:
        raise ToolchainError(f"{path} cannot be loaded: {e}") from e
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


@cache
def version() -> tuple[int, int]:
    """NVRTC's own."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


@cache
def supported_archs() -> tuple[int, ...]:
    """The numbers of the architectures that NVRTC compiles for, ascending."""
    count = ctypes.c_int()
    _library().nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    _library().nvrtcGetSupportedArchs(numbers)
    return tuple(sorted(numbers))


def _result(program: ctypes.c_void_p, kind: str) -> bytes:
    """What nvrtcGet`kind` gives."""
    size = ctypes.c_size_t()
    if getattr(_library(), f"nvrtcGet{kind}Size")(program, ctypes.byref(size)):
        return b""
    data = ctypes.create_string_buffer(size.value)
    getattr(_library(), f"nvrtcGet{kind}")(program, data)
    return data.raw


def _compile(source: str, arch: str) -> tuple[bytes, str]:
    """The image and NVRTC's log."""
    library = _library()
    program = ctypes.c_void_p()
    status = library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    if status:
        raise ToolchainError(f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")
    try:
        options = [f"--gpu-architecture={arch}".encode(), *(o.encode() for o in _OPTIONS)]
        status = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = _result(program, "ProgramLog").decode(errors="replace").rstrip("\0\n ")
        if status:
            raise ToolchainError(_refused(source, arch, log) or f"NVRTC, {arch}: {_error_text(status)}\n{log}")
        image = _result(program, "CUBIN") if arch.startswith("sm_") else _ptx(_result(program, "PTX"), arch)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    return image, log


def _error_text(status: int) -> str:
    text: bytes = _library().nvrtcGetErrorString(status)
    return text.decode()


def _refused(source: str, arch: str, log: str) -> str:
    """The first error of a log, with the line of the source that it names; empty where it names none."""
    match = re.search(r"^kernels\.cu\((\d+)\): (?:catastrophic )?error:? (.*)", log, re.MULTILINE)
    if not match:
        return ""
    number, lines = int(match[1]), source.split("\n")
    line = lines[number - 1].strip() if number <= len(lines) else ""
    more = len(re.findall(r"^kernels\.cu\(\d+\): error", log, re.MULTILINE)) - 1
    return f"NVRTC refuses line {number} for {arch}: {match[2]}\n    {line}" + (
        f"\n(and {more} more)" if more > 0 else ""
    )


def _ptx(text: bytes, arch: str) -> bytes:
    """PTX as drivers take it: with a zero behind it, for the oldest architecture in the ISA of the oldest driver."""
    text = text.rstrip(b"\0")
    if arch == "compute_53":
        text = _HINT.sub(b"", text)
        text = re.sub(rb"^\.version \d+\.\d+$", b".version " + OLDEST_PTX.encode(), text, count=1, flags=re.MULTILINE)
    return text + b"\0"


def resources(log: str) -> dict[str, Resources]:
    """The resources by kernel, of the assembler's report."""
    out = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        name = part[: part.index("'")]

        def number(pattern: str, part: str = part) -> int:
            return sum(int(n) for n in re.findall(pattern, part))

        out[name] = Resources(
            number(r"Used (\d+) registers"),
            number(r"(\d+) bytes smem"),
            number(r"(\d+) bytes stack frame"),
            number(r"(\d+) bytes spill (?:stores|loads)"),
        )
    return out


# --- the cache --------------------------------------------------------------------------------------------------------


def _compiled(source: str, arch: str) -> Image:
    """The image of a source, from the cache if it is there."""
    number, kind = int(arch.split("_")[1]), "cubin" if arch.startswith("sm_") else "ptx"
    words = [str(version()), arch, OLDEST_PTX, _HINT.pattern.decode(), *_OPTIONS, source]
    key = hashlib.sha256("\0".join(words).encode()).hexdigest()
    found = _recalled(key)
    if found is None:
        image, log = _compile(source, arch)
        found = image, resources(log) if kind == "cubin" else {}
        _remember(key, *found)
    return Image(number, kind, *found)


def _cache_path(key: str) -> Path | None:
    """The file for a key; None where this computer has no place for it."""
    folder = os.environ.get("XDG_CACHE_HOME") or (f"{os.environ['HOME']}/.cache" if os.environ.get("HOME") else None)
    return Path(folder) / "dlpack" / "nvrtc" / key if folder else None


def _recalled(key: str) -> tuple[bytes, dict[str, Resources]] | None:
    path = _cache_path(key)
    try:
        digest, head, data = path.read_bytes().split(b"\n", 2) if path else (b"", b"", b"")
        if digest.decode() != hashlib.sha256(head + data).hexdigest():
            return None
        return data, {name: Resources(**r) for name, r in json.loads(head).items()}
    except (OSError, ValueError):
        return None


def _remember(key: str, data: bytes, kernels: Mapping[str, Resources]) -> None:
    """Keeps a result. A cache that cannot be written is no error."""
    path = _cache_path(key)
    if path is None:
        return
    head = json.dumps({name: asdict(r) for name, r in kernels.items()}).encode()
    digest = hashlib.sha256(head + data).hexdigest().encode()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as f:
            f.write(b"\n".join((digest, head, data)))
        os.replace(f.name, path)

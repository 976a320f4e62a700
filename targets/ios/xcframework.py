"""Compiles NAME.cc for Apple's platforms, without a Mac, and writes NAME.xcframework: static libraries and headers."""

from __future__ import annotations

import hashlib
import plistlib
import struct
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlpack.bindings.api import Api
from dlpack.bindings.swift import write_headers, write_weights_source
from dlpack.errors import ToolchainError
from dlpack.targets.toolchains.compiler import FLAGS, compile_with, zig_command


@dataclass(frozen=True)
class Architecture:
    """Of a slice: Apple's name, and zig's for the platform with its oldest version."""

    name: str
    zig_target: str


@dataclass(frozen=True)
class Slice:
    """A platform's library, with code for each architecture. `variant`: "simulator", or empty."""

    identifier: str
    platform: str
    variant: str
    architectures: tuple[Architecture, ...]


SLICES = (
    Slice("ios-arm64", "ios", "", (Architecture("arm64", "aarch64-ios.13.0"),)),
    Slice(
        "ios-arm64_x86_64-simulator", "ios", "simulator",
        (Architecture("arm64", "aarch64-ios.14.0-simulator"), Architecture("x86_64", "x86_64-ios.13.0-simulator")),
    ),
    Slice(
        "macos-arm64_x86_64", "macos", "",
        (Architecture("arm64", "aarch64-macos.11.0"), Architecture("x86_64", "x86_64-macos.11.0")),
    ),
)  # fmt: skip
"""No simulator on arm64 is older than iOS 14, no Mac on arm64 older than macOS 11."""

_CPU = {"arm64": (0x0100000C, 0), "x86_64": (0x01000007, 3)}
"""cputype and cpusubtype of mach/machine.h."""

_PAGE = 14
"""The logarithm of what libraries in a fat file are aligned to: a page of arm64."""


def write_xcframework(folder: Path, api: Api, weights: str) -> list[dict[str, Any]]:
    """Writes NAME.xcframework into a bundle; returns the manifest's description of each slice.

    `weights`: "linked" into the libraries, or as `dlpack.bindings.swift.Package` has them.
    """
    root, library = folder / f"{api.name}.xcframework", f"lib{api.name}.a"
    told, available = [], []
    with tempfile.TemporaryDirectory(prefix="dlpack-") as work:
        sources = [folder / api.source]
        include = Path(work) / "include"
        write_headers(folder, api, include, weights)
        if weights == "linked":
            sources.append(write_weights_source(api, include))
        for s in SLICES:
            archives = [(a.name, _archive(a, sources, (include, folder), Path(work))) for a in s.architectures]
            # In a folder of the module's name: Xcode copies the headers of all static libraries into one folder.
            write_headers(folder, api, root / s.identifier / "Headers" / f"C{api.name}", weights)
            data = archives[0][1] if len(archives) == 1 else fat_file(archives)
            (root / s.identifier / library).write_bytes(data)
            told.append({"identifier": s.identifier, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
            available.append(_available(s, library))
    about = {"AvailableLibraries": available, "CFBundlePackageType": "XFWK", "XCFrameworkFormatVersion": "1.0"}
    (root / "Info.plist").write_bytes(plistlib.dumps(about))
    return told


def _available(s: Slice, library: str) -> dict[str, Any]:
    return {
        "BinaryPath": library,
        "HeadersPath": "Headers",
        "LibraryIdentifier": s.identifier,
        "LibraryPath": library,
        "SupportedArchitectures": [a.name for a in s.architectures],
        "SupportedPlatform": s.platform,
        **({"SupportedPlatformVariant": s.variant} if s.variant else {}),
    }


def _archive(architecture: Architecture, sources: Sequence[Path], include: Sequence[Path], work: Path) -> bytes:
    """A static library of the sources, in the format of Apple's linker."""
    objects = []
    for source in sources:
        made = work / f"{source.stem}.o"
        made.unlink(missing_ok=True)
        folders = [f"-I{folder}" for folder in include]
        command = [*zig_command(architecture.zig_target), *FLAGS, "-fno-stack-protector", "-g0"]
        compile_with([*command, "-isystem", darwin_headers(), *folders, "-c", str(source), "-o", str(made)], made)
        objects.append(str(made))
    output = work / "library.a"
    output.unlink(missing_ok=True)
    compile_with([sys.executable, "-m", "ziglang", "ar", "--format=darwin", "rcsD", str(output), *objects], output)
    return output.read_bytes()


def darwin_headers() -> str:
    """The folder of the C library's headers, which zig has for macOS and which are the same on iOS."""
    import ziglang

    folder = Path(str(ziglang.__file__)).parent / "lib" / "libc" / "include" / "any-darwin-any"
    if not folder.is_dir():
        raise ToolchainError(
            f"ziglang has no headers of Apple's C library: {folder} is missing; install another version of ziglang"
        )
    return str(folder)


def fat_file(parts: Sequence[tuple[str, bytes]]) -> bytes:
    """Libraries for several architectures as one file (mach-o/fat.h): its table is big-endian."""
    page = 1 << _PAGE
    table, body, at = struct.pack(">II", 0xCAFEBABE, len(parts)), b"", page
    for name, data in parts:
        table += struct.pack(">IIIII", *_CPU[name], at + len(body), len(data), _PAGE)
        body += data + bytes(-len(data) % page)
    return table.ljust(page, b"\0") + body[: len(body) - (-len(parts[-1][1]) % page)]

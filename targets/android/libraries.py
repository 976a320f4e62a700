"""The libraries of an Android package: an ABI each, of NAME.cc, its native methods and what they ask of a C library."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dlpack.targets.toolchains.compiler import FLAGS, compile_with, zig_command
from dlpack.targets.toolchains.processors import NEON_FLAGS

MIN_SDK = 21
"""Android 5.0, the first that has 64-bit processors."""


@dataclass(frozen=True)
class Abi:
    """A kind of processor, as Android calls it, and the options of zig's clang and of any other for it.

    https://developer.android.com/ndk/guides/abis
    """

    name: str
    zig_target: str
    zig_flags: tuple[str, ...]
    clang_flags: tuple[str, ...]


ABIS = (
    # For aarch64-linux-android, zig's clang calls functions of a library for atomic operations.
    Abi(
        "arm64-v8a",
        "aarch64-linux-musl",
        ("-ffixed-x18",),
        (f"--target=aarch64-linux-android{MIN_SDK}", "-mno-outline-atomics"),
    ),
    # zig's own arm-linux-androideabi computes floats in software. Android promises NEON, but no fused multiply-add.
    Abi(
        "armeabi-v7a",
        "arm-linux-gnueabihf",
        (*NEON_FLAGS, "-mfloat-abi=softfp"),
        (f"--target=armv7a-linux-androideabi{MIN_SDK}", "-mfpu=neon"),
    ),
    Abi(
        "x86_64",
        "x86_64-linux-android",
        ("-mcpu=x86_64_v2",),
        (f"--target=x86_64-linux-android{MIN_SDK}", "-march=x86-64-v2"),
    ),
)


def compile_library(source: Path, output: Path, abi: Abi, folder: Path, flags: Sequence[str], cc: str | None) -> None:
    """Compiles the native methods in `source`, which include NAME.cc from `folder`, to a library that needs no other.

    Its segments begin at multiples of 16 kB, the largest pages that Android has.
    """
    if cc:
        command = [*shlex.split(cc), *abi.clang_flags, "-fuse-ld=lld", "-x", "c++"]
    else:
        command = [*zig_command(abi.zig_target), *abi.zig_flags]
    toolchains = resources.files("dlpack.targets.toolchains")
    with resources.as_file(toolchains) as runtime, resources.as_file(resources.files(__package__)) as here:
        command += [
            "-fPIC", *FLAGS, "-fno-stack-protector", "-fno-builtin-strlen", *flags, f"-I{folder}", f"-I{runtime}",
            "-nostdlib", "-shared", "-s", f"-Wl,-soname,{output.name}", "-Wl,-z,max-page-size=16384", "-Wl,-z,defs",
            "-Wl,--hash-style=both", "-Wl,--build-id=sha1", str(source), str(here / "support.cc"), "-o", str(output),
        ]  # fmt: skip
        compile_with(command, output)

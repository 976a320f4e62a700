"""The C library that a Linux target's libraries are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dlpack.errors import UsageError
from dlpack.targets.base import Build, TargetOption
from dlpack.targets.toolchains.compiler import Toolchain

LIBC = "libc"

OPTION = TargetOption(LIBC, "The C library: glibc (default), or musl (Alpine, OpenWrt).", metavar="glibc|musl")


def select_libc(builds: tuple[Build, ...]) -> Callable[[Mapping[str, Any]], tuple[Build, ...]]:
    """The `select` of a target whose builds are for glibc: with --libc musl they are for musl."""

    def select(values: Mapping[str, Any]) -> tuple[Build, ...]:
        wanted = values.get(LIBC) or "glibc"
        if wanted not in ("glibc", "musl"):
            raise UsageError(f"--{LIBC} {wanted}: known are glibc and musl")
        if wanted == "glibc":
            return builds
        return tuple(replace(b, toolchain=Toolchain(_for_musl(b.toolchain.zig_target))) for b in builds)

    return select


def _for_musl(zig_target: str) -> str:
    """arm-linux-gnueabihf.2.23 -> arm-linux-musleabihf."""
    return zig_target.partition(".")[0].replace("-gnu", "-musl")

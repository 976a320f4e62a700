"""Bundles for other machines: what a library is for, and what to say of one that this computer cannot run."""

from __future__ import annotations

import platform
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from dlpack.errors import UsageError

_ELF = {3: "32-bit x86", 40: "32-bit Arm", 62: "x86-64", 183: "64-bit Arm", 243: "RISC-V"}
_MACH = {7: "32-bit x86", 12: "32-bit Arm", 0x01000007: "x86-64", 0x0100000C: "64-bit Arm"}
_PE = {0x014C: "32-bit x86", 0x8664: "x86-64", 0xAA64: "64-bit Arm"}
"""Processors by the number that a library's header has of them."""

_SYSTEMS = {"Darwin": "macOS"}
_PROCESSORS = {
    "x86_64": "x86-64", "amd64": "x86-64", "i686": "32-bit x86", "aarch64": "64-bit Arm", "arm64": "64-bit Arm",
    "armv7l": "32-bit Arm", "armv8l": "32-bit Arm", "riscv64": "RISC-V",
}  # fmt: skip
"""What Python calls them, where that is another name."""


def this_computer() -> str:
    """Its system and processor, in the words of `machine_of`."""
    system, processor = platform.system(), platform.machine()
    return f"{_SYSTEMS.get(system, system)} on {_PROCESSORS.get(processor.lower(), processor)}"


def machine_of(library: Path) -> str | None:
    """The system and processor that a shared library is for, by its header; None if it is no library for one."""
    try:
        with library.open("rb") as file:
            return _machine(file.read(64), file)
    except (OSError, IndexError, struct.error):  # too short to be one
        return None


def _machine(header: bytes, file: BinaryIO) -> str | None:
    if header.startswith(b"\x7fELF"):
        order = ">" if header[5] == 2 else "<"
        system, known, number = "Linux", _ELF, struct.unpack_from(f"{order}H", header, 18)[0]
    elif header[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"):
        system, known, number = "macOS", _MACH, struct.unpack_from("<I", header, 4)[0]
    elif header.startswith(b"MZ"):
        file.seek(struct.unpack_from("<I", header, 60)[0])
        mark, number = struct.unpack("<4sH", file.read(6))
        if mark != b"PE\0\0":
            return None
        system, known = "Windows", _PE
    else:
        return None
    return f"{system} on {known.get(number, f'an unknown processor ({number})')}"


def why_not_here(bundle: Path, manifest: Mapping[str, Any]) -> str:
    """Why this computer cannot load the bundle: what it is for, and how to build one that runs here; "" where its
    library is for this computer, or for none."""
    library = manifest.get("library")
    target = manifest["target"]
    if library:
        machine = machine_of(bundle / library)
        if machine is None or machine == this_computer():
            return ""
        why = f"is for {machine} (target {target}), and this computer is {this_computer()}: it cannot run here"
    else:
        why = f"is built for target {target}{_about(target)}: it has no library that can be loaded here"
    places = ", ".join(manifest.get("verified_on", []))
    return f"{bundle} {why}; {here()}{f'; dlpack verify {bundle} runs it on {places}' if places else ''}"


def _about(target: str) -> str:
    from dlpack.targets import get_target

    try:
        return f" ({get_target(target).about})"
    except UsageError:  # a target of someone else's, which is not installed here
        return ""


def here() -> str:
    """How to build what runs on this computer."""
    return "dlpack build MODEL --target native -o FOLDER makes one that can"

"""Reads libraries for Apple's platforms: files of several architectures, archives, and Mach-O's headers and symbols."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

ARCHITECTURES = {0x0100000C: "arm64", 0x01000007: "x86_64"}
PLATFORMS = {1: "macos", 2: "ios", 7: "ios-simulator"}


@dataclass(frozen=True)
class Object:
    """A Mach-O object file: what it is for, and its symbols without the underscore that C puts before them."""

    architecture: str
    platform: str
    oldest: tuple[int, int]
    exported: frozenset[str]
    undefined: frozenset[str]


def slices(data: bytes) -> dict[str, bytes]:
    """The parts of a fat file (mach-o/fat.h) by architecture; a thin one's name is empty."""
    if data[:4] != b"\xca\xfe\xba\xbe":
        return {"": data}
    (count,) = struct.unpack_from(">I", data, 4)
    out = {}
    for k in range(count):
        cpu, _, at, size, align = struct.unpack_from(">IIIII", data, 8 + 20 * k)
        assert at % (1 << align) == 0 and at + size <= len(data)
        out[ARCHITECTURES[cpu]] = data[at : at + size]
    return out


def members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """The files in an archive of BSD's kind, without its table of symbols."""
    assert archive[:8] == b"!<arch>\n"
    at = 8
    while at < len(archive):
        header = archive[at : at + 60]
        assert header[58:] == b"`\n"
        name, size = header[:16].decode().strip(), int(header[48:58])
        data = archive[at + 60 : at + 60 + size]
        assert int(header[16:28]) == 0, "a date"
        if name.startswith("#1/"):
            length = int(name[3:])
            name, data = data[:length].rstrip(b"\0").decode(), data[length:]
        if not name.startswith("__.SYMDEF"):
            yield name, data
        at += 60 + size + size % 2


def read_object(data: bytes) -> Object:
    """A 64-bit Mach-O object file."""
    magic, cpu, _, kind, commands, *_ = struct.unpack_from("<8I", data)
    assert magic == 0xFEEDFACF and kind == 1
    platform, oldest, exported, undefined = 0, 0, set(), set()
    at = 32
    for _ in range(commands):
        command, size = struct.unpack_from("<II", data, at)
        if command == 0x32:  # LC_BUILD_VERSION
            platform, oldest = struct.unpack_from("<II", data, at + 8)
        elif command == 2:  # LC_SYMTAB
            symbols, count, strings, _ = struct.unpack_from("<4I", data, at + 8)
            for k in range(count):
                name_at, type_, *_ = struct.unpack_from("<IBBHQ", data, symbols + 16 * k)
                name = data[strings + name_at : data.index(b"\0", strings + name_at)].decode()
                external, hidden, defined = type_ & 1, type_ & 0x10, type_ & 0x0E
                if external and not defined:
                    undefined.add(name.removeprefix("_"))
                elif external and not hidden:
                    exported.add(name.removeprefix("_"))
        at += size
    version = oldest >> 16, oldest >> 8 & 255
    return Object(ARCHITECTURES[cpu], PLATFORMS[platform], version, frozenset(exported), frozenset(undefined))

"""The images of all architectures as one block of bytes, each packed as a zlib stream of its own, and their index."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from dlpack.targets.gpu.nvrtc import Image


@dataclass(frozen=True)
class Entry:
    """An image: for sm_`arch` and, if it is "ptx", all later ones; where it lies packed, and its bytes unpacked."""

    arch: int
    kind: str
    offset: int
    packed: int
    size: int


@dataclass(frozen=True)
class Blob:
    """Packed images. A predictor unpacks the one that it needs; the checksum in each finds damage."""

    entries: tuple[Entry, ...]
    data: bytes


def pack(images: Iterable[Image]) -> Blob:
    """Cubins first, then PTX, each in ascending order of architecture."""
    entries, parts, offset = [], [], 0
    for image in sorted(images, key=lambda i: (i.kind, i.arch)):
        part = zlib.compress(image.data, 9)
        entries.append(Entry(image.arch, image.kind, offset, len(part), len(image.data)))
        parts.append(part)
        offset += len(part)
    return Blob(tuple(entries), b"".join(parts))


def unpack(blob: Blob, entry: Entry) -> bytes:
    """One image, as the runtime unpacks it."""
    return zlib.decompress(blob.data[entry.offset : entry.offset + entry.packed])

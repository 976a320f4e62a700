"""Zip files that are the same bytes for the same content, whatever the machine and the hour."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path


def write_archive(path: Path | io.BytesIO, files: Mapping[str, bytes | Path]) -> None:
    """Writes a zip file, `files` by their path in it: bytes, or a file to copy.

    They are stored, not deflated, since different builds of zlib deflate differently; what Android's tools make of
    them is compressed anyway.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, whose file mode follows
            entry.external_attr = 0o100644 << 16
            content = files[name]
            with (
                io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream,
                archive.open(entry, "w", force_zip64=True) as out,
            ):
                shutil.copyfileobj(stream, out, 1 << 20)


def archived(files: Mapping[str, bytes | Path]) -> bytes:
    """The same in memory."""
    buffer = io.BytesIO()
    write_archive(buffer, files)
    return buffer.getvalue()

"""Writes a wheel that is the same bytes for the same content, whatever the machine and the hour.

The format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/. Files are stored, not
deflated, since different builds of zlib deflate differently; weights would shrink by some percent only.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

_CHUNK = 1 << 20


def write_wheel(
    folder: Path,
    distribution: str,
    version: str,
    tag: str,
    metadata: str,
    notice: str,
    files: Mapping[str, bytes | Path],
) -> Path:
    """Writes DISTRIBUTION-VERSION-TAG.whl into a folder.

    `distribution` is the normalised name in its escaped form ("my_net"), `tag` one compatibility tag
    ("py3-none-any"), `metadata` the METADATA file, `files` the content by path, as bytes or as a file to copy.
    """
    path = folder / f"{distribution}-{version}-{tag}.whl"
    info = f"{distribution}-{version}.dist-info"
    pure = "true" if tag.endswith("-none-any") else "false"
    about = f"Wheel-Version: 1.0\nGenerator: dlpack\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
    everything: dict[str, bytes | Path] = {
        **files,
        f"{info}/licenses/NOTICE": notice.encode(),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": about.encode(),
    }
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in everything.items():
            with archive.open(_entry(name), "w") as out:
                record.append(f"{name},{','.join(_copy(content, out))}\n")
        record.append(f"{info}/RECORD,,\n")
        archive.writestr(_entry(f"{info}/RECORD"), "".join(record))
    return path


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix, whose file mode follows
    entry.external_attr = 0o100644 << 16
    return entry


def _copy(content: bytes | Path, out: IO[bytes]) -> tuple[str, str]:
    """Writes a file into the archive; its digest and its size, as RECORD has them."""
    digest, size = hashlib.sha256(), 0
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return "sha256=" + base64.urlsafe_b64encode(digest.digest()).decode().rstrip("="), str(size)

"""The weights that MXNet 2 writes as .params: NumPy's .npz, a ZIP archive of uncompressed .npy files."""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

import numpy as np

from dlpack.archives import ZIP_ERRORS
from dlpack.errors import ModelError, UnsupportedError
from dlpack.exporters.builder import Array

MARKS = (b"PK\x03\x04", b"PK\x05\x06")
"""The beginning of an archive, and that of an empty one."""
MAX_RANK = 32
_DAMAGED = "the weights' file is damaged or cut off; copy or save it again"


def read_archive(data: bytes) -> dict[str, Array]:
    """The arrays by name (including `arg:` and `aux:`). Raises ModelError for an archive that is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(e.compress_type != zipfile.ZIP_STORED for e in entries):
                raise UnsupportedError("the weights are compressed; save them with mxnet.npx.savez")
            if sum(e.file_size for e in entries) > len(data):
                raise ModelError(_DAMAGED)
            found = {e.filename.removesuffix(".npy"): _array(e.filename, archive.read(e)) for e in entries}
    except ZIP_ERRORS as e:
        raise ModelError(f"{_DAMAGED}: {e}") from e
    if len(found) != len(entries):
        raise ModelError("the weights' file has two arrays of the same name")
    return found


def _array(name: str, data: bytes) -> Array:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise UnsupportedError(f"'{name[:80]}' in the weights has NumPy's format {version}, which is not known")
    shape, by_columns, dtype = read(file)
    if dtype.kind not in "fiub":
        raise UnsupportedError(f"'{name[:80]}' in the weights has the type {dtype}; cast it to float32")
    values = data[file.tell() :]
    if len(shape) > MAX_RANK or any(d < 0 for d in shape) or math.prod(shape) * dtype.itemsize != len(values):
        raise ModelError(f"'{name[:80]}' in the weights claims the shape {list(shape)}; the file is damaged")
    array = np.frombuffer(values, dtype).astype(dtype.newbyteorder("="), copy=False)
    return array.reshape(shape, order="F" if by_columns else "C")

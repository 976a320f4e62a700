"""Where the rows of an input come from: an array, a number from each of several columns, pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from dlpack.bundle.arrays import numpy_dtype
from dlpack.errors import UsageError
from dlpack.graph.ir import Array


class Rows(Protocol):
    """Rows of an input. `take` gives `size` of them from `start` on, of which `count` are there and the rest zeros."""

    def __len__(self) -> int: ...
    def take(self, start: int, count: int, size: int) -> Array: ...


class Whole:
    """Rows that lie in an array one behind the other."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def take(self, start: int, count: int, size: int) -> Array:
        part = self._array[start : start + count]
        if count == size:
            return part
        padded = np.zeros((size, *part.shape[1:]), part.dtype)
        padded[:count] = part
        return padded


class Columns:
    """Rows of numbers that lie in a column each; they are brought together a batch at a time."""

    def __init__(self, columns: Sequence[Array], dtype: str, shape: tuple[int, ...]) -> None:
        self._columns, self._dtype, self._shape = columns, numpy_dtype(dtype), shape

    def __len__(self) -> int:
        return len(self._columns[0])

    def take(self, start: int, count: int, size: int) -> Array:
        block = np.zeros((size, len(self._columns)), self._dtype)
        for k, column in enumerate(self._columns):
            block[:count, k] = column[start : start + count]
        return block.reshape(size, *self._shape)


class Pictures:
    """Rows that `preprocess` makes of pictures, one at a time."""

    def __init__(self, pictures: Sequence[Any], preprocess: Callable[[Array], Array]) -> None:
        self._pictures, self._preprocess = pictures, preprocess

    def __len__(self) -> int:
        return len(self._pictures)

    def take(self, start: int, count: int, size: int) -> Array:
        rows = [self._preprocess(_decoded(p, start + k)) for k, p in enumerate(self._pictures[start : start + count])]
        return Whole(rows[0] if count == 1 else np.concatenate(rows)).take(0, count, size)


def _decoded(picture: Any, row: int) -> Array:
    """A picture as uint8 of height x width (x channels)."""
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8:
        return picture
    if not isinstance(picture, bytes | bytearray | memoryview):
        raise UsageError(f"row {row} holds no picture but {type(picture).__name__}: encoded bytes or uint8 arrays fit")
    try:
        from PIL import Image
    except ImportError as e:
        raise UsageError("encoded pictures are decoded by Pillow: pip install pillow") from e
    try:
        with Image.open(io.BytesIO(picture)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as e:
        raise UsageError(f"row {row} holds no picture that Pillow can read: {e}") from e


def rows_of(name: str, column: Any, dtype: str, shape: tuple[int, ...]) -> Rows:
    """The rows of an input in one column, of (rows, ...) with as many elements a row as `shape` has."""
    array = np.asarray(column)
    if array.dtype == object and len(array):
        array = _stacked(name, array)
    elements = int(np.prod(shape, dtype=np.int64))
    if array.size != len(array) * elements:
        raise UsageError(f"column {name!r} has {array.shape[1:]} a row; the input takes {shape}")
    return Whole(np.ascontiguousarray(converted(name, array, dtype)).reshape(len(array), *shape))


def _stacked(name: str, column: Array) -> Array:
    """A column of arrays or lists as one array."""
    try:
        array = np.stack([np.asarray(row) for row in column])
    except ValueError as e:
        raise UsageError(f"column {name!r} has rows of different sizes") from e
    if array.dtype == object:
        raise UsageError(f"column {name!r} holds {type(column[0]).__name__}, not numbers")
    return array


def matrix(columns: Mapping[str, Any], dtype: str, shape: tuple[int, ...]) -> Rows:
    """The rows of an input whose elements are in a column each."""
    arrays = [converted(name, np.asarray(column), dtype) for name, column in columns.items()]
    for name, array in zip(columns, arrays, strict=True):
        if array.ndim != 1 or len(array) != len(arrays[0]):
            raise UsageError(f"column {name!r} has the shape {array.shape}, not one number a row")
    return Columns(arrays, dtype, shape)


def converted(name: str, array: Array, dtype: str) -> Array:
    """A column in an input's type: as it is, or converted where no more than precision is lost."""
    kind = numpy_dtype(dtype)
    if array.dtype == kind:
        return array
    if array.dtype.kind not in "biuf" or not (array.dtype == bool or np.can_cast(array.dtype, kind, "same_kind")):
        raise UsageError(f"column {name!r} is {array.dtype}, and the input {dtype}: convert it first")
    if kind.kind in "iu" and array.dtype.kind in "iu" and array.size and not np.can_cast(array.dtype, kind):
        limits = np.iinfo(kind)
        if array.min() < limits.min or array.max() > limits.max:
            raise UsageError(f"column {name!r} has values that {dtype} cannot hold")
    return array.astype(kind)

"""Strings at a predictor's borders: str for users, rows of UTF-8 with a zero at the end ("S64") for the predictor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dlpack.graph.ir import Array


def is_text(dtype: str) -> bool:
    """Whether the elements of an input or output of the manifest's type are strings."""
    return dtype.startswith("S")


def encoded(name: str, value: Any, dtype: str) -> Array:
    """The rows of bytes for an input: a list, or an array of str, of objects or of bytes.

    Raises TypeError for an element that is no string, ValueError for one that is too long or has a zero in it.
    """
    width = int(dtype[1:])
    given = np.asarray(value, object) if not isinstance(value, np.ndarray) else value
    if given.dtype.kind == "S" and given.dtype.itemsize < width:
        return np.ascontiguousarray(given, dtype)
    rows = [_row(name, element, width) for element in given.reshape(-1).tolist()]
    return np.array(rows, dtype).reshape(given.shape)


def _row(name: str, element: Any, width: int) -> bytes:
    row = element.encode() if isinstance(element, str) else element
    if not isinstance(row, bytes):
        raise TypeError(f"input {name!r} takes strings, and one of its elements is {element!r}")
    if b"\0" in row:
        raise ValueError(f"input {name!r}: a string has a zero in it, where it would end")
    if len(row) >= width:
        raise ValueError(
            f"input {name!r}: a string of {len(row)} bytes is too long, {width - 1} are possible; build with "
            f"--max {name}={len(row) + 1}"
        )
    return row


def encoded_inputs(kinds: Mapping[str, tuple[str, tuple[int, ...]]], inputs: Any) -> Mapping[str, Any]:
    """The inputs, those that are strings as rows of bytes; `kinds`: type and shape by name.

    Raises TypeError for what is not a mapping of names, an array for example.
    """
    if not isinstance(inputs, Mapping):
        names = ", ".join(f"{name!r}: ..." for name in kinds)
        raise TypeError(f"inputs are a mapping of names to arrays, {{{names}}}, not {type(inputs).__name__}")
    texts = {n: encoded(n, inputs[n], dtype) for n, (dtype, _) in kinds.items() if is_text(dtype) and n in inputs}
    return {**inputs, **texts} if texts else inputs


def decoded(array: Array) -> Array:
    """Rows of bytes as an array of str; other arrays as they are."""
    return np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array


def objects(array: Array) -> Array:
    """Rows of bytes as an array of Python's str, as onnxruntime takes them; other arrays as they are."""
    return decoded(array).astype(object) if array.dtype.kind == "S" else array


def rows(array: Array) -> Array:
    """An array of str or of objects as rows of bytes, as many as the longest takes; other arrays as they are."""
    if array.dtype.kind not in "OU":
        return array
    texts = [str(element).encode() for element in array.reshape(-1).tolist()]
    width = max((len(text) for text in texts), default=0) + 1
    return np.array(texts, f"S{width}").reshape(array.shape)


def words_of(numbers: Array, words: Iterable[str], width: int) -> Array:
    """The words of these numbers, as rows of bytes."""
    listed = np.array([word.encode() for word in words], f"S{width}")
    return np.asarray(listed[numbers.astype(np.int64)])

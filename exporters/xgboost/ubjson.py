"""Universal Binary JSON (draft 12, https://ubjson.org), as XGBoost writes it: big-endian, arrays of one type flat."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from dlpack.errors import ModelError

_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_WORDS = {b"Z": None, b"T": True, b"F": False}
_DAMAGED = "the file is damaged or cut off; copy or save it again"


class _Reader:
    """Reads one value after the other; each read is checked against the file's end, each level against `depth`."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        if size < 0 or size > len(self.data) - self.place:
            raise ModelError(_DAMAGED)
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, kind: bytes) -> Any:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()

    def length(self) -> int:
        kind = self.take(1)
        if kind not in _NUMBERS or kind in b"dD":
            raise ModelError(_DAMAGED)
        return int(self.number(kind))

    def text(self) -> str:
        return self.take(self.length()).decode("utf-8", "replace")

    def takes(self, mark: bytes) -> bool:
        """Takes the next byte where it is `mark`."""
        found = self.data[self.place : self.place + 1] == mark
        self.place += found
        return found

    def value(self, kind: bytes, depth: int) -> Any:
        if depth < 0:
            raise ModelError("the file is nested too deeply")
        if kind in _NUMBERS:
            return self.number(kind)
        if kind in _WORDS:
            return _WORDS[kind]
        if kind == b"S":
            return self.text()
        if kind == b"C":
            return self.take(1).decode("latin-1")
        if kind == b"H":  # a number as text
            return float(self.text())
        if kind == b"[":
            return self.array(depth)
        if kind == b"{":
            return self.object(depth)
        raise ModelError(_DAMAGED)

    def array(self, depth: int) -> Any:
        kind = self.take(1) if self.takes(b"$") else b""
        if not self.takes(b"#"):
            found = []
            while not self.takes(b"]"):
                found.append(self.value(self.take(1), depth - 1))
            return found
        count = self.length()
        if kind in _NUMBERS:
            dtype = np.dtype(_NUMBERS[kind])
            return np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
        if kind or count < 0 or count > len(self.data) - self.place:  # a value takes a byte at least
            raise ModelError(_DAMAGED)
        return [self.value(self.take(1), depth - 1) for _ in range(count)]

    def object(self, depth: int) -> dict[str, Any]:
        if self.takes(b"$"):
            raise ModelError(_DAMAGED)
        count = self.length() if self.takes(b"#") else -1
        found = {}
        while count and not (count < 0 and self.takes(b"}")):
            name = self.text()
            found[name] = self.value(self.take(1), depth - 1)
            count -= count > 0
        return found


def parse_ubjson(data: bytes, depth: int) -> Any:
    """The value that the bytes hold, nested at most `depth` levels. Raises ModelError."""
    reader = _Reader(data)
    try:
        return reader.value(reader.take(1), depth)
    except (struct.error, ValueError, RecursionError):
        raise ModelError(_DAMAGED) from None

"""FlatBuffers read without generated code: every offset is checked before it is followed.

Field numbers are a schema's; what a field holds when it is left out is its default there. Layout of a FlatBuffer:
https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array

MAX_ITEMS = 8_000_000
DAMAGED = "the file is damaged or cut off; copy or convert it again"


class Table:
    """A FlatBuffer table at a place of the file. `field` numbers count from 0 in the schema's order."""

    def __init__(self, file: FlatFile, place: int) -> None:
        self.file, self.place = file, place
        self.vtable = place - file.number("i", place)
        size = file.number("H", self.vtable)
        if size < 4 or size % 2:
            raise ModelError(DAMAGED)
        self.count = (size - 4) // 2

    def _at(self, field: int) -> int:
        """Where the field lies; 0 where it is left out."""
        offset = self.file.number("H", self.vtable + 4 + 2 * field) if field < self.count else 0
        return self.place + offset if offset else 0

    def number(self, field: int, kind: str = "i", default: float = 0) -> Any:
        """A scalar; `kind` as in the module struct."""
        at = self._at(field)
        return self.file.number(kind, at) if at else default

    def _target(self, field: int) -> int:
        at = self._at(field)
        return at + self.file.number("I", at) if at else 0

    def table(self, field: int) -> Table | None:
        at = self._target(field)
        return Table(self.file, at) if at else None

    def vector(self, field: int, dtype: str) -> Array:
        """A vector of scalars, not copied; empty where it is left out."""
        at = self._target(field)
        if not at:
            return np.zeros(0, dtype)
        count, size = self.file.number("I", at), np.dtype(dtype).itemsize
        self.file.check(at + 4, count * size)
        return np.frombuffer(self.file.data, dtype, count, at + 4)

    def ints(self, field: int) -> tuple[int, ...]:
        """A vector of int32."""
        values = self.vector(field, "<i4")
        self.file.spend(values.size)
        return tuple(values.tolist())

    def tables(self, field: int) -> list[Table]:
        offsets = self.vector(field, "<u4")
        self.file.spend(offsets.size)
        start = self._target(field) + 4
        return [Table(self.file, start + 4 * k + o) for k, o in enumerate(offsets.tolist())]

    def text(self, field: int) -> str:
        data = self.vector(field, "u1")
        self.file.spend(data.size)
        return data.tobytes().decode("utf-8", "replace")


class FlatFile:
    """A FlatBuffer in memory; reads outside of it raise ModelError, and so do files that list the same things again."""

    def __init__(self, data: bytes) -> None:
        self.data, self.left = data, MAX_ITEMS + len(data)

    def check(self, place: int, size: int) -> None:
        if place < 0 or size < 0 or place + size > len(self.data):
            raise ModelError(DAMAGED)

    def number(self, kind: str, place: int) -> Any:
        kind = f"<{kind}"
        self.check(place, struct.calcsize(kind))
        return struct.unpack_from(kind, self.data, place)[0]

    def spend(self, items: int) -> None:
        self.left -= items + 1
        if self.left < 0:
            raise ModelError("the file lists more items than a file of its size can hold; it is damaged")

    def root(self) -> Table:
        return Table(self, self.number("I", 0))

"""Core ML's files without generated code: protobuf messages by field numbers, and the blobs of weight.bin.

Field numbers are those of mlmodel/format in apple/coremltools (Model.proto, MIL.proto).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.base import read_bytes
from dlpack.exporters.builder import MAX_RANK, Array, NotConverted, Shape

DAMAGED = "the file is damaged or cut off; copy or convert it again"
MAX_FIELDS = 8_000_000
TYPES = {1: "?", 10: "<f2", 11: "<f4", 12: "<f8", 21: "i1", 22: "<i2", 23: "<i4", 24: "<i8", 31: "u1", 32: "<u2"}
"""MIL's element types that are read, as NumPy's."""
STRING = 2
_BLOB = 0xDEADBEEF
_BLOB_TYPES = {1: 10, 2: 11, 3: 31, 4: 21, 6: 22, 7: 32, 9: 23}
"""A blob's type → MIL's."""


@dataclass(frozen=True)
class Message:
    """A protobuf message; `spent` counts the fields of the whole file."""

    data: memoryview
    spent: list[int]

    @cached_property
    def fields(self) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {}
        for number, value in self._fields():
            found.setdefault(number, []).append(value)
            self.spent[0] += 1
            if self.spent[0] > MAX_FIELDS:
                raise ModelError(f"it has more than {MAX_FIELDS:,} fields")
        return found

    def _fields(self) -> Iterator[tuple[int, Any]]:
        """(number, value): a whole number, or bytes."""
        data, place, end = self.data, 0, len(self.data)
        while place < end:
            key, place = _varint(data, place)
            kind = key & 7
            if kind == 0:
                value, place = _varint(data, place)
                yield key >> 3, value
                continue
            if kind == 2:
                size, place = _varint(data, place)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise ModelError(DAMAGED)
            if size > end - place:
                raise ModelError(DAMAGED)
            yield key >> 3, data[place : place + size]
            place += size

    def __contains__(self, number: int) -> bool:
        return number in self.fields

    def blobs(self, number: int) -> list[memoryview]:
        """The field's byte strings."""
        values = self.fields.get(number, [])
        if any(isinstance(v, int) for v in values):
            raise ModelError(DAMAGED)
        return values

    def message(self, number: int) -> Message:
        """The field's message; an empty one without it."""
        values = self.blobs(number)
        return Message(values[-1] if values else memoryview(b""), self.spent)

    def messages(self, number: int) -> list[Message]:
        return [Message(v, self.spent) for v in self.blobs(number)]

    def entries(self, number: int) -> dict[str, Message]:
        """A map of messages."""
        return {entry.text(1): entry.message(2) for entry in self.messages(number)}

    def texts(self, number: int) -> list[str]:
        return [bytes(v).decode("utf-8", "replace") for v in self.blobs(number)]

    def text(self, number: int) -> str:
        return (self.texts(number) or [""])[-1]

    def whole(self, number: int, default: int = 0) -> int:
        value = self.fields.get(number, [default])[-1]
        if not isinstance(value, int):
            raise ModelError(DAMAGED)
        return value

    def wholes(self, number: int) -> list[int]:
        """Signed whole numbers, packed or not."""
        found: list[int] = []
        for value in self.fields.get(number, []):
            if isinstance(value, int):
                found.append(value)
                continue
            place = 0
            while place < len(value):
                one, place = _varint(value, place)
                found.append(one)
        return [v - (1 << 64) if v >= 1 << 63 else v for v in found]

    def numbers(self, number: int, dtype: str) -> Array:
        """Floats or doubles, packed or not."""
        data = b"".join(self.blobs(number))
        if len(data) % np.dtype(dtype).itemsize:
            raise ModelError(DAMAGED)
        return np.frombuffer(data, dtype)

    def number(self, number: int, default: float = 0.0, dtype: str = "<f4") -> float:
        """A float, or a double; `default` without it and, as protobuf's third version has it, for zero."""
        found = self.numbers(number, dtype)
        return (float(found[-1]) if found.size else 0.0) or default


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & ((1 << 64) - 1), place
    raise ModelError(DAMAGED)


def tensor_type(message: Message) -> tuple[int, list[int | None]]:
    """A ValueType's element type (0: none), and its dimensions, None where they are open."""
    tensor = message.message(1)
    sizes = [d.message(1).whole(1) if 1 in d else None for d in tensor.messages(3)]
    if len(sizes) > MAX_RANK or any(s is not None and s > 1 << 40 for s in sizes):
        raise ModelError(f"a tensor has {len(sizes)} dimensions {sizes[:4]}")
    return tensor.whole(1), sizes


class Blobs:
    """The weights in files beside the model, each read once. A blob has a head of 64 bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, dict[str, bytes]()

    def array(self, name: str, offset: int, kind: int, shape: Shape) -> Array:
        data = self._file(name)
        if not 0 <= offset <= len(data) - 64:
            raise ModelError(f"{name}: {DAMAGED}")
        head, blob_kind = (int.from_bytes(data[offset + k : offset + k + 4], "little") for k in (0, 4))
        size, begin = (int.from_bytes(data[offset + k : offset + k + 8], "little") for k in (8, 16))
        dtype, count = np.dtype(TYPES[kind]), math.prod(shape)
        if head != _BLOB or _BLOB_TYPES.get(blob_kind) != kind:
            raise ModelError(f"{name}: there are no weights of this type at {offset:,}; {DAMAGED}")
        if size != count * dtype.itemsize or begin > len(data) or size > len(data) - begin:
            raise ModelError(f"{name}: the weights at {offset:,} do not fit their shape {list(shape)}; {DAMAGED}")
        return np.frombuffer(data, dtype, count, begin).reshape(shape)

    def _file(self, name: str) -> bytes:
        inside = name.removeprefix("@model_path/")
        if inside == name or ".." in Path(inside).parts or Path(inside).is_absolute():
            raise ModelError(f"its weights are in {name[:80]!r}, which does not lie in the package")
        if name not in self._files:
            self._files[name] = read_bytes(self._folder / inside)
        return self._files[name]

    @property
    def paths(self) -> list[Path]:
        return [self._folder / name.removeprefix("@model_path/") for name in self._files]


def value(message: Message, blobs: Blobs) -> Any:
    """A Value: an array, a text, or a list of texts."""
    now = message.message(3)
    if 3 in now:  # a list
        return [value(v, blobs) for v in now.message(3).messages(1)]
    kind, sizes = tensor_type(message.message(2))
    tensor = now.message(1)
    if kind == STRING:
        texts = tensor.message(4).texts(1)
        return texts if sizes else (texts or [""])[0]
    if kind not in TYPES or None in sizes:
        raise NotConverted(f"a constant of the type {kind}")
    shape = tuple(s for s in sizes if s is not None)
    if 5 in message:
        blob = message.message(5)
        return blobs.array(blob.text(1), blob.whole(2), kind, shape)
    dtype = np.dtype(TYPES[kind])
    if 7 in tensor:
        array: Array = tensor.message(7).numbers(1, TYPES[kind])
    elif 1 in tensor:
        array = tensor.message(1).numbers(1, "<f4")
    elif 6 in tensor:
        array = tensor.message(6).numbers(1, "<f8")
    else:
        wholes = [v for field in (2, 3, 5) for v in tensor.message(field).wholes(1)]
        array = np.array([(v + (1 << 31)) % (1 << 32) - (1 << 31) if kind == 23 else v for v in wholes], np.int64)
    count = math.prod(shape)
    if array.size not in (1, count) or count > 1 << 28:
        raise ModelError(f"a constant has {array.size} values, not {count}")
    return np.broadcast_to(array.astype(dtype).reshape(-1), (count,)).reshape(shape)

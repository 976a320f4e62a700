""".tflite files: FlatBuffers of the schema that TensorFlow publishes as schema.fbs, read without its generated code.

Every offset is checked before it is followed. Field numbers are the schema's; what a field holds when it is left out is
its default there. Layout of a FlatBuffer: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.base import MAX_TEXT_BYTES, read_labels
from dlpack.exporters.builder import MAX_RANK, Array, Shape
from dlpack.exporters.tflite.schema import CUSTOM, OPERATORS, OPTIONS, TYPES

IDENTIFIER = b"TFL3"
MAX_ITEMS = 8_000_000
_DAMAGED = "the file is damaged or cut off; copy or convert it again"


class Table:
    """A FlatBuffer table at a place of the file. `field` numbers count from 0 in the schema's order."""

    def __init__(self, file: FlatFile, place: int) -> None:
        self.file, self.place = file, place
        self.vtable = place - file.number("i", place)
        size = file.number("H", self.vtable)
        if size < 4 or size % 2:
            raise ModelError(_DAMAGED)
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
            raise ModelError(_DAMAGED)

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


@dataclass(frozen=True)
class QuantizationParameters:
    """real = (stored - zero) * scale; one scale, or one per place of `axis`."""

    scale: Array
    zero: Array
    axis: int = 0

    def same(self, other: QuantizationParameters | None) -> bool:
        return other is not None and all(
            a.shape == b.shape and bool((a == b).all()) for a, b in ((self.scale, other.scale), (self.zero, other.zero))
        )


@dataclass(frozen=True)
class Tensor:
    """A value of a subgraph; `data` is a constant's array. `open` marks the dimensions that may change."""

    name: str
    shape: Shape
    dtype: str
    data: Array | None = None
    quantization: QuantizationParameters | None = None
    variable: bool = False
    sparse: bool = False
    open: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Operator:
    """One operator; an input that is left out has the number -1."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Subgraph:
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class Signature:
    """Names of a subgraph's inputs and outputs, by tensor."""

    key: str
    subgraph: int
    inputs: Mapping[int, str]
    outputs: Mapping[int, str]


@dataclass(frozen=True)
class TFLiteModel:
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]


def read_model(data: bytes) -> TFLiteModel:
    """The whole file. Raises ModelError for one that is damaged."""
    if data[4:8] != IDENTIFIER:
        raise ModelError("the file does not bear the mark of a TensorFlow Lite model, TFL3")
    root = FlatFile(data).root()
    codes = [_operator_name(t) for t in root.tables(1)]
    buffers = root.tables(4)
    subgraphs = tuple(_subgraph(t, codes, buffers) for t in root.tables(2))
    if not subgraphs:
        raise ModelError("the file holds no graph")
    signatures = [
        Signature(s.text(2), s.number(4, "I"), _names(s.tables(0)), _names(s.tables(1))) for s in root.tables(7)
    ]
    return TFLiteModel(subgraphs, tuple(signatures))


def read_label_file(data: bytes) -> tuple[str, ...] | None:
    """The class names that TensorFlow Lite's metadata appends as a text file in a ZIP archive, where there is one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            texts = [i for i in archive.infolist() if i.filename.endswith(".txt") and i.file_size <= MAX_TEXT_BYTES]
            return read_labels(archive.read(texts[0]).decode("utf-8", "replace")) or None if len(texts) == 1 else None
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error):
        return None


def _operator_name(table: Table) -> str:
    """Codes beyond 127 came with a wider field; old files have the narrow one alone."""
    code = max(table.number(0, "b"), table.number(3, "i"))
    if code == CUSTOM:
        return f"the custom operator {table.text(1)[:80]}"
    return OPERATORS.get(code, f"operator number {code}")


def _names(maps: list[Table]) -> dict[int, str]:
    return {m.number(1, "I"): m.text(0) for m in maps}


def _subgraph(table: Table, codes: list[str], buffers: list[Table]) -> Subgraph:
    tensors = tuple(_tensor(t, buffers) for t in table.tables(0))
    operators = []
    for t in table.tables(3):
        code = t.number(0, "I")
        if code >= len(codes):
            raise ModelError(_DAMAGED)
        inputs, outputs = t.ints(1), t.ints(2)
        if not all(-1 <= i < len(tensors) for i in inputs) or not all(0 <= i < len(tensors) for i in outputs):
            raise ModelError(_DAMAGED)
        operators.append(Operator(codes[code], inputs, outputs, _options(codes[code], t.table(4))))
    inputs, outputs = table.ints(1), table.ints(2)
    if not all(0 <= i < len(tensors) for i in (*inputs, *outputs)):
        raise ModelError(_DAMAGED)
    return Subgraph(tensors, inputs, outputs, tuple(operators))


def _options(kind: str, table: Table | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, (name, code, default) in enumerate(OPTIONS.get(kind, ())):
        if code == "v":
            found[name] = table.ints(field) if table else ()
        else:
            found[name] = table.number(field, code, default) if table else default
    return found


def _tensor(table: Table, buffers: list[Table]) -> Tensor:
    shape, signature = table.ints(0), table.ints(7)
    code, place = table.number(1, "b"), table.number(2, "I")
    name = table.text(3)
    dtype = TYPES.get(code, f"type {code}")
    if len(shape) > MAX_RANK or place >= max(1, len(buffers)):
        raise ModelError(_DAMAGED)
    is_open = tuple(d < 0 for d in signature) if len(signature) == len(shape) else (False,) * len(shape)
    sparse = table.table(6) is not None  # its buffer holds the values that are not 0 alone
    data = _data(buffers[place], shape, dtype, name) if buffers and not sparse else None
    quantization = table.table(4)
    return Tensor(
        name, shape, "int8" if dtype == "int4" else dtype, data,
        _quantization(quantization, shape, name) if quantization else None,
        bool(table.number(5, "b")), sparse, is_open,
    )  # fmt: skip


def _data(buffer: Table, shape: Shape, dtype: str, name: str) -> Array | None:
    data = buffer.vector(0, "u1")
    start, size = buffer.number(1, "Q"), buffer.number(2, "Q")
    if start > 1:  # beyond the FlatBuffer, for files of more than 2 GB
        buffer.file.check(start, size)
        data = np.frombuffer(buffer.file.data, "u1", size, start)
    if not data.size:
        return None
    if dtype not in TYPES.values() or dtype in ("string", "int4"):
        if dtype != "int4" or any(d < 0 for d in shape) or data.size != (math.prod(shape) + 1) // 2:
            return None  # a type that is refused where it is used
        pairs = np.stack([data << 4, data & 0xF0], -1).reshape(-1)[: math.prod(shape)].view(np.int8)
        return (pairs >> 4).reshape(shape)
    kind = np.dtype(dtype)
    if any(d < 0 for d in shape) or math.prod(shape) * kind.itemsize != data.size:
        raise ModelError(f"tensor '{name}' claims the shape {list(shape)} of {dtype} and holds {data.size:,} bytes")
    return data.view(np.uint8).view(kind.newbyteorder("<")).reshape(shape).astype(kind, copy=False)


def _quantization(table: Table, shape: Shape, name: str) -> QuantizationParameters | None:
    scale, zero, axis = table.vector(2, "<f4"), table.vector(3, "<i8"), table.number(6, "i")
    if not scale.size:
        return None
    if not zero.size:
        zero = np.zeros(scale.size, np.int64)
    fits = scale.size == 1 or (0 <= axis < len(shape) and scale.size == shape[axis])
    if not fits or zero.size not in (1, scale.size):
        raise ModelError(f"tensor '{name}' of the shape {list(shape)} has {scale.size} scales along dimension {axis}")
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise ModelError(f"tensor '{name}' has a scale that is not a positive number")
    return QuantizationParameters(scale.copy(), np.broadcast_to(zero, scale.shape).copy(), axis)

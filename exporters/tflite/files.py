""".tflite files: FlatBuffers of the schema that TensorFlow publishes as schema.fbs, read without its generated code.

Field numbers are the schema's; what a field holds when it is left out is its default there.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlpack.archives import ZIP_ERRORS
from dlpack.errors import ModelError
from dlpack.exporters.base import MAX_TEXT_BYTES, read_labels
from dlpack.exporters.builder import MAX_RANK, Array, Shape
from dlpack.exporters.flatbuffer import DAMAGED, FlatFile, Table
from dlpack.exporters.flexbuffer import read_map
from dlpack.exporters.tflite.schema import CUSTOM, CUSTOM_OPERATORS, OPERATORS, OPTIONS, TYPES
from dlpack.exporters.tflite.sparse import densify

IDENTIFIER = b"TFL3"
MAX_NAME = 1000


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
    except ZIP_ERRORS:
        return None


def _operator_name(table: Table) -> str:
    """Codes beyond 127 came with a wider field; old files have the narrow one alone."""
    code = max(table.number(0, "b"), table.number(3, "i"))
    if code == CUSTOM:
        name = table.text(1)[:80]
        return name if name in CUSTOM_OPERATORS else f"the custom operator {name}"
    return OPERATORS.get(code, f"operator number {code}")


def _names(maps: list[Table]) -> dict[int, str]:
    return {m.number(1, "I"): m.text(0) for m in maps}


def _subgraph(table: Table, codes: list[str], buffers: list[Table]) -> Subgraph:
    tensors = tuple(_tensor(t, buffers) for t in table.tables(0))
    operators = []
    for t in table.tables(3):
        code = t.number(0, "I")
        if code >= len(codes):
            raise ModelError(DAMAGED)
        inputs, outputs = t.ints(1), t.ints(2)
        if not all(-1 <= i < len(tensors) for i in inputs) or not all(0 <= i < len(tensors) for i in outputs):
            raise ModelError(DAMAGED)
        custom = codes[code] in CUSTOM_OPERATORS
        options = read_map(t.vector(5, "u1").tobytes()) if custom else _options(codes[code], t.table(4))
        operators.append(Operator(codes[code], inputs, outputs, options))
    inputs, outputs = table.ints(1), table.ints(2)
    if not all(0 <= i < len(tensors) for i in (*inputs, *outputs)):
        raise ModelError(DAMAGED)
    return Subgraph(tensors, inputs, outputs, tuple(operators))


def _options(kind: str, table: Table | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, (name, code, default) in enumerate(OPTIONS.get(kind, ())):
        if code == "v":
            found[name] = table.ints(field) if table else ()
        elif code == "s":
            found[name] = table.text(field)[:MAX_NAME] if table else ""
        else:
            found[name] = table.number(field, code, default) if table else default
    return found


def _tensor(table: Table, buffers: list[Table]) -> Tensor:
    shape, signature = table.ints(0), table.ints(7)
    code, place = table.number(1, "b"), table.number(2, "I")
    name = table.text(3)
    dtype = TYPES.get(code, f"type {code}")
    if len(shape) > MAX_RANK or place >= max(1, len(buffers)):
        raise ModelError(DAMAGED)
    is_open = tuple(d < 0 for d in signature) if len(signature) == len(shape) else (False,) * len(shape)
    sparsity = table.table(6)  # its buffer holds some values alone; the others are 0
    data = _data(buffers[place], shape, dtype, name, sparsity) if buffers else None
    quantization = table.table(4)
    return Tensor(
        name, shape, "int8" if dtype == "int4" else dtype, data,
        _quantization(quantization, shape, name) if quantization else None,
        bool(table.number(5, "b")), is_open,
    )  # fmt: skip


def _data(buffer: Table, shape: Shape, dtype: str, name: str, sparsity: Table | None) -> Array | None:
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
    if sparsity is not None:
        if data.size % kind.itemsize:
            raise ModelError(DAMAGED)
        return densify(data.view(kind.newbyteorder("<")).astype(kind, copy=False), shape, sparsity, name)
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

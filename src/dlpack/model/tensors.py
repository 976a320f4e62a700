"""The tensors of an ONNX model: what they claim against the bytes that are there, external data included."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from dlpack.errors import ModelError, UnsupportedError
from dlpack.model.walk import describe, graphs, subgraphs

MAX_MODEL_BYTES = 2**31 - 1  # what one protobuf message can hold
MAX_RANK = 32

_BITS_BY_NAME = {
    "FLOAT": 32,
    "DOUBLE": 64,
    "FLOAT16": 16,
    "BFLOAT16": 16,
    "BOOL": 8,
    **{f"{sign}INT{bits}": bits for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)},
    "COMPLEX64": 64,
    "COMPLEX128": 128,
    **{f"FLOAT8{kind}": 8 for kind in ("E4M3FN", "E4M3FNUZ", "E5M2", "E5M2FNUZ", "E8M0")},
    **{f"FLOAT6{kind}": 6 for kind in ("E2M3", "E3M2")},
    "FLOAT4E2M1": 4,
}
# ONNX element type → bits per element; those below 8 are packed. Strings have none.
TENSOR_BITS = {number: _BITS_BY_NAME[name] for name, number in TensorProto.DataType.items() if name in _BITS_BY_NAME}


def tensor_size(tensor: TensorProto) -> int:
    """Number of elements that the tensor's dims claim."""
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes that the tensor's dims and type claim; 0 for strings and unknown types."""
    return (tensor_size(tensor) * TENSOR_BITS.get(tensor.data_type, 0) + 7) // 8


def _store_densely(graph: GraphProto) -> None:
    """Make sparse weights dense ones. Raises ModelError for damaged ones."""
    for sparse in graph.sparse_initializer:
        name, shape = sparse.values.name, tuple(sparse.dims)
        size = math.prod(shape)
        if len(shape) > MAX_RANK or any(dim < 0 for dim in shape):
            raise ModelError(f"sparse weight '{name}' has the dimensions {list(shape)}; export the model again")
        if size * TENSOR_BITS.get(sparse.values.data_type, 128) // 8 > MAX_MODEL_BYTES:
            raise UnsupportedError(f"sparse weight '{name}' has the shape {list(shape)}; more than 2 GiB")
        try:
            values = onnx.numpy_helper.to_array(sparse.values).reshape(-1)
            places = onnx.numpy_helper.to_array(sparse.indices)
            if places.ndim == 2:
                places = np.ravel_multi_index(tuple(places.T), shape)
            dense = np.zeros(size, values.dtype)
            if places.shape != values.shape or (places < 0).any():
                raise ValueError("a place for each value is needed")
            dense[places] = values
        except (IndexError, TypeError, ValueError) as e:
            raise ModelError(f"sparse weight '{name}' is damaged: {e}; export the model again") from None
        graph.initializer.append(onnx.numpy_helper.from_array(dense.reshape(shape), name))
    del graph.sparse_initializer[:]


def load_tensors(model: ModelProto, path: Path) -> None:
    """Check every tensor's claim against the bytes that are there, and read external data."""
    read = _External()
    for graph in graphs(model.graph):
        _store_densely(graph)
    for where, tensor in _tensors(model):
        if len(tensor.dims) > MAX_RANK:
            raise UnsupportedError(f"{where} has {len(tensor.dims)} dimensions; {MAX_RANK} are supported")
        if any(dim < 0 for dim in tensor.dims):
            raise ModelError(f"{where} has a negative dimension: {list(tensor.dims)}; export the model again")
        if tensor.data_type != TensorProto.STRING and tensor.data_type not in TENSOR_BITS:
            raise ModelError(f"{where} has the unknown element type {tensor.data_type}")
        if tensor.HasField("segment"):
            raise UnsupportedError(f"{where} is stored in segments; save the model again with onnx.save")
        claim = tensor_bytes(tensor)
        external = tensor.data_location == TensorProto.EXTERNAL
        if external:
            if claim > MAX_MODEL_BYTES:
                raise UnsupportedError(f"{where} has the shape {list(tensor.dims)}; more than 2 GiB")
            _read_external(tensor, where, path, read)
        elif not _fields_match(tensor, claim):
            raise ModelError(
                f"{where} claims the shape {list(tensor.dims)} of "
                f"{TensorProto.DataType.Name(tensor.data_type).lower()} ({claim} bytes), but the file does not hold "
                "that much data for it; the file is damaged: export or download it again"
            )


def _fields_match(tensor: TensorProto, claim: int) -> bool:
    if tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
        return len(tensor.raw_data) == claim
    size, kind = tensor_size(tensor), tensor.data_type
    if kind == TensorProto.STRING:
        return len(tensor.string_data) == size
    if kind in (TensorProto.FLOAT, TensorProto.COMPLEX64):
        return len(tensor.float_data) * 4 == claim
    if kind in (TensorProto.DOUBLE, TensorProto.COMPLEX128):
        return len(tensor.double_data) * 8 == claim
    if kind == TensorProto.INT64:
        return len(tensor.int64_data) == size
    if kind in (TensorProto.UINT32, TensorProto.UINT64):
        return len(tensor.uint64_data) == size
    return len(tensor.int32_data) == (claim if TENSOR_BITS[kind] < 8 else size)


class _External:
    """The files of external data that are read, and how much of them."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.total = 0

    def take(self, file: str, size: int, claim: int) -> None:
        """Counts `claim` bytes of a file. Raises UnsupportedError where over 2 GiB are mostly shared."""
        self.sizes[file] = size
        self.total += claim
        if self.total > max(MAX_MODEL_BYTES, 2 * sum(self.sizes.values())):
            raise UnsupportedError(
                f"the weights have {self.total:,} bytes of external data, and the files "
                f"{sum(self.sizes.values()):,}: many share the same bytes, which is not supported"
            )


def _read_external(tensor: TensorProto, where: str, path: Path, read: _External) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    claim = tensor_bytes(tensor)
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(claim)))
    except ValueError:
        raise ModelError(f"{where}: offset and length of its external data are not numbers") from None
    if offset < 0 or length != claim:
        raise ModelError(
            f"{where} claims the shape {list(tensor.dims)} ({claim} bytes), but its external data is {length} bytes at "
            f"offset {offset}; the model is damaged"
        )
    file = _inside(path.parent, location, where)
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise ModelError(
            f"{where}: the external data file '{location}' is missing; put it into {path.parent.absolute()}"
        ) from None
    except OSError as error:
        raise ModelError(f"{where}: the external data file '{location}' cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as data:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{where}: the external data '{location}' is not a regular file")
        if offset + length > status.st_size:
            raise ModelError(
                f"{where} needs {length} bytes at offset {offset} of '{location}', which has {status.st_size}; "
                "the file is cut off: copy or download it again"
            )
        read.take(file, status.st_size, length)
        data.seek(offset)
        tensor.raw_data = data.read(length)
    if len(tensor.raw_data) != length:
        raise ModelError(f"{where}: the external data file '{location}' changed while it was read")
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def _inside(folder: Path, location: str, where: str) -> str:
    """The real path of `location`, which must lie in `folder`: no absolute path, no "..", no link that leaves it."""
    refusal = f"{where}: its external data '{location}' lies outside the model's folder, which is refused"
    if not location or "\0" in location:
        raise ModelError(f"{where}: it names no external data file")
    parts = location.replace("\\", "/").split("/")
    if parts[0] == "" or ":" in parts[0] or ".." in parts:
        raise ModelError(f"{refusal}; move the file beside the model and save the model again")
    root = os.path.realpath(folder)
    real = os.path.realpath(os.path.join(root, location))
    if os.path.commonpath((root, real)) != root:
        raise ModelError(f"{refusal} (it is a symbolic link); copy the file into the model's folder")
    return real


def _tensors(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every dense tensor of the model with words that say where it is."""
    for graph in graphs(model.graph):
        for tensor in graph.initializer:
            yield f"weight '{tensor.name}'", tensor
        yield from _attribute_tensors(graph.node)
    for function in model.functions:
        yield from _attribute_tensors(function.node)
        for node in function.node:
            for sub in subgraphs(node):
                for graph in graphs(sub, 1):
                    for tensor in graph.initializer:
                        yield f"weight '{tensor.name}' in function '{function.name}'", tensor
                    yield from _attribute_tensors(graph.node)


def _attribute_tensors(nodes: Iterable[NodeProto]) -> Iterator[tuple[str, TensorProto]]:
    for node in nodes:
        for attribute in node.attribute:
            if node.op_type == "TreeEnsemble" and attribute.name == "membership_values":
                continue  # sets, which NaN separates
            where = f"attribute '{attribute.name}' of {describe(node)}"
            if attribute.HasField("t"):
                yield where, attribute.t
            for tensor in attribute.tensors:
                yield where, tensor
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                if sparse.HasField("values"):
                    yield where, sparse.values
                    yield where, sparse.indices


def weight_warnings(model: ModelProto) -> list[str]:
    """A line for each weight that holds NaN or infinite values, but for masks and bounds, which are meant so."""
    warnings = []
    for where, tensor in _tensors(model):
        if tensor.data_type not in _FLOATS or tensor.data_location == TensorProto.EXTERNAL:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype not in (np.float32, np.float64, np.float16):
            values = values.astype(np.float32)
        if np.isfinite(values).all():
            continue
        nans = int(np.isnan(values).sum())
        infinities = int(np.isinf(values).sum())
        mask = np.isin(values, (0, -np.inf)).all() or values.size == 1
        if mask and not nans:
            continue
        warnings.append(f"{where} has {nans} NaN and {infinities} infinite values of {values.size}")
    return warnings


_FLOATS = frozenset(
    number
    for name, number in TensorProto.DataType.items()
    if name in ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16") or name.startswith("FLOAT8E4") or name.startswith("FLOAT8E5")
)

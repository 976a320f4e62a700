"""Reading an ONNX file that may be broken or hostile: every claim is checked before memory is taken for it."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped, unused-ignore]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped, unused-ignore]
from onnx import ModelProto, TensorProto

from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.model.check import check_functions, check_graph, check_nodes
from dlpack.model.old_opsets import OLDEST_OPSET, modernise
from dlpack.model.tensors import MAX_MODEL_BYTES, load_tensors
from dlpack.model.walk import graphs, opset_versions
from dlpack.model.zipmap import unzip

_FOREIGN_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive, perhaps a PyTorch or Keras file: convert it with `dlpack export`"),
    (0, b"\x89HDF", "an HDF5 file, perhaps a Keras model: convert it with `dlpack export`"),
    (4, b"TFL3", "a TensorFlow Lite model: convert it with `dlpack export`"),
    (4, b"ORTM", "an onnxruntime (.ort) model: give the .onnx file it was made from"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the model: run `git lfs pull`"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it first"),
    (0, b"<!", "an HTML page, perhaps a failed download: download the model again"),
    (0, b"<html", "an HTML page, perhaps a failed download: download the model again"),
)


def load_model(path: Path) -> ModelProto:
    """Read and check the ONNX model at `path`, external data included.

    The result holds all weights in memory, has its nodes in topological order and opset 7 or newer.
    Raises UsageError for a file that cannot be read, ModelError for a broken one, UnsupportedError for a newer one.
    """
    path = Path(path)
    model = _parse(_read_file(path), path)
    try:
        _check_header(model)
        load_tensors(model, path)
        unzip(model)
        check_functions(model)
        check_graph(model.graph, set(), 0)
        if opset_versions(model)[""] < OLDEST_OPSET:
            modernise(model)
            check_graph(model.graph, set(), 0)
        check_nodes(model)
    except DlpackError as error:
        message = str(error).replace("\n", "\n  ")
        if str(path) in message:
            raise
        if isinstance(error, UnsupportedError):
            raise UnsupportedError(f"{path}: {message}") from error
        raise type(error)(f"{path}: {message}") from error
    return model


def _read_file(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_MODEL_BYTES:
                raise ModelError(
                    f"{path}: the file has {size} bytes, more than the 2 GiB that an ONNX file can hold; "
                    "store the weights as external data"
                )
            return file.read(size)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: this is a folder; give the .onnx file in it") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None


def _parse(data: bytes, path: Path) -> ModelProto:
    if not data:
        raise ModelError(f"{path}: the file is empty; export or download the model again")
    model = ModelProto()
    try:
        model.ParseFromString(data)
        broken = model.ir_version <= 0 or not model.HasField("graph")
    except DecodeError:
        broken = True
    if not broken:
        if not _text_is_valid(model):
            raise ModelError(f"{path}: the model is damaged: a name in it is not UTF-8; export or download it again")
        return model
    for offset, magic, what in _FOREIGN_MAGIC:
        if data[offset:].startswith(magic):
            raise ModelError(f"{path}: not an ONNX model but {what}")
    raise ModelError(f"{path}: {_parse_failure(data)}")


def _text_is_valid(message: Message) -> bool:
    """Whether all text in the message is UTF-8: protobuf hands out other text as bytes."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            if any(isinstance(text, bytes) for text in (value if field.is_repeated else (value,))):
                return False
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in value if field.is_repeated else (value,):
                if isinstance(part, TensorProto):  # its data is large and no text
                    external = (text for entry in part.external_data for text in (entry.key, entry.value))
                    texts = (part.name, part.doc_string, *external)
                    if any(isinstance(text, bytes) for text in texts):
                        return False
                elif not _text_is_valid(part):
                    return False
    return True


def _parse_failure(data: bytes) -> str:
    """Why `data` is no ONNX model: another format, cut off, or damaged. Walks the outermost protobuf fields."""
    fields = ModelProto.DESCRIPTOR.fields_by_number
    lengths = {0: None, 1: 8, 2: None, 5: 4}
    pos = 0
    seen: set[int] = set()
    while pos < len(data):
        key, pos = _varint(data, pos)
        number, wire = key >> 3, key & 7
        if number not in fields or wire not in lengths:
            return "not an ONNX model, nor in another known format; export it again in the program that made it"
        if wire == 0:
            _, pos = _varint(data, pos)
            size = 0
        else:
            fixed = lengths[wire]
            size, pos = _varint(data, pos) if fixed is None else (fixed, pos)
        if pos + size > len(data):
            return (
                f"the file is cut off: its field '{fields[number].name}' needs {size} bytes, {max(0, len(data) - pos)} "
                "are there; export, copy or download the model again"
            )
        seen.add(number)
        pos += size
    if 7 not in seen:
        return "not an ONNX model: it holds no graph; it may be cut off, so export, copy or download it again"
    if 1 not in seen:
        return "not an ONNX model: it states no IR version"
    return "the model is damaged (its protobuf does not parse, or is nested too deeply); export or download it again"


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    value = shift = 0
    while pos < len(data) and shift < 70:
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, pos
        shift += 7
    return value, len(data) + 1


def _check_header(model: ModelProto) -> None:
    for opset in model.opset_import:
        if opset.domain == "ai.onnx":
            opset.domain = ""
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        if versions.setdefault(opset.domain, opset.version) != opset.version:
            raise ModelError(f"the model imports two opsets of the domain '{opset.domain}'; export it again")
    newest = onnx.defs.onnx_opset_version()
    if model.ir_version > onnx.IR_VERSION:
        raise UnsupportedError(
            f"the model has IR version {model.ir_version}; the installed onnx {onnx.__version__} knows up to "
            f"{onnx.IR_VERSION}: upgrade onnx, or export the model for an older one"
        )
    if "" not in versions:
        if model.ir_version < 3:
            versions[""] = 1
        elif any(node.domain in ("", "ai.onnx") for graph in graphs(model.graph) for node in graph.node):
            raise ModelError("the model does not say which ONNX opset it uses; export it again")
        else:
            versions[""] = newest
        model.opset_import.append(onnx.helper.make_opsetid("", versions[""]))
    for domain, version in versions.items():
        if not 1 <= version < 1 << 31 and domain:
            raise UnsupportedError(f"the model uses opset {version} of the domain '{domain}', which does not exist")
    if versions[""] > newest or versions[""] < 1:
        raise UnsupportedError(
            f"the model uses ONNX opset {versions['']}; the installed onnx {onnx.__version__} knows 1 to {newest}: "
            "upgrade onnx, or export the model with an older opset"
        )

"""MXNet's files: arrays (.params, .nd, every version) and symbols (-symbol.json, every dialect, mxnet.js's file).

The formats, from MXNet's src/ndarray/ndarray.cc and nnvm's pass/saveload_json.cc: a list file is u64 0x112, u64 0,
u64 count, arrays, u64 count, names (u64 length, bytes). An array begins with a magic number: v1 0xF993fac8, v2
0xF993fac9 (adds the storage type), v3 0xF993faca (NumPy shapes: rank 0 is a scalar, -1 nothing); v0 has none, its first
word is the rank and its dimensions have 32 bits. MXNet 2 writes .params as NumPy's archive instead (`archive.py`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import ModelError, UnsupportedError
from dlpack.exporters.base import MAX_TEXT_BYTES, parse_json, read_bytes, read_labels
from dlpack.exporters.builder import Array, NotConverted, Shape
from dlpack.exporters.mxnet.archive import MARKS, read_archive

LIST_MAGIC = struct.pack("<QQ", 0x112, 0)
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
MAX_RANK = 32
MAX_NAME_BYTES = 4096
MAX_NODES = 200_000

DTYPES: dict[int, Any] = {
    0: np.float32, 1: np.float64, 2: np.float16, 3: np.uint8, 4: np.int32, 5: np.int8, 6: np.int64, 7: np.bool_,
    8: np.int16, 9: np.uint16, 10: np.uint32, 11: np.uint64,
}  # fmt: skip
DTYPE_NAMES = {np.dtype(t).name: t for t in DTYPES.values()} | {"bool": np.bool_}


class _Reader:
    """Reads little-endian numbers from a buffer and reports where it ends."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data, self.pos = memoryview(data), 0

    def take(self, count: int, what: str) -> memoryview:
        left = len(self.data) - self.pos
        if count < 0 or count > left:
            raise ModelError(
                f"the weights' file is damaged or cut off: {what} at byte {self.pos:,} needs {count:,} bytes, "
                f"{left:,} are there; copy or download it again"
            )
        self.pos += count
        return self.data[self.pos - count : self.pos]

    def number(self, code: str, what: str) -> int:
        return int(struct.unpack("<" + code, self.take(struct.calcsize(code), what))[0])


def are_arrays(start: bytes) -> bool:
    """Whether a file with this beginning has arrays: MXNet's list, or MXNet 2's archive."""
    return start.startswith((LIST_MAGIC, *MARKS))


def read_arrays(data: bytes) -> dict[str, Array]:
    """The arrays of a .params file by name (including `arg:` and `aux:`); unnamed ones are "0", "1", ..."""
    if data.startswith(MARKS):
        return read_archive(data)
    r = _Reader(data)
    if r.take(16, "the header") != LIST_MAGIC:
        raise ModelError("this is not an MXNet array file: it does not begin with 0x112")
    count = r.number("Q", "the number of arrays")
    if count > len(data) // 8:
        raise ModelError(f"the weights' file claims {count:,} arrays and has only {len(data):,} bytes; it is damaged")
    arrays = [_read_array(r, k) for k in range(count)]
    names_count = r.number("Q", "the number of names")
    if names_count not in (0, count):
        raise ModelError(f"the weights' file has {count} arrays and {names_count} names; it is damaged")
    names = []
    for k in range(names_count):
        length = r.number("Q", f"the length of name {k}")
        if length > MAX_NAME_BYTES:
            raise ModelError(f"name {k} of the weights' file claims {length:,} bytes; it is damaged")
        names.append(bytes(r.take(length, f"name {k}")).decode("utf-8", "replace"))
    if len(set(names)) != len(names):
        raise ModelError("the weights' file has two arrays of the same name")
    return dict(zip(names or map(str, range(count)), arrays, strict=True))


def _read_array(r: _Reader, index: int) -> Array:
    what = f"array {index}"
    magic = r.number("I", what)
    numpy_shape = magic == V3
    if magic in (V2, V3):
        storage = r.number("i", what)
        if storage not in (-1, 0):
            raise UnsupportedError(f"{what} of the weights is sparse (storage type {storage}); save it densely")
    if magic in (V1, V2, V3):
        rank, code = r.number("i", what), "q"
    else:
        rank, code = magic, "I"
    if rank == -1 or (rank == 0 and not numpy_shape):
        return np.zeros((0,), np.float32)  # an array that was never filled: nothing follows
    if not 0 <= rank <= MAX_RANK:
        raise ModelError(f"{what} of the weights claims {rank} dimensions; the file is damaged or not an MXNet one")
    shape = tuple(r.number(code, f"the shape of {what}") for _ in range(rank))
    r.number("i", what)  # the device's kind and number: where it lay does not matter
    r.number("i", what)
    flag = r.number("i", what)
    if flag == 12:
        raise UnsupportedError(f"{what} of the weights is bfloat16, which is not supported; cast it to float32")
    if flag not in DTYPES or any(d < 0 for d in shape):
        raise ModelError(
            f"{what} of the weights has the element type {flag} and the shape {list(shape)}; it is damaged"
        )
    dtype = np.dtype(DTYPES[flag])
    raw = r.take(math.prod(shape) * dtype.itemsize, f"{what}, of shape {list(shape)} and type {dtype},")
    if 0 in shape:
        return np.zeros((0,), dtype)
    if dtype == np.bool_:
        return np.frombuffer(raw, np.uint8).astype(np.bool_).reshape(shape)
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


# --- symbols ----------------------------------------------------------------------------------------------------------


_Int = int  # the class below has methods of these names
_Float = float


@dataclass(frozen=True)
class Attributes:
    """A node's parameters: strings that are parsed as the operator expects."""

    values: Mapping[str, str]

    def __contains__(self, key: str) -> bool:
        return self.values.get(key, "None") not in ("None", "")

    def text(self, key: str, default: str = "") -> str:
        return self.values.get(key, default)

    def _read(self, key: str, kind: Any, what: str) -> Any:
        try:
            return kind(self.values[key].strip().rstrip("Ll" if kind is int else ""))
        except (ValueError, OverflowError):
            raise ModelError(f"its parameter {key}={self.values[key]!r} is not {what}") from None

    def int(self, key: str, default: _Int | None = None) -> _Int:
        if key in self:
            value = self._read(key, lambda t: int(float(t)) if "." in t or "e" in t else int(t), "a whole number")
            if not -(2**62) < value < 2**62:
                raise ModelError(f"its parameter {key}={self.values[key]!r} is out of range")
            return int(value)
        if default is None:
            raise ModelError(f"its parameter {key} is missing")
        return default

    def float(self, key: str, default: _Float | None = None) -> _Float:
        if key in self:
            return _Float(self._read(key, float, "a number"))
        if default is None:
            raise ModelError(f"its parameter {key} is missing")
        return default

    def bool(self, key: str, default: bool = False) -> bool:
        text = self.values.get(key, str(default)).strip().lower()
        if text not in ("true", "false", "1", "0", "none"):
            raise ModelError(f"its parameter {key}={self.values[key]!r} is neither True nor False")
        return text in ("true", "1")

    def items(self, key: str) -> list[str]:
        """The words of a tuple or list, "None" included; a single word counts as one."""
        text = self.values.get(key, "").strip()
        if not re.fullmatch(r"[\[\]()\s,\-+.\w]*", text):
            raise ModelError(f"its parameter {key}={text[:80]!r} is not a list of numbers")
        return re.findall(r"[^\[\]()\s,]+", text) if text != "None" else []

    def ints(self, key: str, default: Shape = ()) -> Shape:
        if key not in self:
            return default
        try:
            values = tuple(int(w.rstrip("L")) for w in self.items(key))
        except ValueError:
            raise ModelError(f"its parameter {key}={self.values[key][:80]!r} is not a list of whole numbers") from None
        if any(not -(2**62) < v < 2**62 for v in values):
            raise ModelError(f"its parameter {key}={self.values[key][:80]!r} is out of range")
        return values

    def optional_ints(self, key: str) -> tuple[_Int | None, ...]:
        try:
            return tuple(None if w == "None" else int(w.rstrip("L")) for w in self.items(key))
        except ValueError:
            raise ModelError(f"its parameter {key}={self.values[key][:80]!r} is not a list of whole numbers") from None

    def floats(self, key: str, default: tuple[_Float, ...] = ()) -> tuple[_Float, ...]:
        if key not in self:
            return default
        try:
            return tuple(float(w) for w in self.items(key))
        except ValueError:
            raise ModelError(f"its parameter {key}={self.values[key][:80]!r} is not a list of numbers") from None

    def dtype(self, key: str, default: Any = np.float32) -> Any:
        """The element type; floating point is always float32."""
        if key not in self:
            return default
        name = self.values[key].strip()
        kind = DTYPE_NAMES.get(name) if not name.isdigit() else DTYPES.get(int(name[:3]))
        if kind is None:
            raise NotConverted(f"the element type {name[:40]!r}")
        return np.float32 if np.dtype(kind).kind == "f" else kind


@dataclass(frozen=True)
class SymbolNode:
    """One node; `inputs` are (node, output) pairs of earlier nodes. A variable's op is "null"."""

    name: str
    op: str
    attrs: Attributes
    inputs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Symbol:
    """A network: nodes in topological order, and its outputs."""

    nodes: tuple[SymbolNode, ...]
    heads: tuple[tuple[int, int], ...]
    version: int


@dataclass(frozen=True)
class FileDigest:
    """A file's size in bytes and its SHA-256, by which the predictor recognises it."""

    bytes: int
    sha256: str


def digest_of(data: bytes) -> FileDigest:
    return FileDigest(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Files:
    """The contents of all of a model's files."""

    symbol: Symbol
    arrays: dict[str, Array] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    mean: Array | None = None
    symbol_file: FileDigest | None = None
    """Of the symbol as text, to the bracket that closes it; None in an mxnet.js file, which has it as an object."""
    params_file: FileDigest | None = None


def looks_like_symbol(start: bytes) -> bool:
    """Whether a file with this beginning may be a symbol: JSON with one of its keys near the front."""
    return start.lstrip()[:1] == b"{" and bool(
        re.search(rb'"(nodes|arg_nodes|heads|node_row_ptr)"\s*:\s*\[', start)
        and re.search(rb'"(op|name|nodes)"', start)
    )


def looks_like_mxnetjs(start: bytes) -> bool:
    """Whether a file with this beginning may be mxnet.js's single JSON."""
    return start.lstrip()[:1] == b"{" and bool(re.search(rb'"(symbol|parambase64|synset|meanimgbase64)"\s*:', start))


def read_symbol(document: Any) -> Symbol:
    """A parsed -symbol.json. Raises ModelError for anything that is not one."""
    if not isinstance(document, dict) or not isinstance(document.get("nodes"), list):
        raise ModelError("the JSON has no list of nodes: this is not an MXNet symbol")
    version = 800
    attrs = document.get("attrs")
    if isinstance(attrs, dict):
        entry = attrs.get("mxnet_version")
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], int):
            version = entry[1]
    if len(document["nodes"]) > MAX_NODES:
        raise ModelError(f"the symbol has more than {MAX_NODES:,} nodes")
    nodes: list[SymbolNode] = []
    for k, entry in enumerate(document["nodes"]):
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("op"), str)
            or not isinstance(entry.get("name"), str)
        ):
            raise ModelError(f"node {k} of the symbol has no op or name; the file is damaged")
        inputs = tuple(_entry(e, k, f"node '{entry['name'][:80]}'") for e in _list(entry.get("inputs", []), "inputs"))
        values: dict[str, str] = {}
        for key in ("attr", "param", "attrs"):  # user attributes, then the old dialect's parameters, then the new one's
            part = entry.get(key) or {}
            if not isinstance(part, dict):
                raise ModelError(f"'{key}' of node '{entry['name'][:80]}' is not an object; the file is damaged")
            values.update({str(n): v if isinstance(v, str) else str(v) for n, v in part.items()})
        nodes.append(SymbolNode(entry["name"], entry["op"], Attributes(values), inputs))
    heads = tuple(_entry(e, len(nodes), "heads") for e in _list(document.get("heads", []), "heads"))
    if not heads:
        raise ModelError("the symbol names no outputs (heads)")
    return Symbol(tuple(nodes), heads, version)


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ModelError(f"'{what}' in the symbol is not a list; the file is damaged")
    return value


def _entry(value: Any, limit: int, where: str) -> tuple[int, int]:
    good = isinstance(value, list) and len(value) in (1, 2, 3) and all(type(v) is int for v in value)
    if not good or not 0 <= value[0] < limit or any(v < 0 for v in value):
        raise ModelError(f"{where}: the entry {str(value)[:60]} does not point to an earlier node; the file is damaged")
    return value[0], value[1] if len(value) > 1 else 0


def read_symbol_file(path: Path) -> Files:
    """A -symbol.json (arrays empty) or an mxnet.js file (arrays, labels and mean within)."""
    data = _json_bytes(path)
    document = parse_json(_decoded(data), "the file")
    if not isinstance(document, dict):
        raise ModelError("the JSON is not an object")
    if "symbol" not in document:
        return Files(read_symbol(document), symbol_file=digest_of(data.rstrip()))
    symbol, symbol_file = document["symbol"], None
    if isinstance(symbol, str):
        symbol_file = digest_of(symbol.encode("utf-8", "surrogatepass").rstrip())
        symbol = parse_json(symbol, "'symbol'")
    params = _base64(document, "parambase64")
    arrays = read_arrays(params)
    synset = document.get("synset")
    labels = None
    if isinstance(synset, str):
        labels = read_labels(synset)
    elif isinstance(synset, list):
        labels = read_labels("\n".join(str(s).replace("\n", " ") for s in synset))
    mean = None
    if document.get("meanimgbase64"):
        means = read_arrays(_base64(document, "meanimgbase64"))
        mean = next(iter(means.values()), None)
    return Files(read_symbol(symbol), arrays, labels, mean, symbol_file, digest_of(params))


def _json_bytes(path: Path) -> bytes:
    limit = MAX_TEXT_BYTES
    with open(path, "rb") as file:
        if looks_like_mxnetjs(file.read(4096)):
            limit = 2 << 30  # the weights are inside
    return read_bytes(path, limit)


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise ModelError(f"the file is not UTF-8 text (byte {e.start:,}); it is damaged") from None


def _base64(document: dict[str, Any], key: str) -> bytes:
    value = document.get(key)
    if not isinstance(value, str):
        raise ModelError(f"the mxnet.js file has no text '{key}'")
    try:
        return base64.b64decode(value, validate=False)
    except (binascii.Error, ValueError) as e:
        raise ModelError(f"'{key}' is not base64: {e}") from None

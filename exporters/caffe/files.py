"""Caffe's files, read without its schema: .prototxt (protobuf's text) and .caffemodel, .binaryproto (its wire format).

Forks of Caffe use the same field numbers for different layers. A network is therefore described by its text file alone,
whose fields are read by name, and from the binary file only the weights are taken, whose numbers never changed:
NetParameter.layer = 100 and .layers = 2 (V1), their names and blobs, and BlobProto.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array

MAX_DEPTH = 24
MAX_TOKENS = 4_000_000
MAX_RANK = 32

_TOKEN = re.compile(
    r"""(?P<space>[\s,;]+|\#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<word>[A-Za-z0-9_.+\-/]+)|(?P<mark>[{}<>:\[\]])""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}


_Int = int  # the class below has methods of these names
_Float = float


@dataclass
class Message:
    """A message of the text format: fields by name, in order; values are words (numbers too) or messages."""

    fields: dict[str, list[str | Message]] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def messages(self, name: str) -> list[Message]:
        values = self.fields.get(name, [])
        if not all(isinstance(v, Message) for v in values):
            raise ModelError(f"'{name}' in the prototxt must be a block in braces")
        return [v for v in values if isinstance(v, Message)]

    def messages_only(self, name: str) -> bool:
        """Whether the field only occurs as blocks (V1's `param` is text, V2's a block)."""
        return all(isinstance(v, Message) for v in self.fields.get(name, []))

    def message(self, name: str) -> Message:
        """The block with this name, or an empty one."""
        found = self.messages(name)
        return found[-1] if found else Message()

    def texts(self, name: str) -> list[str]:
        values = self.fields.get(name, [])
        if not all(isinstance(v, str) for v in values):
            raise ModelError(f"'{name}' in the prototxt must be a value, not a block")
        return [v for v in values if isinstance(v, str)]

    def text(self, name: str, default: str = "") -> str:
        found = self.texts(name)
        return found[-1] if found else default

    def ints(self, name: str) -> list[_Int]:
        try:
            values = [int(v) for v in self.texts(name)]
        except ValueError:
            raise ModelError(f"'{name}: {self.text(name)[:40]}' in the prototxt is not a whole number") from None
        if any(not -(2**62) < v < 2**62 for v in values):
            raise ModelError(f"'{name}: {self.text(name)[:40]}' in the prototxt is out of range")
        return values

    def int(self, name: str, default: _Int = 0) -> _Int:
        found = self.ints(name)
        return found[-1] if found else default

    def floats(self, name: str) -> list[_Float]:
        try:
            return [float(v.rstrip("fF") if v[-1:] in "fF" and v[:-1].strip("-+.0123456789e") == "" else v)
                    for v in self.texts(name)]  # fmt: skip
        except ValueError:
            raise ModelError(f"'{name}: {self.text(name)[:40]}' in the prototxt is not a number") from None

    def float(self, name: str, default: _Float = 0.0) -> _Float:
        found = self.floats(name)
        return found[-1] if found else default

    def bool(self, name: str, default: bool = False) -> bool:
        value = self.text(name, str(default)).lower()
        if value not in ("true", "false", "1", "0", "t", "f"):
            raise ModelError(f"'{name}: {value[:40]}' in the prototxt is neither true nor false")
        return value in ("true", "1", "t")

    def choice(self, name: str, values: tuple[str, ...], first: _Int = 0) -> str:
        """An enumeration's value by name, given as one or as a number counted from `first`; the first by default."""
        value = self.text(name, values[0])
        if value.isdigit() and 0 <= int(value[:3]) - first < len(values):
            return values[int(value[:3]) - first]
        return value


def parse_prototxt(text: str) -> Message:
    """Parses protobuf's text format. Raises ModelError with the line number."""
    root = Message()
    stack: list[tuple[Message, str]] = [(root, "")]
    tokens = _tokens(text)
    pending: tuple[str, str, int] | None = None
    count = 0
    while True:
        kind, value, place = pending or next(tokens, ("end", "", len(text)))
        pending = None
        count += 1
        if count > MAX_TOKENS:
            raise ModelError(f"the prototxt has more than {MAX_TOKENS:,} words")
        if kind == "end":
            break
        message, closing = stack[-1]
        if kind == "mark" and value == closing and closing:
            stack.pop()
            continue
        if kind != "word":
            raise _wrong(text, place, f"a field's name is expected, not {value[:20]!r}")
        name = value
        kind, value, place = next(tokens, ("end", "", len(text)))
        if (kind, value) == ("mark", ":"):
            kind, value, place = next(tokens, ("end", "", len(text)))
        values = message.fields.setdefault(name, [])
        if kind == "mark" and value in "{<":
            if len(stack) > MAX_DEPTH:
                raise _wrong(text, place, f"blocks are nested more than {MAX_DEPTH} deep")
            inner = Message()
            values.append(inner)
            stack.append((inner, "}" if value == "{" else ">"))
        elif kind == "mark" and value == "[":
            for kind, value, place in tokens:
                if (kind, value) == ("mark", "]"):
                    break
                if kind not in ("word", "string"):
                    raise _wrong(text, place, "a list of values is expected")
                values.append(value)
        elif kind == "string":
            pending = next(tokens, ("end", "", len(text)))
            while pending[0] == "string":  # neighbouring strings are one
                value += pending[1]
                pending = next(tokens, ("end", "", len(text)))
            values.append(value)
        elif kind == "word":
            values.append(value)
        else:
            raise _wrong(text, place, f"'{name[:40]}' has no value")
    if len(stack) > 1:
        raise ModelError("the prototxt ends inside a block: a brace is missing, or the file is cut off")
    return root


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _wrong(text, place, f"{text[place]!r} does not belong there")
        place = match.end()
        kind, value = match.lastgroup or "", match.group()
        if kind == "string":
            value = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), value[1:-1])
        if kind != "space":
            yield kind, value, match.start()


def _wrong(text: str, place: int, what: str) -> ModelError:
    return ModelError(f"line {text.count(chr(10), 0, place) + 1} of the prototxt: {what}")


# --- the wire format --------------------------------------------------------------------------------------------------


def wire_fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value): an int, or the bytes of a length-delimited field. Raises ModelError."""
    pos, end = 0, len(data)
    while pos < end:
        key, pos = _varint(data, pos)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, pos = _varint(data, pos)
            yield number, kind, value
            continue
        if kind == 2:
            size, pos = _varint(data, pos)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ModelError(f"the weights' file is damaged (wire type {kind}); copy or download it again")
        if size > end - pos or number == 0:
            raise ModelError(
                f"the weights' file is damaged or cut off: a field needs {size:,} bytes, {end - pos:,} are there; copy "
                "or download it again"
            )
        yield number, kind, data[pos : pos + size]
        pos += size


def _varint(data: memoryview, pos: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if pos >= len(data):
            break
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, pos
    raise ModelError("the weights' file is damaged or cut off; copy or download it again")


def looks_like_caffemodel(start: bytes) -> bool:
    """Whether a file with this beginning may be a .caffemodel: its first field is the net's name, or a layer."""
    if start[:1] == b"\x0a":
        size, pos = start[1:2][0] if len(start) > 1 else 255, 2
        if size > 127 or pos + size > len(start):
            return False
        name, rest = start[pos : pos + size], start[pos + size :]
        printable = all(b >= 32 for b in name)
        return printable and (
            rest[:1] in (b"\x12", b"\x1a", b"\x20", b"\x28", b"") or rest[:2] in (b"\xa2\x06", b"\x42")
        )
    return start[:2] == b"\xa2\x06"


def read_blob(data: memoryview) -> Array:
    """A BlobProto as float32; old ones have four dimensions."""
    old = [0, 0, 0, 0]
    shape: tuple[int, ...] | None = None
    parts: list[Array] = []
    for number, kind, value in wire_fields(data):
        if number in (1, 2, 3, 4) and kind == 0:
            old[number - 1] = value
        elif number == 7 and kind == 2:
            dims: list[int] = []
            for n, k, v in wire_fields(value):
                if n == 1 and k == 0:
                    dims.append(v)
                elif n == 1 and k == 2:
                    pos = 0
                    while pos < len(v) and len(dims) <= MAX_RANK:
                        dim, pos = _varint(v, pos)
                        dims.append(dim)
            shape = tuple(dims)
        elif number in (5, 8) and kind in (1, 2, 5):
            dtype = "<f4" if number == 5 else "<f8"
            if len(value) % int(dtype[2]):
                raise ModelError("a blob of the weights' file is damaged: its data is no whole number of values")
            parts.append(np.frombuffer(value, dtype))
    if shape is None:
        shape = tuple(old) if any(old) else ()
    values = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if len(shape) > MAX_RANK or any(not 0 <= d < 2**40 for d in shape) or math.prod(shape) != values.size:
        raise ModelError(f"a blob of the weights' file claims the shape {list(shape)} and holds {values.size:,} values")
    return values.astype(np.float32, copy=False).reshape(shape if values.size else (0,))


def read_weights(data: bytes) -> dict[str, list[Array]]:
    """A .caffemodel's blobs by layer, of V2 (`layer`) and V1 (`layers`); those without blobs are left out."""
    layers: dict[str, list[Array]] = {}
    for number, kind, value in wire_fields(memoryview(data)):
        if number not in (2, 100) or kind != 2:
            continue
        name_field, blob_field = (4, 6) if number == 2 else (1, 7)
        name, blobs, inner = "", [], None
        for n, k, v in wire_fields(value):
            if n == name_field and k == 2:
                name = bytes(v).decode("utf-8", "replace")
            elif n == blob_field and k == 2:
                blobs.append(read_blob(v))
            elif number == 2 and n == 1 and k == 2:
                inner = v
        if inner is not None:  # V0: a layer within the layer
            for n, k, v in wire_fields(inner):
                if n == 1 and k == 2:
                    name = bytes(v).decode("utf-8", "replace")
                elif n == 50 and k == 2:
                    blobs.append(read_blob(v))
        if blobs:
            layers[name] = blobs
    return layers

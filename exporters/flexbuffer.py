"""FlexBuffers, FlatBuffers' form without a schema: a map of numbers and short texts, as options of operators are.

A value's type and the width of what it refers to are one byte; the last bytes of a buffer are the root's, its type and
its width. Layout: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct

from dlpack.errors import ModelError

MAX_ENTRIES = 1000
MAX_TEXT = 1000
_NULL, _INT, _UINT, _FLOAT, _KEY, _STRING, _INDIRECT_INT, _INDIRECT_UINT, _INDIRECT_FLOAT, _MAP = range(10)
_BOOL = 26
_FORMATS = {
    _INT: {1: "b", 2: "h", 4: "i", 8: "q"},
    _UINT: {1: "B", 2: "H", 4: "I", 8: "Q"},
    _FLOAT: {2: "e", 4: "f", 8: "d"},
}

Value = bool | int | float | str


def read_map(data: bytes) -> dict[str, Value]:
    """The entries of a buffer whose root is a map; other kinds of values than numbers, bools and texts are left out.

    Raises ModelError for one that is damaged. An empty buffer has no entries.
    """
    if not data:
        return {}
    buffer = _Buffer(data)
    width, packed = buffer.size(len(data) - 1, 1), buffer.size(len(data) - 2, 1)
    if width not in _FORMATS[_UINT] or packed >> 2 != _MAP:
        raise ModelError(f"its options are not a map but hold the type {packed >> 2}")
    place, wide = buffer.target(len(data) - 2 - width, width), 1 << (packed & 3)
    size = buffer.size(place - wide, wide)
    if size > MAX_ENTRIES:
        raise ModelError(f"its options have {size:,} entries")
    keys = buffer.target(place - 3 * wide, wide)
    keys_wide = buffer.size(place - 2 * wide, wide)
    if keys_wide not in _FORMATS[_UINT]:
        raise ModelError("its options are damaged")
    found: dict[str, Value] = {}
    for k in range(size):
        name = buffer.text(buffer.target(keys + k * keys_wide, keys_wide))
        value = buffer.value(place + k * wide, wide, buffer.size(place + size * wide + k, 1))
        if value is not None:
            found[name] = value
    return found


class _Buffer:
    """The bytes; reads outside of them raise ModelError."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def number(self, kind: int, place: int, width: int) -> int | float:
        form = _FORMATS[kind].get(width)
        if form is None or place < 0 or place + width > len(self.data):
            raise ModelError("its options are damaged or cut off")
        found: int | float = struct.unpack_from(f"<{form}", self.data, place)[0]
        return found

    def size(self, place: int, width: int) -> int:
        return int(self.number(_UINT, place, width))

    def target(self, place: int, width: int) -> int:
        """Where the offset at `place` points to: offsets count backwards."""
        return place - self.size(place, width)

    def text(self, place: int) -> str:
        end = self.data.find(b"\0", place, place + MAX_TEXT) if place >= 0 else -1
        if end < 0:
            raise ModelError("its options are damaged: a name does not end")
        return self.data[place:end].decode("utf-8", "replace")

    def value(self, place: int, width: int, packed: int) -> Value | None:
        kind, inner = packed >> 2, 1 << (packed & 3)
        if kind == _BOOL:
            return bool(self.number(_UINT, place, width))
        if kind in (_INT, _UINT, _FLOAT):
            return self.number(kind, place, width)
        if kind in (_INDIRECT_INT, _INDIRECT_UINT, _INDIRECT_FLOAT):
            return self.number(kind - _INDIRECT_INT + _INT, self.target(place, width), inner)
        return self.text(self.target(place, width)) if kind in (_KEY, _STRING) else None

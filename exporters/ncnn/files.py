"""ncnn's files: the text of a .param, and the weights of a .bin in the order of the layers.

Layout: docs/developer-guide/param-and-model-file-structure.md of Tencent/ncnn.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array

MAGIC = "7767517"
MAX_LAYERS = 100_000
MAX_NUMBER = 1 << 30
NONE = -233
"""What stands for "not given"."""
_ARRAYS = -23300
_HALF, _BRAIN, _INT8, _RAW = 0x01306B47, 0x01348B83, 0x000D4B38, 0x0002C056


_Int = int  # the class below has methods of these names
_Float = float


@dataclass
class Line:
    """One layer: its type, name, blobs, and parameters by number; a missing one has ncnn's default."""

    type: str
    name: str
    inputs: list[str]
    outputs: list[str]
    numbers: dict[_Int, str] = field(default_factory=dict)

    def __contains__(self, key: _Int) -> bool:
        return key in self.numbers

    def int(self, key: _Int, default: _Int = 0) -> _Int:
        """A whole number of at most 2^30. Raises ModelError."""
        value = self.float(key, default)
        if not math.isfinite(value) or abs(value) > MAX_NUMBER:
            raise ModelError(f"its parameter {key}={self.numbers[key][:20]} is out of range")
        return int(value)

    def float(self, key: _Int, default: _Float = 0.0) -> _Float:
        text = self.numbers.get(key)
        try:
            return default if text is None else float(text)
        except ValueError:
            raise ModelError(f"its parameter {key}={text!r:.40} is not a number") from None

    def floats(self, key: _Int) -> list[_Float]:
        """An array; empty without it."""
        try:
            return [float(part) for part in self.numbers.get(key, "").split(",") if part]
        except ValueError:
            raise ModelError(f"its parameter {key}={self.numbers[key]!r:.40} is not a list of numbers") from None

    def ints(self, key: _Int) -> list[_Int]:
        values = self.floats(key)
        if not all(abs(v) <= MAX_NUMBER for v in values):
            raise ModelError(f"its parameter {key}={self.numbers[key][:40]} is out of range")
        return [int(v) for v in values]


def parse_param(text: str) -> list[Line]:
    """The layers of a .param. Raises ModelError."""
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if row]
    if len(rows) < 3 or rows[0] != [MAGIC] or len(rows) > MAX_LAYERS:
        raise ModelError(f"it has {len(rows)} lines, and must have the number {MAGIC}, the counts, and a layer or more")
    if not re.fullmatch(r"\d+ \d+", " ".join(rows[1])):
        raise ModelError("its second line is not the numbers of layers and blobs")
    if int(rows[1][0][:12]) != len(rows) - 2:
        raise ModelError(f"it announces {rows[1][0][:12]} layers and has {len(rows) - 2}; it may be cut off")
    return [_line(row) for row in rows[2:]]


def _line(row: list[str]) -> Line:
    where = " ".join(row[:2])[:60]
    if len(row) < 4 or not re.fullmatch(r"\d{1,5} \d{1,5}", f"{row[2]} {row[3]}"):
        raise ModelError(f"the layer '{where}' does not say how many blobs it reads and writes")
    inputs, outputs = int(row[2]), int(row[3])
    begin = 4 + inputs + outputs
    if len(row) < begin:
        raise ModelError(f"the layer '{where}' has fewer blobs than it says")
    line = Line(row[0], row[1], row[4 : 4 + inputs], row[4 + inputs : begin])
    for part in row[begin:]:
        key, found, value = part.partition("=")
        if not found or not re.fullmatch(r"-?\d{1,6}", key):
            raise ModelError(f"the layer '{where}' has the parameter {part[:40]!r}, which is not number=value")
        number = int(key)
        if number <= _ARRAYS:  # the array's length comes first
            number, value = _ARRAYS - number, value.partition(",")[2]
        line.numbers[number] = value
    return line


class Weights:
    """The numbers of a .bin, taken from its front."""

    def __init__(self, data: bytes) -> None:
        self._data, self._next = data, 0

    @property
    def left(self) -> int:
        """How many bytes no layer has taken."""
        return len(self._data) - self._next

    def _bytes(self, count: int) -> bytes:
        """The next bytes; what follows them begins at a multiple of four."""
        if count > self.left:
            raise ModelError(
                f"its weights need {count:,} bytes, and the .bin has {self.left:,} left: it is cut off, or not that of "
                "this .param"
            )
        start = self._next
        self._next = min(start + count + -count % 4, len(self._data))
        return self._data[start : start + count]

    def plain(self, count: int) -> Array:
        """`count` float32s, stored as they are."""
        if not 0 < count <= MAX_NUMBER:
            raise ModelError(f"its weights are {count} numbers")
        return np.frombuffer(self._bytes(4 * count), "<f4")

    def tagged(self, count: int) -> Array:
        """`count` numbers behind a tag of how they are stored; int8 ones stay int8, the others become float32."""
        if not 0 < count <= MAX_NUMBER:
            raise ModelError(f"its weights are {count} numbers")
        tag = int.from_bytes(self._bytes(4), "little")
        if tag in (0, _RAW):
            return self.plain(count)
        if tag == _HALF:
            return np.frombuffer(self._bytes(2 * count), "<f2").astype(np.float32)
        if tag == _BRAIN:
            return (np.frombuffer(self._bytes(2 * count), "<u2").astype(np.uint32) << 16).view(np.float32)
        if tag == _INT8:
            return np.frombuffer(self._bytes(count), np.int8)
        table = np.frombuffer(self._bytes(1024), "<f4")
        return table[np.frombuffer(self._bytes(count), np.uint8)]

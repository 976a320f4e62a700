"""Darknet's files: the sections of a .cfg, and the numbers of a .weights in the order of the layers."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, Shape

MAX_SECTIONS = 10_000
MAX_OPTION = 1 << 24


_Int = int  # the class below has methods of these names
_Float = float


@dataclass
class Section:
    """``[kind]`` and the options below it; a missing option has Darknet's default."""

    kind: str
    line: int
    options: dict[str, str] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.options

    def text(self, key: str, default: str = "") -> str:
        return self.options.get(key, default)

    def int(self, key: str, default: _Int = 0) -> _Int:
        """A whole number of at most 2^24. Raises ModelError."""
        value = self.float(key, default)
        if not math.isfinite(value) or abs(value) > MAX_OPTION:
            raise ModelError(f"{key}={self.text(key)[:20]} is out of range")
        return int(value)

    def float(self, key: str, default: _Float = 0.0) -> _Float:
        text = self.options.get(key)
        try:
            return default if text is None else float(text)
        except ValueError:
            raise ModelError(f"{key}={text!r:.40} is not a number") from None

    def floats(self, key: str) -> list[_Float]:
        """Numbers between commas; empty without the option."""
        parts = [part for part in self.text(key).split(",") if part]
        try:
            return [float(part) for part in parts]
        except ValueError:
            raise ModelError(f"{key}={self.text(key)[:40]!r} is not a list of numbers") from None

    def ints(self, key: str) -> list[_Int]:
        values = self.floats(key)
        if not all(abs(v) <= MAX_OPTION for v in values):
            raise ModelError(f"{key}={self.text(key)[:40]} is out of range")
        return [int(v) for v in values]

    def refuse(self, *keys: str) -> str | None:
        """The first of these options that is set to other than zero, as text."""
        return next((f"{k}={self.text(k)[:20]}" for k in keys if self.text(k, "0") not in ("0", "0.0", "none")), None)


def parse_cfg(text: str) -> list[Section]:
    """The sections of a .cfg. Raises ModelError."""
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = "".join(raw.split())  # Darknet drops every space
        if not line or line[0] in "#;\0":
            continue
        if line[0] == "[":
            sections.append(Section(line.strip("[]").lower(), number))
        elif "=" not in line or not sections:
            raise ModelError(f"line {number} is neither [section] nor option=value: {line[:40]!r}")
        else:
            key, value = line.split("=", 1)
            sections[-1].options[key] = value.split("#")[0]
        if len(sections) > MAX_SECTIONS:
            raise ModelError(f"more than {MAX_SECTIONS:,} sections")
    if not sections or sections[0].kind not in ("net", "network"):
        raise ModelError("it does not begin with the section [net]")
    if len(sections) == 1:
        raise ModelError("it has no layers")
    return sections


def is_weights(start: bytes) -> bool:
    """Whether a file may begin so: three small whole numbers (the version), then how many pictures were trained."""
    return len(start) >= 16 and all(v < 2000 for v in struct.unpack_from("<3I", start))


class Weights:
    """The numbers of a .weights file, taken from its front."""

    def __init__(self, data: bytes) -> None:
        if not is_weights(data):
            raise ModelError("the weights do not begin with Darknet's version; the file is damaged or not Darknet's")
        major, minor, _ = struct.unpack_from("<3i", data)
        self.transposed = major > 1000 or minor > 1000
        start = 12 + (8 if major * 10 + minor >= 2 and not self.transposed else 4)
        self._numbers = np.frombuffer(data[start : len(data) - (len(data) - start) % 4], "<f4")
        self._next = 0

    @property
    def left(self) -> int:
        """How many numbers no layer has taken."""
        return int(self._numbers.size - self._next)

    def take(self, shape: Shape) -> Array:
        """The next numbers. Raises ModelError if so many are not there."""
        count = math.prod(shape)
        if not 0 < count <= self.left:
            raise ModelError(
                f"it needs {count:,} numbers, and the weights' file has {self.left:,} left: it is cut off, or not that "
                "of this .cfg"
            )
        self._next += count
        return self._numbers[self._next - count : self._next].reshape(shape)

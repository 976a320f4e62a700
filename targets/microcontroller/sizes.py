"""What a predictor takes of flash and RAM: read from a program linked of it, and from what the compiler says of stacks.

Flash is what the linker keeps of a program that creates, fills, runs and reads one predictor, the compiler's own
functions (floats in software, memcpy) included.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.amalgamate.written import HANDLE_WORDS
from dlpack.errors import ToolchainError, UsageError
from dlpack.meaning.shape_sets import shown_sets
from dlpack.targets.base import Manifest

_ALLOC, _WRITE, _EXEC = 2, 1, 4
_NOBITS = 8


@dataclass(frozen=True)
class Flash:
    """Bytes in flash: machine code, constants beside the weights, the weights."""

    code: int
    constants: int
    weights: int

    @property
    def total(self) -> int:
        return self.code + self.constants + self.weights


@dataclass(frozen=True)
class Ram:
    """Bytes in RAM: the arena, the predictor's copies of inputs and outputs, the handle with what aligns it, and at
    most this much stack."""

    arena: int
    tensors: int
    handle: int
    stack: int

    @property
    def total(self) -> int:
        return self.arena + self.tensors + self.handle + self.stack


def read_flash(program: Path, weights: int) -> Flash:
    """What a linked 32-bit program has in flash; `weights` bytes of its constants are weights.

    Raises ToolchainError where it has writable data, which the emitted file has not.
    """
    data = program.read_bytes()
    if data[:5] != b"\x7fELF\x01":
        raise ToolchainError(f"{program} is no 32-bit program")
    at, size, count = struct.unpack_from("<I", data, 32)[0], *struct.unpack_from("<HH", data, 46)
    code = constants = 0
    for k in range(count):
        _, kind, flags, _, _, nbytes = struct.unpack_from("<6I", data, at + k * size)
        if not flags & _ALLOC:
            continue
        if flags & _WRITE or kind == _NOBITS:
            raise ToolchainError(f"{program} has {nbytes} bytes of writable data")
        code += nbytes if flags & _EXEC else 0
        constants += 0 if flags & _EXEC else nbytes
    return Flash(code, constants - weights, weights)


def read_stack(usage: Path, name: str) -> int:
    """The most bytes of stack that a run takes, by the compiler's list of frames (-fstack-usage).

    Nothing here recurses, so each function's frame is there once at most; of the API one function is.
    """
    api = internal = 0
    for line in usage.read_text(encoding="utf-8").splitlines():
        function, size, *_ = line.split("\t")
        if re.search(rf"\b{re.escape(name)}_\w+$", function.partition("(")[0]):  # of the API
            api = max(api, int(size))
        else:
            internal += int(size)
    return api + internal


def predictor_ram(manifest: Manifest, stack: int, bind: bool) -> Ram:
    """What the emitted file lays out in a predictor's memory on a 32-bit machine: NAME_MEMORY_BYTES, and the stack."""
    sets = list(shown_sets(manifest).values())
    rooms = [max(map(_nbytes, same)) for kind in _KINDS for same in zip(*(s[kind] for s in sets), strict=True)]
    words = len(rooms) + HANDLE_WORDS + ("weights" in manifest) + (len(sets) > 1) + ("open" in manifest)
    tensors = 0 if bind else sum(map(_round_up, rooms))
    return Ram(manifest["arena"]["bytes"] + manifest["prepared_bytes"], tensors, _round_up(4 * words) + 64, stack)


_KINDS = ("inputs", "outputs")


def _nbytes(tensor: Mapping[str, Any]) -> int:
    elements: int = math.prod(tensor["shape"])
    return elements * int(np.dtype(tensor["dtype"]).itemsize)


def _round_up(nbytes: int) -> int:
    return -(-nbytes // 64) * 64


def parse_size(option: str, text: str) -> int:
    """Bytes, from 65536, 64K or 1M. Raises UsageError."""
    match = re.fullmatch(r"(\d+)([KkMm]?)(i?B)?", text)
    if match is None:
        raise UsageError(f"--{option} {text!r}: write it in bytes, or as 64K or 1M")
    return int(match[1]) << {"": 0, "K": 10, "M": 20}[match[2].upper()]

"""The model as a side module of Pyodide: code that the interpreter loads into its own memory, through ctypes.

Inputs are read where they are; outputs are views of the memory in which the model works.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from importlib.resources import as_file
from importlib.resources.abc import Traversable
from typing import Any

from .module import choose_build


def open_side_module(folder: Traversable, name: str, builds: Mapping[str, Any], build: str | None) -> SideModule:
    """The side module of a folder, of the given build or of the fastest that runs here."""
    from js import WebAssembly
    from pyodide.ffi import to_js

    build = build or choose_build(builds, lambda code: bool(WebAssembly.validate(to_js(code))))
    with as_file(folder.joinpath(builds[build]["file"])) as path:
        return SideModule(str(path), name)


class SideModule:
    """See `module.Module`. Every argument and result of the functions called is a 32-bit integer."""

    shares_memory = True

    def __init__(self, path: str, name: str) -> None:
        self._library = ctypes.CDLL(path)
        self._name = name
        self._blocks: list[tuple[int, memoryview]] = []
        self._slots: dict[str, object] = {}

    def call(self, function: str, *arguments: int) -> int:
        f = getattr(self._library, f"{self._name}_{function}")
        f.restype = ctypes.c_uint32
        return int(f(*map(ctypes.c_uint32, arguments)))

    def text(self, address: int) -> str:
        return ctypes.string_at(address).decode()

    def reserve(self, size: int) -> int:
        block = memoryview(bytearray(size + 63))
        start = ctypes.addressof(ctypes.c_char.from_buffer(block))
        at = (start + 63) // 64 * 64
        self._blocks.append((at, block[at - start : at - start + size]))
        return at

    def write(self, address: int, data: bytes | memoryview) -> None:
        self.read(address, len(data))[:] = data

    def read(self, address: int, size: int) -> memoryview:
        for at, block in self._blocks:
            if at <= address and address + size <= at + len(block):
                return block[address - at : address - at + size]
        raise ValueError(f"{size} bytes at {address} are no memory of the model's")

    def place(self, slot: str, data: memoryview, alignment: int) -> int:
        if not data.readonly:
            first = ctypes.c_char.from_buffer(data)  # keeps the data where it is
            if ctypes.addressof(first) % alignment == 0:
                self._slots[slot] = first
                return ctypes.addressof(first)
        copy = memoryview(bytearray(data.nbytes + alignment))
        first = ctypes.c_char.from_buffer(copy)
        gap = -ctypes.addressof(first) % alignment
        copy[gap : gap + data.nbytes] = data
        self._slots[slot] = first
        return ctypes.addressof(first) + gap

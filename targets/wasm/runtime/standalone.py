"""The model as a WebAssembly module with a memory of its own: in Pyodide through JavaScript, in CPython in wasmtime.

Inputs are copied in and outputs out.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import Any

from .module import choose_build

_PAGE = 65536


def open_standalone(folder: Traversable, name: str, builds: Mapping[str, Any], build: str | None) -> Standalone:
    """The module of a folder, of the given build or of the fastest that runs here."""
    if sys.platform == "emscripten":
        from js import WebAssembly
        from pyodide.ffi import to_js

        build = build or choose_build(builds, lambda code: bool(WebAssembly.validate(to_js(code))))
        return _InJavaScript(folder.joinpath(builds[build]["file"]).read_bytes(), name)
    build = build or next(b for b in ("relaxed", "simd") if b in builds)  # wasmtime knows both
    return _InWasmtime(folder.joinpath(builds[build]["file"]).read_bytes(), name)


class Standalone(ABC):
    """What the two ways have in common; see `module.Module`. Memory is taken from the heap's base upwards."""

    shares_memory = False

    def __init__(self, heap_base: int) -> None:
        self._end = heap_base
        self._slots: dict[str, tuple[int, int]] = {}

    @abstractmethod
    def call(self, function: str, *arguments: int) -> int: ...

    @abstractmethod
    def write(self, address: int, data: bytes | memoryview) -> None: ...

    @abstractmethod
    def read(self, address: int, size: int) -> memoryview: ...

    @abstractmethod
    def _size(self) -> int: ...

    @abstractmethod
    def _grow(self, pages: int) -> None: ...

    def text(self, address: int) -> str:
        return bytes(self.read(address, min(1024, self._size() - address))).split(b"\0", 1)[0].decode()

    def reserve(self, size: int) -> int:
        at = (self._end + 63) // 64 * 64
        missing = at + size - self._size()
        if missing > 0:
            try:
                self._grow(-(-missing // _PAGE))
            except Exception as e:
                raise MemoryError(f"the model needs {(at + size) / 1e6:.0f} MB of memory; there is less") from e
        self._end = at + size
        return at

    def place(self, slot: str, data: memoryview, alignment: int) -> int:  # noqa: ARG002 - what is reserved is aligned
        at, size = self._slots.get(slot, (0, 0))
        if data.nbytes > size:
            size = max(data.nbytes, 2 * size)  # what it had is lost, so it doubles
            at = self.reserve(size)
            self._slots[slot] = at, size
        self.write(at, data)
        return at


class _InJavaScript(Standalone):
    def __init__(self, code: bytes, name: str) -> None:
        from js import Uint8Array, WebAssembly
        from pyodide.ffi import to_js

        instance = WebAssembly.Instance.new(WebAssembly.Module.new(to_js(code)))
        self._exports, self._memory, self._bytes, self._name = (
            instance.exports,
            instance.exports.memory,
            Uint8Array,
            name,
        )
        super().__init__(getattr(self._exports, "__heap_base").value)

    def call(self, function: str, *arguments: int) -> int:
        return int(getattr(self._exports, f"{self._name}_{function}")(*arguments)) & 0xFFFFFFFF

    def write(self, address: int, data: bytes | memoryview) -> None:
        self._bytes.new(self._memory.buffer, address, len(data)).assign(data)

    def read(self, address: int, size: int) -> memoryview:
        data = bytearray(size)
        self._bytes.new(self._memory.buffer, address, size).assign_to(data)
        return memoryview(data)

    def _size(self) -> int:
        return int(self._memory.buffer.byteLength)

    def _grow(self, pages: int) -> None:
        self._memory.grow(pages)


class _InWasmtime(Standalone):
    def __init__(self, code: bytes, name: str) -> None:
        import wasmtime

        if sys.byteorder != "little":
            raise RuntimeError("WebAssembly's memory is little-endian, and this computer's is not")
        config = wasmtime.Config()
        config.wasm_relaxed_simd = True
        self._store = wasmtime.Store(wasmtime.Engine(config))
        module = wasmtime.Module(self._store.engine, code)
        self._exports: Any = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._memory, self._name = self._exports["memory"], name
        super().__init__(self._exports["__heap_base"].value(self._store))

    def call(self, function: str, *arguments: int) -> int:
        return int(self._exports[f"{self._name}_{function}"](self._store, *arguments)) & 0xFFFFFFFF

    def write(self, address: int, data: bytes | memoryview) -> None:
        self._memory.write(self._store, bytearray(data), address)

    def read(self, address: int, size: int) -> memoryview:
        return memoryview(self._memory.read(self._store, address, address + size))

    def _size(self) -> int:
        return int(self._memory.data_len(self._store))

    def _grow(self, pages: int) -> None:
        self._memory.grow(self._store, pages)

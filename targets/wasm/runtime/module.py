"""What the predictor asks of a compiled model's code and memory, and which builds of it a place can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

# WebAssembly modules of one function that uses v128.const, and f32x4.relaxed_madd on three of them.
_V128 = bytes([0xFD, 12]) + bytes(16)
_PROBES = {"relaxed": 3 * _V128 + bytes([0xFD, 0x85, 2]), "simd": _V128}
_HEAD = b"\0asm\1\0\0\0" + bytes([1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0])


class Module(Protocol):
    """A compiled model in its memory. Addresses and sizes are bytes of that memory."""

    shares_memory: bool
    """Whether `read` gives views of memory that the model goes on to write."""

    def call(self, function: str, *arguments: int) -> int:
        """Calls a function of the C API by its name without the model's; gives an unsigned 32-bit integer."""

    def text(self, address: int) -> str:
        """The C string at an address."""

    def reserve(self, size: int) -> int:
        """The address of new memory, a multiple of 64; raises MemoryError."""

    def write(self, address: int, data: bytes) -> None:
        """Copies `data` to an address in reserved memory."""

    def read(self, address: int, size: int) -> memoryview:
        """The bytes at an address in reserved memory: a writable view or a copy of them."""

    def place(self, slot: str, data: memoryview, alignment: int) -> int:
        """The address of `data` itself or of a copy; it holds until the next data are placed in the same slot."""


def choose_build(builds: Mapping[str, Any], validate: Callable[[bytes], bool]) -> str:
    """The fastest build for which `validate` accepts the instructions; raises RuntimeError where there is none."""
    for build, code in _PROBES.items():
        body = bytes([0, *code, 0x1A, 0x0B])  # no locals; drop; end
        if build in builds and validate(_HEAD + bytes([10, len(body) + 2, 1, len(body)]) + body):
            return build
    raise RuntimeError("this place cannot run the model: its WebAssembly has no SIMD; use a newer browser or node")

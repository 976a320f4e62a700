"""What the predictor asks of a compiled model's code and memory, and which builds of it a place can run."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any, Protocol

_CHUNK = 4 << 20

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


def memory_bytes_for(module: Module, manifest: Mapping[str, Any], largest: Mapping[str, Sequence[int]]) -> int:
    """The bytes of a predictor for inputs of no more than the shapes in `largest`; without any, of all.

    Raises ValueError for a model without open sizes, an unknown input, and a shape that it cannot have.
    """
    if not largest:
        return module.call("memory_size")
    if "open" not in manifest:
        raise ValueError(f"{manifest['name']} has no open sizes: it takes as much memory for any of its shapes")
    names, sizes = [t["name"] for t in manifest["inputs"]], []
    for name, shape in largest.items():
        if name not in names:
            raise ValueError(f"unknown input {name!r}; the model has {', '.join(names)}")
        at = module.reserve(8 * len(shape))
        module.write(at, struct.pack(f"<{len(shape)}q", *shape))
        sizes.append(module.call("memory_size_for", names.index(name), at, len(shape)))
        if not sizes[-1]:
            raise ValueError(f"input {name!r} cannot have the shape {'x'.join(map(str, shape))}")
    return max(sizes)


def read_weights(file: Traversable, about: Mapping[str, Any], module: Module, at: int) -> None:
    """Reads the weights to an address; raises OSError where they are not those that the model was built with."""
    digest, done = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(min(_CHUNK, about["bytes"] + 1 - done)):
            if done + len(chunk) <= about["bytes"]:
                module.write(at + done, chunk)
            digest.update(chunk)
            done += len(chunk)
    if done != about["bytes"] or digest.hexdigest() != about["sha256"]:
        raise OSError(f"{about['file']} is damaged: it differs from the one in manifest.json; install it again")

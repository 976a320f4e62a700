"""Predictors in memory of exactly the bytes that `NAME_memory_size_for` gives for some shapes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from conftest import requires_tool
from emitted_files import SANITIZE, STRICT, run

OK, BAD_ARGUMENT, NO_MEMORY = 0, 1, 2


class Native:
    """The C functions of a bundle."""

    def __init__(self, bundle: Path) -> None:
        (path,) = bundle.glob("lib*.so")
        self.name = path.stem.removeprefix("lib")
        self.library = ctypes.CDLL(str(path))
        for function in ("memory_size", "memory_size_for", "shared_memory_size", "shared_memory_size_for"):
            self[function].restype = ctypes.c_size_t
        self["output_data"].restype = ctypes.c_void_p
        self["output_of"].restype = ctypes.POINTER(ctypes.c_size_t * 5)

    def __getitem__(self, function: str) -> Callable[..., int]:
        called: Callable[..., int] = getattr(self.library, f"{self.name}_{function}")
        return called

    def of_shape(self, function: str, *shape: int, handle: tuple[ctypes.c_void_p, ...] = ()) -> int:
        """What a function returns that takes the shape of input 0."""
        return self[function](*handle, 0, (ctypes.c_int64 * len(shape))(*shape), len(shape))

    def create(self, memory: np.ndarray, handle: ctypes.c_void_p) -> int:
        at, size = ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.nbytes)
        return self["create"](ctypes.byref(handle), at, size, None, ctypes.c_size_t(0))

    def outputs(self, handle: ctypes.c_void_p, inputs: Sequence[np.ndarray]) -> list[bytes]:
        """The outputs' bytes for these inputs, in the current set of shapes."""
        for k, x in enumerate(inputs):
            data, size = x.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(x.nbytes)
            assert self["set_input"](handle, k, data, size) == OK
        assert self["run"](handle) == OK
        return [
            ctypes.string_at(self["output_data"](handle, k), self["output_of"](handle, k).contents[4])  # type: ignore[attr-defined]
            for k in range(self["output_count"]())
        ]


def check(
    native: Native, shapes: Sequence[tuple[int, ...]], question: Callable[..., dict[str, np.ndarray]]
) -> list[int]:
    """In memory of exactly the bytes for a shape a predictor takes that shape, and those of which the functions say
    that they need no more, with the bits that one with memory for all has; others are refused, and nothing changes.

    Gives the bytes for the shapes, of which the first needs the least and the last the most. `question` makes inputs of
    a shape's numbers.
    """
    whole = ctypes.c_void_p()
    memory = np.empty(native["memory_size"](), np.uint8)
    assert native.create(memory, whole) == OK
    sizes = {shape: native.of_shape("memory_size_for", *shape) for shape in shapes}
    bits = {}
    for shape in reversed(shapes):
        assert native.of_shape("reshape", *shape, handle=(whole,)) == OK
        bits[shape] = native.outputs(whole, list(question(*shape).values()))
    for k, (shape, nbytes) in enumerate(sizes.items()):
        around = np.full(nbytes + 128, 0xA5, np.uint8)
        begin = -around.ctypes.data % 64 + k * 7 % 64  # at any address
        handle = ctypes.c_void_p()
        assert native.create(around[begin : begin + nbytes], handle) == OK
        for other, needed in sizes.items():
            before = native["shape"](handle)
            status = native.of_shape("reshape", *other, handle=(handle,))
            assert status == (OK if needed <= nbytes else NO_MEMORY), (shape, other)
            if status == OK:
                assert native.outputs(handle, list(question(*other).values())) == bits[other], (shape, other)
            else:
                assert native["shape"](handle) == before
        assert (around[:begin] == 0xA5).all() and (around[begin + nbytes :] == 0xA5).all()
        native["destroy"](handle)
    native["destroy"](whole)
    assert native.create(np.empty(sizes[shapes[0]] - 1, np.uint8), handle) == NO_MEMORY
    return list(sizes.values())


PROGRAM = """\
#define main selftest
#include "NAME.cc"
#undef main
int main() {
  constexpr int32_t rank = RANK;
  constexpr int64_t shapes[][rank] = {SHAPES};
  for (const auto& shape : shapes) {
    NAME_predictor* p = nullptr;
    if (NAME_create(&p, nullptr, NAME_memory_size_for(0, shape, rank), nullptr, 0) != MACRO_OK) return 1;
    if (NAME_reshape(p, 0, shape, rank) != MACRO_OK || NAME_run(p) != MACRO_OK) return 2;
    if (NAME_set_shape(p, 0) != MACRO_OK || NAME_run(p) != MACRO_OK) return 3;
    NAME_destroy(p);
  }
  char name[] = "selftest";
  char* words[] = {name, nullptr};
  return selftest(1, words);
}
"""


def selftest_with_checks(source: Path, folder: Path, shapes: Sequence[Sequence[int]]) -> None:
    """Runs of these shapes of input 0, each in memory of no more bytes than it needs, and the self-test pass with the
    checks of g++ for memory and undefined behaviour."""
    rows = ", ".join(f"{{{', '.join(map(str, shape))}}}" for shape in shapes)
    text = PROGRAM.replace("SHAPES", rows).replace("RANK", str(len(shapes[0])))
    (folder / "main.cc").write_text(text.replace("NAME", source.stem).replace("MACRO", source.stem.upper()))
    flags = ["-std=c++17", "-O1", f"-D{source.stem.upper()}_SELFTEST", *SANITIZE, *STRICT, "-Wno-psabi", "-pthread"]
    run(requires_tool("g++"), *flags, f"-I{source.parent}", folder / "main.cc", "-o", folder / "selftest")
    run(folder / "selftest")

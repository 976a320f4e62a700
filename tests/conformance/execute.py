"""Runs a compiled batch: LIBRARY JOBS SECONDS. Prints a line of JSON per job: "" or what is wrong with its outputs.

A job that dies takes this process along, and the number of lines tells which it was.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - lets numpy know bfloat16 by its name
import numpy as np

from conformance.differences import difference
from dlpack.bundle.texts import encoded, is_text

GUARD = 256
FILL = 0xFF  # NaN, -1 or "true": no value that an uninitialised read gets right by luck
_PROT_NONE = 0
_NO_SEED = np.zeros(1, np.int64)
"""For the input `seed` that a model with random operators gets, and no test gives."""


class Memory:
    """A block that ends at a page that nobody may touch, with filling around it that tells of writes outside."""

    def __init__(self, nbytes: int, alignment: int = 64) -> None:
        """Aligned to `alignment` bytes and, where that can be, no better."""
        pages = -(-(nbytes + GUARD + alignment) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._map = mmap.mmap(-1, pages + mmap.PAGESIZE)
        block = np.frombuffer(self._map, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(block.ctypes.data + pages), ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
        block[:pages] = FILL
        start = (pages - nbytes) // alignment * alignment
        self._before, self.bytes, self._behind = np.split(block[:pages], [start, start + nbytes])

    @property
    def address(self) -> int:
        return int(self.bytes.ctypes.data)

    @property
    def intact(self) -> bool:
        return bool((self._before == FILL).all() and (self._behind == FILL).all())


def run_job(library: ctypes.CDLL, job: dict[str, Any]) -> str:
    weights = Memory(len(job["weights"]))
    weights.bytes[:] = np.frombuffer(job["weights"], np.uint8)
    for inputs, expected in job["data"]:
        problem = _run_once(getattr(library, job["entry"]), job, weights, inputs, expected)
        if problem:
            return problem
    return ""


def _alignment(dtype: str) -> int:
    return 1 if is_text(dtype) else np.dtype(dtype).itemsize


def _run_once(
    entry: Any, job: dict[str, Any], weights: Memory, inputs: dict[str, Any], expected: tuple[Any, ...]
) -> str:
    arena = Memory(job["arena"])
    given = []
    for name, dtype, shape in job["inputs"]:
        value = inputs.get(name, _NO_SEED)
        if is_text(dtype) and value.dtype.kind in "OU":
            value = encoded(name, value, dtype)
        if value.dtype != np.dtype(dtype) or value.shape != shape:
            return f"input {name} is compiled as {dtype}{list(shape)}, the test gives {value.dtype}{list(value.shape)}"
        memory = Memory(value.nbytes, _alignment(dtype))
        memory.bytes[:] = np.frombuffer(value.tobytes(), np.uint8)
        given.append(memory)
    taken = [
        Memory(np.dtype(dtype).itemsize * int(np.prod(shape)), _alignment(dtype)) for _, dtype, shape in job["outputs"]
    ]
    entry(_pointers(given), _pointers(taken), ctypes.c_void_p(arena.address), ctypes.c_void_p(weights.address))
    if not all(memory.intact for memory in (arena, weights, *given, *taken)):
        return "wrote outside of its buffers"
    got = {
        name: memory.bytes.view(np.dtype(dtype)).reshape(shape)
        for (name, dtype, shape), memory in zip(job["outputs"], taken, strict=True)
    }
    for name, want in zip(job["expected"], expected, strict=True):
        if name not in got:
            return f"output {name} is missing"
        if name in job["true_shapes"]:
            got[name] = got[name][tuple(slice(int(n)) for n in got[job["true_shapes"][name]])]
        problem = difference(got[name], want, job["rtol"], job["atol"])
        if problem:
            return f"output {name}: {problem}"
    return ""


def _pointers(memories: list[Memory]) -> Any:
    return (ctypes.c_void_p * (len(memories) + 1))(*(memory.address for memory in memories))


def main(library: str, jobs: str, seconds: str) -> None:
    loaded = ctypes.CDLL(library)
    for job in pickle.loads(Path(jobs).read_bytes()):
        signal.alarm(int(seconds))  # whose default is death
        print(json.dumps(run_job(loaded, job)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Emitted files with a tokenizer each and next to no model, compiled as one library and called through the C API."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import nets
import numpy as np
import processes
from onnx import helper

from dlpack.amalgamate.document import Provenance, emit_source
from dlpack.plan.compiler import compile_graph
from dlpack.plan.program import Program
from dlpack.runtime_c import read_runtime
from dlpack.stages.prepare import clean_graph
from dlpack.targets.base import processor_code
from dlpack.targets.cpu.machine import SCALAR
from dlpack.targets.cpu.schedule import CpuBackend
from dlpack.tokenizer.read import parse_tokenizer
from dlpack.tokenizer.tables import text_part

TOO_LONG = 9


@cache
def program() -> Program:
    """A program for a model that adds an input to itself."""
    model = nets.model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": (1,)}, {"y": (1,)}, {})
    return compile_graph(clean_graph(model, {})[1], "net", CpuBackend(SCALAR), winograd=False)


def source(name: str, tokenizer_json: str, text_bytes: int) -> str:
    data, part = text_part(parse_tokenizer(tokenizer_json), 0, text_bytes, None)
    made = replace(program(), name=name, weights=data, text=part)
    return emit_source([processor_code(SCALAR, made)], read_runtime(), Provenance("", "", "", "", "", ""), True, ())


class Library:
    """Tokenizers by name, each behind its functions."""

    def __init__(self, folder: Path, tokenizers: Mapping[str, str], text_bytes: int = 4096, flags: str = "-O1") -> None:
        """`tokenizers`: the texts of tokenizer.json by a name of the C API."""
        sources = []
        for name, text in tokenizers.items():
            path = folder / f"{name}.cc"
            path.write_text(source(name, text, text_bytes), encoding="utf-8")
            sources.append(f'#include "{path.name}"\n')
        (folder / "all.cc").write_text("".join(sources), encoding="utf-8")
        compiler = [
            "-std=c++17",
            *flags.split(),
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fPIC",
            "-shared",
            "all.cc",
            "-o",
            "all.so",
        ]
        done = processes.run(["c++", *compiler], cwd=folder)
        assert done.returncode == 0, done.stderr[-3000:]
        self.library = ctypes.CDLL(str(folder / "all.so"))
        self.handles: dict[str, ctypes.c_void_p] = {}
        for name in tokenizers:
            handle = ctypes.c_void_p()
            assert (
                self.library[f"{name}_create"](ctypes.byref(handle), None, ctypes.c_size_t(0), None, ctypes.c_size_t(0))
                == 0
            )
            self.handles[name] = handle

    def tokenize(self, name: str, text: bytes, special: bool = True, capacity: int = 1 << 16) -> list[int] | int:
        """The ids, or the status."""
        ids, count = np.zeros(capacity, np.int32), ctypes.c_size_t()
        status = self.library[f"{name}_tokenize"](
            self.handles[name], text, ctypes.c_size_t(len(text)), int(special), ctypes.c_void_p(ids.ctypes.data),
            ctypes.c_size_t(capacity), ctypes.byref(count),
        )  # fmt: skip
        self.count = count.value
        return int(status) if status else ids[: count.value].tolist()

    def detokenize(self, name: str, ids: list[int], special: bool = False, capacity: int = 1 << 18) -> str | int:
        return self._written(f"{name}_detokenize", name, ids, int(special), capacity)

    def following(self, name: str, ids: list[int], last: int, capacity: int = 1 << 12) -> str | int:
        return self._written(f"{name}_detokenize_next", name, ids, last, capacity)

    def _written(self, function: str, name: str, ids: list[int], last: int, capacity: int) -> str | int:
        given, text, count = np.array(ids, np.int32), ctypes.create_string_buffer(capacity), ctypes.c_size_t()
        status = self.library[function](
            self.handles[name], ctypes.c_void_p(given.ctypes.data), ctypes.c_size_t(len(ids)), last, text,
            ctypes.c_size_t(capacity), ctypes.byref(count),
        )  # fmt: skip
        self.count = count.value
        return int(status) if status else text.raw[: count.value].decode()

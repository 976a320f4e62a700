"""Emitted files, and C++ programs that are compiled with them: as a plugin of pytest it has the fixture `emitted`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import processes
import pytest
from conftest import requires_tool

from dlpack.bundle.loader import read_manifest

MODELS = ["digits", "conv_net", "attention_net"]
STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1"]
COMPILERS = ["g++", "clang++"]


@dataclass(frozen=True)
class Emitted:
    """A built model: its name as a C identifier, its folder and its files."""

    name: str
    folder: Path
    source: Path
    library: Path
    macro: str


@pytest.fixture(scope="module")
def emitted(bundles: Callable[[str], Path]) -> Callable[[str], Emitted]:
    def get(model: str) -> Emitted:
        folder = bundles(model)
        m = read_manifest(folder)
        return Emitted(m["name"], folder, folder / m["source"], folder / m["library"], m["name"].upper())

    return get


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """Runs a command that has to succeed without a word on stderr; gives its stdout."""
    done = processes.run(words, cwd=cwd)
    assert done.returncode == 0 and done.stderr == "", f"{words}\n{done.stderr}\n{done.stdout}"
    return done.stdout


def selftest_with_checks(source: Path, folder: Path) -> None:
    """An emitted file's self-test passes with the checks of g++ for memory and undefined behaviour."""
    flags = ["-std=c++17", "-O1", f"-D{source.stem.upper()}_SELFTEST", *SANITIZE, *STRICT, "-Wno-psabi", "-pthread"]
    run(requires_tool("g++"), *flags, source, "-o", folder / "selftest")
    run(folder / "selftest")


def build_program(
    folder: Path, code: str, models: Iterable[Emitted], options: Iterable[str] = (), defines: Iterable[str] = ()
) -> Path:
    """Compiles a C++ program with emitted files, clean of warnings; gives its path."""
    (folder / "main.cc").write_text(code)
    program = folder / "program"
    models = list(models)
    run(
        requires_tool("g++"), "-std=c++17", "-O1", "-march=native", *STRICT, *(f"-I{e.folder}" for e in models),
        *(f"-D{d}" for d in defines), folder / "main.cc", *(e.source for e in models), *options, "-o", program,
    )  # fmt: skip
    return program


def write_reference(e: Emitted, folder: Path) -> None:
    """The first input and output of reference.npz as NAME.in and NAME.out, raw."""
    with np.load(e.folder / "reference.npz") as stored:
        (folder / f"{e.name}.in").write_bytes(stored["in_0"].tobytes())
        (folder / f"{e.name}.out").write_bytes(stored["out_0"].tobytes())


READ = """\
#include <stdio.h>
#include <stdlib.h>
#include <vector>
static std::vector<float> read(const char* path) {
  FILE* f = fopen(path, "rb");
  if (f == nullptr) abort();
  std::vector<float> data(1 << 18);
  data.resize(fread(data.data(), sizeof(float), data.size(), f));
  fclose(f);
  return data;
}
static bool near(const float* a, const std::vector<float>& b) {
  for (size_t i = 0; i < b.size(); ++i)
    if (!(a[i] - b[i] < 1e-4f && b[i] - a[i] < 1e-4f)) return false;
  return !b.empty();
}
"""

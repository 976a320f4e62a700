"""What the tests of examples/drone share: the program, compiled for a bundle, and what it writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processes
from conftest import ROOT, requires_tool

DRONE = ROOT / "examples" / "drone"
Array = np.ndarray


def run(*words: str | Path, code: int = 0, cwd: Path | None = None, data: bytes | None = None) -> tuple[bytes, str]:
    """Standard output and error of a command that ends with this exit code."""
    done: Any = processes.run(words, cwd=cwd, input=data, text=False)
    told = done.stderr.decode()
    assert done.returncode == code, f"{words}\n{told}\n{done.stdout[:1000]!r}"
    return done.stdout, told


def compiled(bundle: Path, folder: Path, *options: str) -> Path:
    """The program with the detector of a bundle."""
    cmake = requires_tool("cmake")
    requires_tool("g++")
    run(cmake, "-S", DRONE, "-B", folder, f"-DBUNDLE={bundle}", *options)
    run(cmake, "--build", folder)
    return folder / "drone"


def tracks(path: Path) -> Iterator[tuple[int, int, Array]]:
    """What --boxes wrote: frame and id from 1 on, and left, top, width, height, score."""
    for line in path.read_text().splitlines():
        assert re.fullmatch(r"\d+,\d+(,-?\d+\.\d\d){4},[01]\.\d{4},-1,-1,-1", line), line
        frame, number, *rest = line.split(",")
        yield int(frame), int(number), np.array(rest[:5], float)

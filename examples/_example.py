"""What the example scripts share: a model's files with the options that it is built with, and the command line."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from threadpoolctl import threadpool_limits


@dataclass(frozen=True)
class Example:
    """A model's main file, and the options of `dlpack build` for it."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    labels: Path | None = None
    preprocess: str | None = None

    def command(self) -> list[str]:
        """`dlpack build` for this machine."""
        words = ["dlpack", "build", str(self.path)]
        for name, shape in self.shapes.items():
            words += ["--shape", f"{name}={'x'.join(map(str, shape))}"]
        words += ["--labels", str(self.labels)] if self.labels else []
        words += ["--preprocess", self.preprocess] if self.preprocess else []
        return [*words, "-o", str(self.path.parent / "native")]


Write = Callable[[Path, bool], Example]
"""Writes the model into a folder; True makes a small one for tests: a slim net, a short training."""


def main(write: Write, about: str | None) -> None:
    """An example's command line."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the model's files go")
    parser.add_argument("--small", action="store_true", help="a slim net and a short training, for tests")
    arguments = parser.parse_args()
    print(shlex.join(run(write, arguments.folder, arguments.small).command()))


def run(write: Write, folder: Path, small: bool) -> Example:
    """Writes an example. Its matrices are too small for threads, and one thread gives the same bytes again."""
    folder.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(limits=1):
        return write(folder, small)


def write_digit_files(folder: Path) -> tuple[Path, str]:
    """Labels 0 to 9, and the preprocessing of a white digit on black to 1 x 1 x 28 x 28 in 0..1."""
    labels, preprocess = folder / "labels.txt", folder / "preprocess.json"
    labels.write_text("\n".join(map(str, range(10))) + "\n", encoding="ascii")
    preprocess.write_text(json.dumps({"channels": "GRAY", "scale": 1 / 255}) + "\n", encoding="ascii")
    return labels, str(preprocess)

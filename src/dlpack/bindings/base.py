"""What a language's binding is to the rest of the compiler."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dlpack.bindings.api import Api
from dlpack.bindings.text import render

Compile = Callable[[Path, Path], object]
"""Compiles a C++ file to a shared library for the bundle's target."""


@dataclass(frozen=True)
class Bundle:
    """The bundle that is bound: its folder, its API, its manifest, and the compiler of its target.

    `library` is the shared library's file name, None where the target has none; `platform` is zig's name for what it is
    compiled for, empty for this computer, and `notice` the text about licences.
    """

    folder: Path
    api: Api
    manifest: Mapping[str, object]
    library: str | None
    compile: Compile
    platform: str
    notice: str


@dataclass(frozen=True)
class Binding:
    """A language. `write(bundle, folder)` fills bindings/NAME; `needs_library`: only where the target has a library."""

    name: str
    about: str
    write: Callable[[Bundle, Path], None]
    needs_library: bool = True


def fill(
    package: str,
    folder: Path,
    texts: Mapping[str, str],
    api: Api,
    values: Mapping[str, str],
    conditions: Collection[str] | None = None,
) -> None:
    """Writes `texts`, from a path in `folder` to the name of a template that lies in `package`; `conditions` are those
    of the API unless they are given."""
    holds = api.conditions if conditions is None else conditions
    for path, template in texts.items():
        text = resources.files(package).joinpath(template).read_text(encoding="utf-8")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(render(text, values, holds), encoding="utf-8")


def part(package: str, template: str, api: Api, values: Mapping[str, str]) -> str:
    """The functions for texts, which one of the package's templates has, to be put into another; empty without them."""
    if "texts" not in api.conditions:
        return ""
    text = resources.files(package).joinpath(template).read_text(encoding="utf-8")
    return render(text, values, api.conditions)


def copy(bundle: Bundle, folder: Path, *names: str) -> None:
    """Copies files of the bundle into a folder of the binding."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(bundle.folder / name, folder / name)

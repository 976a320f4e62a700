"""What a bundle was made from: digests of files, options and tools, and the record that is kept of them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from dlpack import __version__
from dlpack.many.jobs import Bundle
from dlpack.stages.text import beside

RECORD = "build-all.json"
"""The record's file in the output folder."""


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, or of all files below a folder with their names; "" where there is nothing to read."""
    try:
        if path.is_dir():
            total = hashlib.sha256()
            for file in sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
                total.update(f"{file.relative_to(path).as_posix()} {digest_of(file)}\n".encode())
            return total.hexdigest()
        with open(path, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return ""


def is_code(source: Path) -> bool:
    """Whether a model is Python code, FILE.py:NAME or PACKAGE.MODULE:NAME."""
    from dlpack.exporters import is_callable

    return is_callable(source)


def stated_files(bundle: Bundle) -> list[Path]:
    """The files and folders that a bundle's options name."""
    options = bundle.options
    source = Path(str(bundle.source).rpartition(":")[0]) if is_code(bundle.source) else bundle.source
    named = [source, options.params, options.inputs, options.calibrate]
    if tokenizer := options.tokenizer or (None if is_code(bundle.source) else beside(source)):
        folder = tokenizer.parent
        named += [path for path in (tokenizer, folder / "modules.json", folder / "1_Pooling") if path.exists()]
    named += [Path(text) for text in (options.preprocess, options.sound, options.task) if text and os.path.isabs(text)]
    return [path for path in named if path is not None and (path.is_absolute() or path.exists())]


@cache
def code_folders() -> tuple[Path, ...]:
    """The folders that dlpack's code is in: one once it is installed, several in its repository."""
    found: list[Path] = []
    for name in ("dlpack", *(f"dlpack.{p}" for p in ("amalgamate", "exporters", "runtime_c", "targets", "web"))):
        spec = importlib.util.find_spec(name)
        places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
        found += [place for place in places if place.name == name.rpartition(".")[2]]  # not its repository
    own = sorted({path.resolve() for path in found})
    return tuple(path for path in own if not any(other in path.parents for other in own))


@cache
def tool_key() -> str:
    """dlpack's version, its code, and the packages that build."""
    total = hashlib.sha256(__version__.encode())
    for folder in code_folders():
        total.update(digest_of(folder).encode())
    total.update(_versions("apache-tvm", "numpy", "onnx", "onnxruntime", "ziglang").encode())
    return total.hexdigest()


def _versions(*packages: str) -> str:
    return " ".join(f"{name}={_version(name)}" for name in packages)


@cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


@cache
def host_key() -> str:
    """This computer's processor, for which `native` compiles, and its description, from which kernels follow."""
    from dlpack.targets.toolchains.host import cpu_features, host_machine

    return f"{platform.system()} {host_machine()} {' '.join(sorted(cpu_features()))}"


_FRAMEWORKS = ("torch", "onnxscript", "tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "scikit-learn", "skl2onnx")


def key_of(bundle: Bundle, root: Path) -> str:
    """The digest of all that a bundle is made from but files: options, tools, this processor for `native`."""
    options = asdict(bundle.options)
    host = host_key() if bundle.options.target == "native" else ""
    frameworks = "" if bundle.source.suffix == ".onnx" else _versions(*_FRAMEWORKS)
    told = {"options": options, "model": bundle.source, "tools": tool_key(), "host": host, "frameworks": frameworks}
    text = json.dumps(told, sort_keys=True, default=lambda p: relative(p, root) if isinstance(p, Path) else str(p))
    return hashlib.sha256(text.replace(f"{root}{os.sep}", "").encode()).hexdigest()


def relative(path: str | Path, root: Path) -> str:
    """A path as the record has it, so that a copy of the folder elsewhere is still up to date."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # on another drive
        return str(path)


class Record:
    """What each bundle in an output folder was made from; a file there that is written after each build."""

    def __init__(self, output: Path, root: Path) -> None:
        self._path, self._root = output / RECORD, root
        self._digests: dict[Path, str] = {}
        self._bundles: dict[str, Any] = {}
        try:
            read = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(read, dict) and read.get("format") == 1 and isinstance(read.get("bundles"), dict):
                self._bundles = read["bundles"]
        except (OSError, ValueError):
            pass  # nothing is known, so all is built

    def digest(self, path: Path) -> str:
        """The digest of a file or folder, computed once."""
        if path not in self._digests:
            self._digests[path] = digest_of(path)
        return self._digests[path]

    def stated(self, bundle: Bundle) -> dict[str, str]:
        """The files that a bundle's options name, with their digests."""
        return {str(path): self.digest(path) for path in stated_files(bundle)}

    def is_current(self, bundle: Bundle) -> bool:
        """Whether a bundle is there, and nothing that it was made from has changed."""
        try:
            entry = self._bundles[relative(bundle.folder, self._root)]
            return (
                entry["key"] == key_of(bundle, self._root)
                and entry["files"].keys() >= {relative(p, self._root) for p in stated_files(bundle)}
                and all(self.digest(self._root / name) == digest for name, digest in entry["files"].items())
                and entry["manifest"] == digest_of(bundle.folder / "manifest.json")
                and _is_whole(bundle.folder)
            )
        except (AttributeError, KeyError, OSError, TypeError, ValueError):
            return False

    def add(self, bundle: Bundle, files: dict[str, str]) -> None:
        """Notes a bundle that was built from these files, and writes the record."""
        self._bundles[relative(bundle.folder, self._root)] = {
            "key": key_of(bundle, self._root),
            "files": {relative(name, self._root): digest for name, digest in sorted(files.items())},
            "manifest": digest_of(bundle.folder / "manifest.json"),
        }
        self._write()

    def forget(self, bundles: Iterable[Bundle]) -> None:
        """Notes that these are about to be built, so that what is there of them counts no more."""
        for bundle in bundles:
            self._bundles.pop(relative(bundle.folder, self._root), None)

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        text = json.dumps({"format": 1, "bundles": dict(sorted(self._bundles.items()))}, indent=1)
        new.write_text(f"{text}\n", encoding="utf-8")
        os.replace(new, self._path)


def _is_whole(folder: Path) -> bool:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return all((folder / name).is_file() for name in manifest["files"])

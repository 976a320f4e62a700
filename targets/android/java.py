"""The Java part of an Android package: its sources from templates, compiled by a JDK against stubs of Android's API."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from dlpack.bindings import java
from dlpack.bindings.api import Api
from dlpack.bindings.text import render
from dlpack.errors import ToolchainError
from dlpack.targets.base import Manifest
from dlpack.targets.toolchains.compiler import compile_with


def _tool(name: str) -> str | None:
    """A program of the JDK: from JAVA_HOME, else from the path."""
    home = os.environ.get("JAVA_HOME")
    return (shutil.which(name, path=os.path.join(home, "bin")) if home else None) or shutil.which(name)


def missing_jdk() -> str | None:
    """What is missing to compile Java, in words; None where nothing is."""
    return None if _tool("javac") else "javac, from a JDK of Java 9 or later (on Debian openjdk-17-jdk-headless)"


def sources(api: Api, manifest: Manifest, conditions: frozenset[str]) -> dict[str, str]:
    """The classes' source files by name. `conditions` are those of the templates that hold."""
    values = {**java.placeholders(api), "weights_bytes": str(manifest.get("weights", {}).get("bytes", 0))}
    here, binding = resources.files(__package__), resources.files(java)
    found = {"Predictor.java": (binding, values, conditions)}
    if api.pictures:
        found["Picture.java"] = (here, values, conditions)
        task = manifest.get("task", {})
        if api.boxes:
            found["Detector.java"] = (here, values, conditions)
        elif task.get("kind") in (None, "classify", "digits"):
            found["Classifier.java"] = (here, values, conditions)
    if "asset" in conditions:
        found["Weights.java"] = (here, values, conditions)
    return {
        name: render(folder.joinpath(name).read_text(encoding="utf-8"), filled, kept)
        for name, (folder, filled, kept) in sorted(found.items())
    }


def native_methods(api: Api, conditions: frozenset[str]) -> str:
    """The C++ file of the native methods, which includes NAME.cc."""
    text = resources.files(java).joinpath("jni.cc").read_text(encoding="utf-8")
    return render(text, java.placeholders(api), conditions)


@contextmanager
def _laid_out(texts: Mapping[str, str], package: str) -> Iterator[tuple[Path, list[Path], Path]]:
    """The folder of the stubs, the sources as files, and a folder for results, for as long as the context lasts."""
    with (
        tempfile.TemporaryDirectory(prefix="dlpack-java-") as folder,
        resources.as_file(resources.files(__package__).joinpath("stubs")) as stubs,
    ):
        source = Path(folder) / "source" / "dlpack" / package
        source.mkdir(parents=True)
        files = [source / name for name in texts]
        for path in files:
            path.write_text(texts[path.name], encoding="utf-8")
        yield stubs, files, Path(folder)


def _content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def compile_classes(texts: Mapping[str, str], package: str) -> dict[str, bytes]:
    """The class files of sources in package dlpack.`package`, by their path in a jar. Raises ToolchainError."""
    javac = _tool("javac")
    if javac is None:
        raise ToolchainError(f"there is no compiler for Java here: install {missing_jdk()}")
    with _laid_out(texts, package) as (stubs, files, scratch):
        out = scratch / "classes"
        out.mkdir()
        command = [javac, "--release", "8", "-encoding", "UTF-8", "-Xlint:all,-options", "-Werror", "-implicit:none",
                   "-sourcepath", str(stubs), "-d", str(out), *map(str, files)]  # fmt: skip
        compile_with(command, out / "dlpack" / package / "Predictor.class")
        return _content(out)


def document(texts: Mapping[str, str], package: str) -> dict[str, bytes] | None:
    """The pages that javadoc makes of the sources, by their path; None where there is no javadoc."""
    javadoc = _tool("javadoc")
    if javadoc is None:
        return None
    with _laid_out(texts, package) as (stubs, files, scratch):
        out = scratch / "pages"
        command = [javadoc, "-quiet", "-notimestamp", "-Xdoclint:none", "-encoding", "UTF-8", "-locale", "en",
                   "-sourcepath", str(stubs), "-d", str(out), *map(str, files)]  # fmt: skip
        compile_with(command, out / "index.html")
        return _content(out)

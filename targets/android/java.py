"""The Java part of an Android package: its sources from templates, compiled by a JDK against stubs of Android's API."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from dlpack.bindings import java
from dlpack.bindings.api import Api
from dlpack.bindings.text import camel, identifiers, render
from dlpack.errors import ToolchainError
from dlpack.targets.base import Manifest
from dlpack.targets.toolchains.compiler import compile_with

_INTEGERS = {"uint8": "byte", "int8": "byte", "uint16": "short", "int16": "short", "int32": "int"}
_MASKS = {"uint8": "0xff", "uint16": "0xffff"}


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
        if task.get("kind") in (None, "classify", "digits"):
            found["Classifier.java"] = (here, values, conditions)
        elif task["kind"] == "detect" and (detector := _detector(api, manifest)) is not None:
            kinds = {task["format"], *(("scored",) if "boxes" in task else ())}
            found["Detector.java"] = (here, values | detector, conditions | kinds)
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


def _detector(api: Api, manifest: Manifest) -> dict[str, str] | None:
    """The placeholders of Detector.java; None where an output is of a type that Java cannot compute with."""
    task, spec = manifest["task"], manifest["preprocess"]
    names = dict(zip((t.name for t in api.outputs), identifiers((t.name for t in api.outputs), camel, java.TAKEN),
                     strict=True))  # fmt: skip
    tensors = {t["name"]: t for t in manifest["outputs"]}
    background = task.get("background")
    values = {
        "threshold": repr(float(task["threshold"])),
        "iou": repr(float(task["iou"])),
        "most": str(task["most"]),
        "input_width": str(spec["width"]),
        "input_height": str(spec["height"]),
        "resize": str(spec.get("resize") or 0),
        "background": "-1" if background is None else str(background),
    }
    reads: dict[str, str] = {}
    for key in ("boxes", "scores", "output"):
        if key in task:
            told = _reader(tensors[task[key]], names[task[key]])
            if told is None:
                return None
            values["output" if key == "output" else f"{key}_output"], reader = told
            reads[reader] = reader
    values["real"] = "\n\n".join(reads)
    if "boxes" in task:
        _, count, classes = tensors[task["scores"]]["shape"]
        width, height = (spec["width"], spec["height"]) if task.get("coordinates") == "pixels" else (1, 1)
        values |= {"count": str(count), "class_count": str(classes), "unit_x": f"{width}.0", "unit_y": f"{height}.0"}
    if task["format"] == "anchors":
        levels = task["anchors"]
        values |= {
            "variance_0": repr(float(task["variances"][0])),
            "variance_1": repr(float(task["variances"][1])),
            "clip": "true" if task["clip"] else "false",
            "strides": ", ".join(repr(float(level["stride"])) for level in levels),
            "sizes": ", ".join(
                "{" + ", ".join(repr(float(side)) for size in level["sizes"] for side in size) + "}" for level in levels
            ),
        }
    elif task["format"] == "grid":
        _, channels, rows, columns = tensors[task["output"]]["shape"]
        values |= {"channels": str(channels), "rows": str(rows), "columns": str(columns)}
    elif task["format"] == "rows":
        values["length"] = str(tensors[task["output"]]["shape"][-1])
    return values


def _reader(tensor: Mapping[str, Any], name: str) -> tuple[str, str] | None:
    """The expression for an output's real numbers, as double[], and the method that it calls."""
    kind, quantization = tensor["dtype"], tensor.get("quantization")
    if kind in ("float32", "float64"):
        call, element = f"real(outputs.{name})", "values[i]"
        parameters = f"{'float' if kind == 'float32' else 'double'}[] values"
    elif quantization and kind in _INTEGERS:
        zero, scale = quantization["zero_point"], repr(float(quantization["scale"]))
        mask = _MASKS.get(kind, "-1")
        call = f"real(outputs.{name}, {mask}, {zero}, {scale})"
        parameters = f"{_INTEGERS[kind]}[] values, int mask, int zero, double scale"
        element = "(float) (((double) (values[i] & mask) - zero) * scale)"
    else:
        return None
    return call, (
        f"private static double[] real({parameters}) {{\n"
        "  double[] real = new double[values.length];\n"
        f"  for (int i = 0; i < real.length; ++i) real[i] = {element};\n"
        "  return real;\n"
        "}"
    )


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

"""`dlpack new`: a starter project for a place, around a bundle. Each place is a folder of templates beside this file.

A project runs the model on zeros (a page with a classifier or a detector: on a picture) and shows what comes out. The
bundle is in the project's folder `model`, where a later build replaces it.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from dlpack.bindings import java, swift
from dlpack.bindings.api import Api, Tensor, describe
from dlpack.bindings.text import camel, common, identifiers, render, shown
from dlpack.bundle.read import read_manifest
from dlpack.errors import UsageError

Values = dict[str, str]


@dataclass(frozen=True)
class Place:
    """Where a project is for: the targets whose bundles it takes, the files written from templates by their paths in
    the project, what fills these in, and where the bundle lies. `left_out`: what of the bundle the project has not."""

    about: str
    targets: tuple[str, ...]
    files: Mapping[str, str]
    values: Callable[[Path, Api, Mapping[str, Any]], Values]
    next: str
    model: str = "model"
    left_out: tuple[str, ...] = ()


def start(place: str, bundle: Path, folder: Path) -> list[str]:
    """Writes a starter project for one of `PLACES` around a bundle; returns its files' paths in `folder`, sorted.

    Raises UsageError if the bundle is for another place, or `folder` holds something; then nothing is written.
    """
    how, manifest = PLACES[place], read_manifest(bundle)
    if manifest["target"] not in how.targets:
        raise UsageError(
            f"{bundle} is built for {manifest['target']}: a project for {place} takes a bundle for "
            f"{_either(how.targets)}; build the model with --target {how.targets[0]}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: name another folder with -o")
    api = describe(manifest, _flags(bundle, manifest))
    values = {**common(api), **how.values(bundle, api, manifest)}
    conditions = set(api.conditions)
    conditions |= {"asset"} if (manifest.get("android") or {}).get("weights") == "asset" else set()
    conditions |= {"cuda"} if manifest["target"] == "cuda" else set()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".dlpack-", dir=folder.parent) as scratch:
        made = Path(scratch) / "project"
        for path, template in how.files.items():
            file = made / render(path, values, ()).rstrip("\n")
            file.parent.mkdir(parents=True, exist_ok=True)
            text = resources.files(__name__).joinpath(place, template).read_text(encoding="utf-8")
            file.write_text(render(text, values, conditions), encoding="utf-8")
        if place == "platformio":
            _write_library(bundle, manifest, made)
        else:
            shutil.copytree(bundle, made / how.model, ignore=shutil.ignore_patterns(*how.left_out))
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _either(words: tuple[str, ...]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _flags(bundle: Path, manifest: Mapping[str, Any]) -> str:
    """What the emitted file says that it is to be compiled with."""
    source = bundle / manifest["source"]
    with source.open(encoding="utf-8") as file:
        found = re.search(r"Flags: *(-.*)", file.read(8000))
    return found[1].strip() if found else "-std=c++17 -O2"


# --- C++ --------------------------------------------------------------------------------------------------------------

_C_TYPES = {"float32": "float", "float64": "double", "bool": "uint8_t", "float16": "uint16_t", "bfloat16": "uint16_t"}


def _c_type(tensor: Tensor) -> str:
    return _C_TYPES.get(tensor.dtype, f"{tensor.dtype}_t")


def _size(tensor: Tensor) -> int:
    return math.prod(tensor.shape)


def _cmake(_bundle: Path, api: Api, _manifest: Mapping[str, Any]) -> Values:
    inputs = [
        f"const std::vector<{_c_type(t)}> input{k}({_size(t)});  // {shown(t.name)}: {t.type}"
        for k, t in enumerate(api.inputs)
    ]
    ok = f"{api.name.upper()}_OK"
    sets = [
        f"if (status == {ok}) status = predictor.set_input({k}, input{k}.data(), input{k}.size() * sizeof input{k}[0]);"
        for k in range(len(api.inputs))
    ]
    outputs = [
        f'std::printf("{shown(t.name)} ({t.type}): %g ...\\n", double(predictor.output<{_c_type(t)}>({k})[0]));'
        for k, t in enumerate(api.outputs)
        if _size(t)
    ]
    options = " ".join(flag for flag in api.flags.split() if not flag.startswith("-std="))
    return {"inputs": "\n".join(inputs), "sets": "\n".join(sets), "outputs": "\n".join(outputs), "options": options}


_BOARDS = {
    "m0": ("ststm32", "nucleo_f072rb"),
    "m4": ("ststm32", "nucleo_f446re"),
    "m7": ("ststm32", "nucleo_f767zi"),
    "m33": ("ststm32", "nucleo_u575zi_q"),
    "imc": ("espressif32", "esp32-c3-devkitm-1"),
}
"""PlatformIO's platform and a board with each core."""


def _platformio(bundle: Path, _api: Api, manifest: Mapping[str, Any]) -> Values:
    from dlpack.targets.microcontroller.forms import sketch

    core = manifest["microcontroller"]["core"]
    if core not in _BOARDS:
        raise UsageError(f"PlatformIO has no board with the core {core}: the bundle's CMakeLists.txt is for any")
    if "weights" in manifest:
        raise UsageError(f"{bundle} has its weights in a file: build it without --weights file")
    platform, board = _BOARDS[core]
    return {
        "core": core,
        "platform": platform,
        "board": board,
        "program": f"#include <Arduino.h>\n\n{sketch(manifest)}",
    }


def _write_library(bundle: Path, manifest: Mapping[str, Any], project: Path) -> None:
    """The model as a library that PlatformIO compiles."""
    from dlpack.targets.microcontroller.forms import sources

    folder = project / "lib" / manifest["name"]
    folder.mkdir(parents=True)
    for name, text in sources(bundle, manifest).items():
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copyfile(bundle / "NOTICE", folder / "NOTICE")


# --- pages and apps ---------------------------------------------------------------------------------------------------


def _vite(bundle: Path, _api: Api, _manifest: Mapping[str, Any]) -> Values:
    package = json.loads((bundle / "package.json").read_text(encoding="utf-8"))
    return {"package": package["name"]}


_KOTLIN = {
    "boolean": "BooleanArray", "byte": "ByteArray", "short": "ShortArray", "int": "IntArray", "long": "LongArray",
    "float": "FloatArray", "double": "DoubleArray",
}  # fmt: skip


def _gradle(_bundle: Path, api: Api, _manifest: Mapping[str, Any]) -> Values:
    declared = java.placeholders(api)["parameters"].split(", ") if api.inputs else []
    zeros = [
        f"{_KOTLIN[parameter.partition('[')[0]]}({_size(t)})" for parameter, t in zip(declared, api.inputs, strict=True)
    ]
    names = identifiers((t.name for t in api.outputs), camel, java.TAKEN)
    shows = [f'"{shown(t.name)}: ${{outputs.{name}.take(5)}}"' for name, t in zip(names, api.outputs, strict=True)]
    package = java.package_name(api.name)
    return {"arguments": ", ".join(zeros), "outputs": ",\n".join(shows), "package": package}


def _xcode(_bundle: Path, api: Api, _manifest: Mapping[str, Any]) -> Values:
    declared = re.findall(r"(\w+): \[(\w+)\]", swift.placeholders(api)["parameters"])
    zeros = [
        f"{name}: [{kind}](repeating: {'false' if kind == 'Bool' else 0}, count: {_size(t)})"
        for (name, kind), t in zip(declared, api.inputs, strict=True)
    ]
    return {"arguments": ", ".join(zeros)}


# ----------------------------------------------------------------------------------------------------------------------


def _same(*paths: str) -> dict[str, str]:
    return {path: path for path in paths}


PLACES: dict[str, Place] = {
    "cmake": Place(
        "a program in C++, for CMake",
        ("native", "x86-64", "x86-64-v3", "x86-64-v4", "linux-arm64", "linux-armhf", "linux-riscv64", "jetson-tx1",
         "cuda", "macos", "windows", "source"),
        _same("CMakeLists.txt", "main.cc", "README.md"),
        _cmake,
        "cmake -S . -B build && cmake --build build && build/app",
    ),
    "vite": Place(
        "a page, for Vite",
        ("wasm",),
        _same("package.json", "vite.config.js", "index.html", "src/main.js", "README.md"),
        _vite,
        "npm install && npm run dev",
        "public/model",
        ("*.cc", "*.h", "*.html", "*.npz", "demo*", "sw.js", "kernels.json", "plan.json", "*.spdx.json"),
    ),
    "gradle": Place(
        "an Android app in Kotlin, for Gradle and Android Studio",
        ("android",),
        {
            **_same("settings.gradle.kts", "build.gradle.kts", "gradle.properties", "app/build.gradle.kts", "README.md",
                    "app/src/main/AndroidManifest.xml"),
            "app/src/main/java/com/example/app/MainActivity.kt": "app/src/main/java/MainActivity.kt",
        },
        _gradle,
        "open the folder in Android Studio, or: gradle :app:assembleDebug",
    ),
    "xcode": Place(
        "an app for iOS in Swift, for Xcode",
        ("ios",),
        _same("App.xcodeproj/project.pbxproj", "App/StarterApp.swift", "App/ContentView.swift", "README.md"),
        _xcode,
        "open App.xcodeproj",
    ),
    "platformio": Place(
        "firmware for a board, for PlatformIO",
        ("cortex-m", "rv32"),
        {**_same("platformio.ini", "README.md"), "src/main.cpp": "src/main.cpp"},
        _platformio,
        "pio run",
    ),
}  # fmt: skip
"""The places by the word that `dlpack new` takes."""

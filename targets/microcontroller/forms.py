"""The forms in which build systems take a library: CMakeLists.txt, and a folder that Arduino installs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlpack.targets.base import Manifest

_CMAKE = """\
# @name@: a trained model as a static library. In a project for a microcontroller:
#   add_subdirectory(@name@)
#   target_link_libraries(PROGRAM PRIVATE @name@)
# The processor's flags are the project's; the kernels were written for @flags@.
cmake_minimum_required(VERSION 3.13)
project(@name@ LANGUAGES CXX)

add_library(@name@ STATIC @source@ @header@)
target_compile_features(@name@ PRIVATE cxx_std_17)
target_compile_definitions(@name@ PRIVATE @NAME@_FREESTANDING@bind@)
target_compile_options(@name@ PRIVATE -O2 -fno-unroll-loops -fno-math-errno -ffreestanding -ffunction-sections
    -fdata-sections -fno-exceptions -fno-rtti -fno-unwind-tables -fno-asynchronous-unwind-tables)
target_include_directories(@name@ PUBLIC ${CMAKE_CURRENT_LIST_DIR})
target_link_options(@name@ INTERFACE -Wl,--gc-sections)
"""

_PROPERTIES = """\
name=@name@
version=1.0.0
author=@tool@
maintainer=@tool@
sentence=A trained model, compiled to C++ for microcontrollers.
paragraph=No heap, no other library. @macs@ multiply-adds per run, @flash@ bytes of flash, @ram@ bytes of RAM.
category=Data Processing
url=https://onnx.ai
architectures=*
includes=@header@
precompiled=full
ldflags=-l@name@
"""

_SKETCH = """\
// Runs the model @name@ once a second, on zeros: put what it shall see into `inputs`.
#include <@header@>

alignas(64) static unsigned char memory[@NAME@_MEMORY_BYTES];
@tensors@
static @name@_predictor* predictor;

static bool good(const char* what, @name@_status status) {
  if (status == @NAME@_OK) return true;
  Serial.print(what);
  Serial.print(": ");
  Serial.println(@name@_error_text(status));
  return false;
}

void setup() {
  Serial.begin(115200);
  if (!good("create", @name@_create(&predictor, memory, sizeof memory, nullptr, 0))) return;
@binds@
}

void loop() {
  const unsigned long began = micros();
  if (predictor == nullptr || !good("run", @name@_run(predictor))) return;
  Serial.print(micros() - began);
  Serial.print(" us, first output: ");
  Serial.println(static_cast<double>(output0[0]));
  delay(1000);
}
"""

_C_TYPES = {"float32": "float", "float64": "double", "bool": "uint8_t"}


def write_cmake(folder: Path, manifest: Manifest) -> None:
    """Writes CMakeLists.txt, which compiles NAME.cc with the flags of the project that it is added to."""
    (folder / "CMakeLists.txt").write_text(_filled(_CMAKE, manifest), encoding="utf-8")


def write_arduino(folder: Path, manifest: Manifest, about: str, libraries: Mapping[str, Path]) -> None:
    """Writes arduino/NAME: a library that Arduino compiles, or takes compiled where it looks for the board's core.

    `libraries` are the compiled ones by that place; `about` says for which cores.
    """
    name = manifest["name"]
    library = folder / "arduino" / name
    for place in ("src", f"examples/{name}", *(f"src/{place}" for place in libraries)):
        (library / place).mkdir(parents=True, exist_ok=True)
    properties = _filled(_PROPERTIES, manifest).replace("microcontrollers.", f"{about}.")
    (library / "library.properties").write_text(properties, encoding="utf-8")
    for file, text in sources(folder, manifest).items():
        (library / "src" / file).write_text(text, encoding="utf-8")
    for place, compiled in libraries.items():
        shutil.copyfile(compiled, library / "src" / place / f"lib{name}.a")
    (library / "examples" / name / f"{name}.ino").write_text(sketch(manifest), encoding="utf-8")


def sources(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The bundle's NAME.cpp and NAME.h for build systems that pass no macros: these are defined in the files."""
    name = manifest["name"]
    macros = [
        f"#define {name.upper()}_FREESTANDING",
        *([f"#define {name.upper()}_BIND_ONLY"] if _bind(manifest) else []),
    ]
    source = (folder / manifest["source"]).read_text(encoding="utf-8")
    header = (folder / manifest["header"]).read_text(encoding="utf-8")
    return {f"{name}.cpp": "\n".join([*macros, source]), manifest["header"]: "\n".join([*macros[1:], header])}


def sketch(manifest: Mapping[str, Any]) -> str:
    """A program for Arduino that runs the predictor once a second, on zeros."""
    name = manifest["name"]
    declared, bound = [], []
    for kind in ("input", "output"):
        for k, tensor in enumerate(manifest[f"{kind}s"]):
            size = 1
            for extent in tensor["shape"]:
                size *= extent
            c_type = _C_TYPES.get(tensor["dtype"], f"{tensor['dtype']}_t")
            declared.append(f"static {c_type} {kind}{k}[{size}];  // {tensor['name']}")
            call = f"{name}_bind_{kind}(predictor, {k}, {kind}{k}, sizeof {kind}{k})"
            bound.append(f'  good("bind_{kind}", {call});')
    text = _SKETCH.replace("@tensors@", "\n".join(declared)).replace("@binds@", "\n".join(bound))
    return _filled(text.replace("`inputs`", "`input0`"), manifest)


def _bind(manifest: Mapping[str, Any]) -> bool:
    return bool(manifest["microcontroller"]["bind"])


def _filled(text: str, manifest: Mapping[str, Any]) -> str:
    """A template with what the manifest says of the predictor."""
    name, sizes = manifest["name"], manifest["microcontroller"]
    words = {
        "name": name,
        "NAME": name.upper(),
        "source": manifest["source"],
        "header": manifest["header"],
        "tool": manifest["tool"],
        "macs": f"{manifest['macs']:,}",
        "flash": f"{sizes['flash']['total']:,}",
        "ram": f"{sizes['ram']['total']:,}",
        "flags": " ".join(sizes["flags"]),
        "bind": f"\n    PUBLIC {name.upper()}_BIND_ONLY" if _bind(manifest) else "",
    }
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text

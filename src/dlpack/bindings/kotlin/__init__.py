"""Kotlin: a class of its own over Java's, which comes along, with lists, default arguments and `use`."""

from __future__ import annotations

from pathlib import Path

from dlpack.bindings import java
from dlpack.bindings.base import Binding, Bundle, fill, part
from dlpack.bindings.text import common, joined, lines, memory_docs, reshapes, sets

_TYPES = {
    "bool": "BooleanArray", "float32": "FloatArray", "float64": "DoubleArray", "float16": "ShortArray",
    "bfloat16": "ShortArray", "int8": "ByteArray", "uint8": "ByteArray", "int16": "ShortArray",
    "uint16": "ShortArray", "int32": "IntArray", "uint32": "IntArray", "int64": "LongArray", "uint64": "LongArray",
}  # fmt: skip


_RESHAPE = """/** Gives {name} another shape, and all else what goes with it: {choice}. */
fun reshape{Name}(vararg extents: Long) = compiled.reshape{Name}(*extents)"""
_MEMORY = """/** The bytes of a predictor that takes no larger {name} than this. */
fun memoryFor{Name}(vararg extents: Long) = dlpack.{package}.Predictor.memoryFor{Name}(*extents)"""


def _write(bundle: Bundle, folder: Path) -> None:
    java.write(bundle, folder)
    (folder / "pom.xml").unlink()
    api = bundle.api
    inputs, outputs = java.names(api)
    package = java.package_name(api.name)
    values = {
        **common(api),
        "package": package,
        "input_docs": lines("* @param {name} {about}", api.inputs, inputs),
        "fields": lines("/** {about} */\nval {name}: {type},", api.outputs, outputs, _TYPES).removesuffix(","),
        "parameters": joined(lines("{name}: {type}", api.inputs, inputs, _TYPES)),
        "arguments": ", ".join(inputs),
        "reshapes": reshapes(_RESHAPE, api, inputs),
        "memories": reshapes(_MEMORY.replace("{package}", package), api, inputs),
        "memory_docs": memory_docs("* @param memory {about}", "[memoryFor{Name}]", api, inputs),
        "shape_docs": sets(api, "* - {number}: {shown}"),
        "results": joined(lines("it.{name}", api.outputs, outputs)),
    }
    values["text_functions"] = part(__name__, "text.kt", api, values)
    source = f"src/main/kotlin/dlpack/{package}/kotlin/Predictor.kt"
    fill(__name__, folder, {source: "Predictor.kt", "build.gradle.kts": "build.gradle.kts"}, api, values)


BINDING = Binding("kotlin", "a class over Java's", _write)

"""Java: a class over JNI, for the JVM and Android; the library of its native methods holds the model."""

from __future__ import annotations

import shutil
from pathlib import Path

from dlpack.bindings.api import Api
from dlpack.bindings.base import Binding, Bundle, fill, part
from dlpack.bindings.text import camel, common, identifiers, joined, lines, memory_docs, reshapes, sets

_TYPES = {
    "bool": "boolean", "float32": "float", "float64": "double", "float16": "short", "bfloat16": "short",
    "int8": "byte", "uint8": "byte", "int16": "short", "uint16": "short", "int32": "int", "uint32": "int",
    "int64": "long", "uint64": "long",
}  # fmt: skip
TAKEN = frozenset(
    "abstract assert boolean break byte case catch char class const continue default do double else enum extends final "
    "finally float for goto if implements import in instanceof int interface is long native new null object package "
    "private protected public return short static strictfp super switch synchronized this throw throws transient true "
    "try typealias val var void volatile when while false fun as rgb width height count handle "
    "compiled outputs".split()
)


_INPUT, _OUTPUT = "inputBytes(handle, {index}) / {each}", "outputBytes(handle, {index}) / {each}"
"""The sizes of an input and an output where there are several sets of shapes."""

_RESHAPE = """/**
 * Gives {name} another shape, and all else what goes with it: {choice}.
 *
 * @throws IllegalArgumentException for any other
 */
public void reshape{Name}(long... extents) {{
  reshape({index}, extents, "{shown} can be {choice}");
}}

/**
 * The bytes of a predictor that takes no larger {name} than this.
 *
 * @throws IllegalArgumentException for a shape that it cannot have
 */
public static long memoryFor{Name}(long... extents) {{
  return memory({index}, extents, "{shown} can be {choice}");
}}"""


def package_name(name: str) -> str:
    """The package's last part: the model's name, unless that is a word of Java's or Kotlin's."""
    return f"{name}_" if name in TAKEN else name


def library_name(bundle: Bundle) -> str:
    """libNAME_jni.so, or what the platform calls it."""
    return str(bundle.library).replace(bundle.api.name, f"{bundle.api.name}_jni")


def names(api: Api) -> tuple[list[str], list[str]]:
    """The identifiers of inputs and of outputs, in Java and in Kotlin."""
    inputs, outputs = (identifiers((t.name for t in side), camel, TAKEN) for side in (api.inputs, api.outputs))
    return inputs, outputs


def placeholders(api: Api) -> dict[str, str]:
    """The values of the templates' placeholders, but for `library`, the file that the native methods lie in."""
    inputs, outputs = names(api)
    package = package_name(api.name)
    made = "" if api.sets else " = new {type}[{size}]"
    values = {
        **common(api, _OUTPUT),
        "package": package,
        "jni": f"Java_dlpack_{package.replace('_', '_1')}_Predictor",
        "input_docs": lines("* @param {name} {about}", api.inputs, inputs),
        "fields": lines(f"/** {{about}} */\npublic final {{type}}[] {{name}}{made};", api.outputs, outputs, _TYPES),
        "make_fields": lines("{name} = new {type}[{size}];", api.outputs, outputs, _TYPES, _OUTPUT),
        "parameters": joined(lines("{type}[] {name}", api.inputs, inputs, _TYPES)),
        "arguments": ", ".join(inputs),
        "check_inputs": lines(
            'length({name} == null ? -1 : {name}.length, {size}, "{shown} ({kind})");',
            api.inputs,
            inputs,
            several=_INPUT,
        ),
        "set_inputs": lines("check(setInput(handle, {index}, {name}, {each} * {name}.length));", api.inputs, inputs),
        "get_outputs": lines(
            "check(getOutput(handle, {index}, outputs.{name}, {each} * outputs.{name}.length));", api.outputs, outputs
        ),
        "shape": "handle" if api.sets else "",
        "memory_docs": memory_docs("* @param memory {about}", "{{@link #memoryFor{Name}}}", api, inputs),
        "memory": ", memory" if api.open else "",
        "all": ", 0" if api.open else "",
        "memory_parameter": ", long memory" if api.open else "",
        "c_memory": "static_cast<size_t>(memory)" if api.open else "0",
        "c_memory_parameter": ", int64_t memory" if api.open else "",
        "shape_docs": sets(api, "* <li>{number}: {shown}"),
        "reshapes": reshapes(_RESHAPE, api, inputs),
    }
    texts = {"text_functions": "Text.java", "text_calls": "text.cc", "text_methods": "text_methods.cc"}
    return values | {name: part(__name__, template, api, values) for name, template in texts.items()}


def write(bundle: Bundle, folder: Path) -> None:
    """Writes the Java class, its native methods and their library into a folder with Maven's layout."""
    api = bundle.api
    package = package_name(api.name)
    library = library_name(bundle)
    values = {**placeholders(api), "library": library}
    source = f"src/main/java/dlpack/{package}/Predictor.java"
    jni = f"src/main/cpp/{api.name}_jni.cc"
    texts = {source: "Predictor.java", jni: "jni.cc", "pom.xml": "pom.xml"}
    texts[source.replace("Predictor", "Library")] = "Library.java"
    fill(__name__, folder, texts, api, values)
    to = folder / "src/main/resources/dlpack" / package / library
    to.parent.mkdir(parents=True)
    made = bundle.folder / "bindings/java/src/main/resources/dlpack" / package / library
    if made.exists():  # Kotlin's is the same
        shutil.copyfile(made, to)
        return
    (bundle.folder / f"{api.name}_jni.cc").write_bytes((folder / jni).read_bytes())
    try:
        bundle.compile(bundle.folder / f"{api.name}_jni.cc", to)
        to.with_suffix(".lib").unlink(missing_ok=True)  # what Windows' linker leaves beside
    finally:
        (bundle.folder / f"{api.name}_jni.cc").unlink()


BINDING = Binding("java", "a class over JNI", write)

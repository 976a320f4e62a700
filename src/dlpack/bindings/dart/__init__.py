"""Dart: a package over dart:ffi, also for Flutter."""

from __future__ import annotations

import textwrap
from pathlib import Path

from dlpack.bindings.api import Api
from dlpack.bindings.base import Binding, Bundle, copy, fill
from dlpack.bindings.text import camel, common, identifiers, joined, lines, memory_docs, reshapes, sets, wrapped

_TYPES = {
    "bool": "Uint8List", "float32": "Float32List", "float64": "Float64List", "float16": "Uint16List",
    "bfloat16": "Uint16List", "int8": "Int8List", "uint8": "Uint8List", "int16": "Int16List", "uint16": "Uint16List",
    "int32": "Int32List", "uint32": "Uint32List", "int64": "Int64List", "uint64": "Uint64List",
}  # fmt: skip
_C_TYPES = {
    "void": ("Void", "void"), "status": ("Int32", "int"), "int32_t": ("Int32", "int"), "size_t": ("Size", "int"),
    "ptrdiff_t": ("IntPtr", "int"), "const char*": ("Pointer<Utf8>",) * 2, "const uint8_t*": ("Pointer<Uint8>",) * 2,
    "predictor**": ("Pointer<Pointer<Void>>",) * 2, "class*": ("Pointer<_RawClass>",) * 2,
    "detection*": ("Pointer<_RawDetection>",) * 2, "int32_t*": ("Pointer<Int32>",) * 2, "double": ("Double", "double"),
    "const int32_t*": ("Pointer<Int32>",) * 2, "size_t*": ("Pointer<Size>",) * 2, "char*": ("Pointer<Utf8>",) * 2,
    "float*": ("Pointer<Float>",) * 2, "sampler*": ("Pointer<_Sampler>",) * 2,
    "const int64_t*": ("Pointer<Int64>",) * 2, "int64_t*": ("Pointer<Int64>",) * 2,
    "const tensor*": ("Pointer<_RawTensor>",) * 2,
    "on_token": ("Pointer<Void>",) * 2, "on_text": ("Pointer<Void>",) * 2,
    **dict.fromkeys(("void*", "const void*", "predictor*", "const predictor*"), ("Pointer<Void>",) * 2),
}  # fmt: skip
_TAKEN = frozenset(
    "abstract as assert async await base break case catch class const continue count covariant default deferred do "
    "dynamic else enum export extends extension external factory false final finally for function get height hide "
    "if implements import in interface is late library mixin new null on operator outputs part required rethrow "
    "return rgb sealed set show static super switch sync this throw true try typedef var void when while width with "
    "yield".split()
)

_SIZE = "_{}Of({}).ref.bytes ~/ {{each}}"
_INPUT, _OUTPUT = _SIZE.format("input", "_handle, {index}"), _SIZE.format("output", "_handle, {index}")
"""The sizes of an input and an output where there are several sets of shapes."""

_RESHAPE = """/// Gives `{name}` another shape, and all else what goes with it: {choice}. Any other throws
/// [ArgumentError].
void reshape{Name}(List<int> extents) => _chooseExtents({index}, extents, '{shown} can be {choice}');

/// The bytes of a predictor that takes no larger `{name}` than this. Throws [ArgumentError] for what it cannot be.
static int memoryFor{Name}(List<int> extents) => _memoryFor({index}, extents, '{shown} can be {choice}');"""


def _lookups(api: Api) -> str:
    out = []
    for f in api.functions:
        kinds = [_C_TYPES[kind] for _, kind in f.parameters]
        native, own = (
            textwrap.indent(
                wrapped(f"{_C_TYPES[f.returns][side]} Function({', '.join(k[side] for k in kinds)})"), "    "
            )
            for side in (0, 1)
        )
        out.append(f"final _{camel(f.name)} = _library.lookupFunction<\n{native},\n{own}>('{api.name}_{f.name}');")
    return "\n".join(out)


def _write(bundle: Bundle, folder: Path) -> None:
    api = bundle.api
    inputs = identifiers((t.name for t in api.inputs), camel, _TAKEN)
    outputs = identifiers((t.name for t in api.outputs), camel, _TAKEN)
    field = "final {type} {name}" if api.sets else "final {name} = {type}({size})"
    values = {
        **common(api, _OUTPUT),
        "reshapes": reshapes(_RESHAPE, api, inputs),
        "memory": "memory" if api.open else "0",
        "memory_docs": memory_docs("/// `memory`: {about}", "[memoryFor{Name}]", api, inputs),
        "shape_docs": sets(api, "/// - {number}: {shown}"),
        "make_fields": joined(
            lines("{name} = {type}({size})", api.outputs, outputs, _TYPES, _OUTPUT.replace("_handle", "handle")),
            ",\n        ",
        ),
        "new": "._(_handle)" if api.sets else "()",
        "library": str(bundle.library),
        "lookups": _lookups(api),
        "input_docs": lines("/// - [{name}]: {about}", api.inputs, inputs),
        "fields": lines(f"/// {{about}}\n{field};", api.outputs, outputs, _TYPES),
        "parameters": joined(lines("{type} {name}", api.inputs, inputs, _TYPES)),
        "arguments": ", ".join(inputs),
        "set_inputs": lines(
            "_set({index}, {name}, {size}, '{shown} ({kind})');",
            api.inputs,
            inputs,
            several=_INPUT,
        ),
        "get_outputs": lines("_get({index}, outputs.{name});", api.outputs, outputs),
    }
    texts = {"pubspec.yaml": "pubspec.yaml", f"lib/{api.name}.dart": "predictor.dart"}
    texts["lib/src/native.dart"] = "native.dart"
    texts |= {"lib/src/text.dart": "text.dart"} if "texts" in api.conditions else {}
    fill(__name__, folder, texts, api, values)
    copy(bundle, folder / "native", str(bundle.library))


BINDING = Binding("dart", "a package of dart:ffi", _write)

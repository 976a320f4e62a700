"""C#: a project that calls the shared library through P/Invoke."""

from __future__ import annotations

from pathlib import Path

from dlpack.bindings.api import Api
from dlpack.bindings.base import Binding, Bundle, copy, fill
from dlpack.bindings.text import camel, common, identifiers, joined, lines, memory_docs, pascal, reshapes, sets, wrapped

_TYPES = {
    "bool": "bool", "float32": "float", "float64": "double", "float16": "ushort", "bfloat16": "ushort",
    "int8": "sbyte", "uint8": "byte", "int16": "short", "uint16": "ushort", "int32": "int", "uint32": "uint",
    "int64": "long", "uint64": "ulong",
}  # fmt: skip
_C_TYPES = {
    "void": "void", "status": "int", "int32_t": "int", "size_t": "UIntPtr", "ptrdiff_t": "IntPtr", "void*": "IntPtr",
    "const void*": "IntPtr", "const char*": "IntPtr", "const uint8_t*": "byte[]", "predictor*": "Handle",
    "const predictor*": "Handle", "predictor**": "out Handle", "class*": "[Out] RawClass[]",
    "detection*": "[Out] RawDetection[]", "int32_t*": "out int", "double": "double", "const int32_t*": "int[]",
    "size_t*": "out UIntPtr", "char*": "[Out] byte[]", "float*": "[Out] float[]", "sampler*": "ref RawSampler",
    "const int64_t*": "long[]", "int64_t*": "IntPtr", "on_token": "OnToken", "on_text": "OnText",
    "const tensor*": "IntPtr",
}  # fmt: skip
_TAKEN = frozenset(
    "abstract as base bool break byte case catch char checked class const continue decimal default delegate do double "
    "else enum event explicit extern false finally fixed float for foreach goto if implicit in int interface internal "
    "is lock long namespace new null object operator out override params private protected public readonly ref return "
    "sbyte sealed short sizeof stackalloc static string struct switch this throw true try typeof uint ulong unchecked "
    "unsafe ushort using virtual void volatile while rgb width height count handle library turn "
    "outputs".split()
)

_INPUT, _OUTPUT = "InputBytes({index}) / {each}", "OutputBytes({index}) / {each}"
"""The sizes of an input and an output where there are several sets of shapes."""

_RESHAPE = """/// <summary>Gives {name} another shape, and all else what goes with it: {choice}.</summary>
/// <exception cref="ArgumentException">It is none of these.</exception>
public void Reshape{Name}(params long[] extents) => Reshape({index}, extents, "{shown} can be {choice}");

/// <summary>The bytes of a predictor that takes no larger {name} than this, for <c>memory</c>.</summary>
/// <exception cref="ArgumentException">It is none that {name} can be.</exception>
public static long MemoryFor{Name}(params long[] extents) => Memory({index}, extents, "{shown} can be {choice}");"""


def _declarations(api: Api) -> str:
    out = []
    for f in api.functions:
        types = {**_C_TYPES, "const char*": "byte[]"}  # a path in UTF-8
        if f.name == "destroy":
            types["predictor*"] = "IntPtr"  # the handle itself is being released
        if f.name in ("generate", "write"):  # what they give comes to functions, and nothing is written
            types |= {"char*": "IntPtr", "size_t*": "IntPtr"}
        if f.name == "tokenize":
            types["int32_t*"] = "[Out] int[]"
        parameters = ", ".join(f"{types[kind]} {camel(name)}" for name, kind in f.parameters)
        out.append(f"[DllImport(Library)] static extern {_C_TYPES[f.returns]} {api.name}_{f.name}({parameters});")
    return "\n".join(map(wrapped, out))


def _write(bundle: Bundle, folder: Path) -> None:
    api = bundle.api
    inputs = identifiers((t.name for t in api.inputs), camel, _TAKEN)
    outputs = identifiers(
        (t.name for t in api.outputs), pascal, ("Outputs", "Equals", "GetHashCode", "GetType", "ToString")
    )
    made = "" if api.sets else " = new {type}[{size}]"
    values = {
        **common(api, _OUTPUT),
        "reshapes": reshapes(_RESHAPE, api, inputs),
        "memory_docs": memory_docs('/// <param name="memory">{about}</param>', "<c>MemoryFor{Name}</c>", api, inputs),
        "shape_docs": sets(api, "/// <para>{number}: {shown}</para>"),
        "shape": "this" if api.sets else "",
        "library": str(bundle.library),
        "declarations": _declarations(api),
        "input_docs": lines('/// <param name="{name}">{about}</param>', api.inputs, inputs),
        "fields": lines(
            f"/// <summary>{{about}}</summary>\npublic readonly {{type}}[] {{name}}{made};",
            api.outputs,
            outputs,
            _TYPES,
        ),
        "make_fields": lines("{name} = new {type}[{size}];", api.outputs, outputs, _TYPES, f"of.{_OUTPUT}"),
        "parameters": joined(lines("{type}[] {name}", api.inputs, inputs, _TYPES)),
        "arguments": ", ".join(inputs),
        "set_inputs": lines('Set({index}, {name}, {size}, "{shown} ({kind})");', api.inputs, inputs, several=_INPUT),
        "get_outputs": lines("Get({index}, outputs.{name});", api.outputs, outputs),
    }
    texts = {"Predictor.cs": "Predictor.cs", "Native.cs": "Native.cs", f"{values['Name']}.csproj": "project.xml"}
    texts |= {"Text.cs": "Text.cs"} if "texts" in api.conditions else {}
    fill(__name__, folder, texts, api, values)
    copy(bundle, folder, str(bundle.library))


BINDING = Binding("csharp", "a project of P/Invoke", _write)

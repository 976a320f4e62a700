"""Lua: a module for LuaJIT, whose FFI calls the shared library."""

from __future__ import annotations

from pathlib import Path

from dlpack.bindings.api import Api
from dlpack.bindings.base import Binding, Bundle, copy, fill, part
from dlpack.bindings.text import common, lines, literal, sets, wrapped

_TYPES = {
    "bool": "bool", "float32": "float", "float64": "double", "float16": "uint16_t", "bfloat16": "uint16_t",
    **{f"{u}int{b}": f"{u}int{b}_t" for u in ("", "u") for b in (8, 16, 32, 64)},
}  # fmt: skip


def _declarations(api: Api) -> str:
    """The C declarations, as NAME.h has them."""

    def c_type(kind: str) -> str:
        for own in ("predictor", "tensor", "class", "detection", "sampler", "on_token", "on_text"):
            kind = kind.replace(own, f"{api.name}_{own}")
        return kind.replace("status", "int32_t")

    out = []
    for f in api.functions:
        parameters = ", ".join(f"{c_type(kind)} {name}" for name, kind in f.parameters)
        out.append(f"{c_type(f.returns)} {api.name}_{f.name}({parameters});")
    return "\n".join(map(wrapped, out))


def _write(bundle: Bundle, folder: Path) -> None:
    api = bundle.api
    names = [t.name for t in (*api.inputs, *api.outputs)]
    inputs, outputs = names[: len(api.inputs)], names[len(api.inputs) :]
    size = "" if api.sets else ", size = {size}"
    table = f'{{{{ name = {{literal}}, type = "{{type}}", kind = "{{kind}}"{size}'
    shapes = ', shapes = "{choice}"' if api.open else ""
    values = {
        **common(api, f"size(C.{api.name}_output_of(handle, {{index}}), OUTPUTS[{{index}} + 1])"),
        "input_size": f"size(C.{api.name}_input_of(handle, i - 1), input)" if api.sets else "input.size",
        "output_size": f"size(C.{api.name}_output_of(handle, i - 1), output)" if api.sets else "output.size",
        "how": "how" if api.open else "",
        "more_how": ", how" if api.open else "",
        "memory": "memory_for(how)" if api.open else "0",
        "shape_docs": sets(api, "-- - {number}: {shown}"),
        "library": str(bundle.library),
        "declarations": _declarations(api),
        "inputs": lines(table + shapes + " }},", api.inputs, inputs, _TYPES),
        "outputs": lines(table + " }},", api.outputs, outputs, _TYPES),
        "input_docs": lines("-- - {shown}: {about}", api.inputs, inputs),
        "known": ", ".join(f"[{literal(name)}] = true" for name in inputs),
        "output_docs": lines("-- - {shown}: {about}", api.outputs, outputs),
    }
    values["text_functions"] = part(__name__, "text.lua", api, values)
    rockspec = f"{api.name.replace('_', '-')}-{values['version']}-1.rockspec"
    values["rock"] = api.name.replace("_", "-")
    texts = {f"{api.name}.lua": "predictor.lua", f"{api.name}_c.lua": "c.lua", rockspec: "rockspec.lua"}
    fill(__name__, folder, texts, api, values)
    copy(bundle, folder, str(bundle.library))


BINDING = Binding("lua", "a module for LuaJIT", _write)

"""Rust: a crate that compiles NAME.cc with the C++ compiler of the one who builds it."""

from __future__ import annotations

from pathlib import Path

from dlpack.bindings.api import Api
from dlpack.bindings.base import Binding, Bundle, copy, fill
from dlpack.bindings.text import common, identifiers, joined, lines, memory_docs, reshapes, sets, snake, wrapped

_TYPES = {
    "bool": "bool", "float32": "f32", "float64": "f64", "float16": "u16", "bfloat16": "u16",
    **{f"{u}int{b}": f"{u or 'i'}{b}" for u in ("", "u") for b in (8, 16, 32, 64)},
}  # fmt: skip
_C_TYPES = {
    "void": "()", "status": "i32", "int32_t": "i32", "size_t": "usize", "ptrdiff_t": "isize", "void*": "*mut c_void",
    "const void*": "*const c_void", "const char*": "*const c_char", "const uint8_t*": "*const u8",
    "predictor*": "*mut Handle", "const predictor*": "*const Handle", "predictor**": "*mut *mut Handle",
    "class*": "*mut RawClass", "detection*": "*mut RawDetection", "int32_t*": "*mut i32", "double": "f64",
    "const int32_t*": "*const i32", "size_t*": "*mut usize", "char*": "*mut c_char", "float*": "*mut f32",
    "sampler*": "*mut RawSampler", "const int64_t*": "*const i64", "int64_t*": "*mut i64", "on_token": "OnToken",
    "on_text": "OnText", "const tensor*": "*const RawTensor",
}  # fmt: skip
_TAKEN = frozenset(
    "as async await box break const continue crate do dyn else enum extern false final fn for if impl in let loop "
    "macro match mod move mut override priv pub ref return self static struct super trait true try type typeof union "
    "unsafe unsized use virtual where while yield abstract become count rgb width height check".split()
)

_SIZE = "unsafe {{{{ (*{}_of(self.0, {{index}})).bytes }}}} / {{each}}"
"""The size of an input or output where there are several sets of shapes."""


_RESHAPE = """/// Gives `{name}` another shape, and all else what goes with it: {choice}. Fails for any other.
pub fn reshape_{name}(&mut self, extents: &[i64]) -> Result<(), Error> {{
    self.reshape({index}, extents, "{shown} can be {choice}")
}}

/// The bytes of a predictor that takes no larger `{name}` than this.
pub fn memory_for_{name}(extents: &[i64]) -> Result<usize, Error> {{
    Self::memory({index}, extents, "{shown} can be {choice}")
}}"""


def _declarations(api: Api) -> str:
    out = []
    for f in api.functions:
        parameters = ", ".join(f"{name}: {_C_TYPES[kind]}" for name, kind in f.parameters)
        result = "" if f.returns == "void" else f" -> {_C_TYPES[f.returns]}"
        out.append(f"pub fn {api.name}_{f.name}({parameters}){result};")
    return "\n".join(map(wrapped, out))


def _write(bundle: Bundle, folder: Path) -> None:
    api = bundle.api
    inputs = identifiers((t.name for t in api.inputs), snake, _TAKEN)
    outputs = identifiers((t.name for t in api.outputs), snake, _TAKEN)
    values = {
        **common(api, _SIZE.format(f"{api.name}_output")),
        "declarations": _declarations(api),
        "flag_list": ", ".join(f'"{flag}"' for flag in api.flags.split()),
        "input_docs": lines("/// - `{name}`: {about}", api.inputs, inputs),
        "memory": "memory" if api.open else "0",
        "memory_docs": memory_docs("{about}", "`memory_for_{name}`", api, inputs),
        "shape_docs": sets(api, "/// - {number}: {shown}"),
        "reshapes": reshapes(_RESHAPE, api, inputs),
        "fields": lines("/// {about}\npub {name}: Vec<{type}>,", api.outputs, outputs, _TYPES),
        "parameters": joined(lines("{name}: &[{type}]", api.inputs, inputs, _TYPES)),
        "arguments": ", ".join(inputs),
        "set_inputs": lines(
            'self.set({index}, {name}, {size}, "{shown} ({kind})")?;',
            api.inputs,
            inputs,
            several=_SIZE.format(f"{api.name}_input"),
        ),
        "get_outputs": lines(
            "{name}: self.get({index}, {size})?,", api.outputs, outputs, several=_SIZE.format(f"{api.name}_output")
        ),
    }
    texts = {
        "Cargo.toml": "Cargo.toml.txt",
        "build.rs": "build.rs",
        "src/lib.rs": "lib.rs",
        "src/native.rs": "native.rs",
    }
    texts |= {"src/text.rs": "text.rs"} if "texts" in api.conditions else {}
    fill(__name__, folder, texts, api, values)
    copy(bundle, folder / "src", api.source)


BINDING = Binding("rust", "a crate", _write, needs_library=False)

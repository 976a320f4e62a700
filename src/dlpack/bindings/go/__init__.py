"""Go: a module whose package compiles NAME.cc through cgo."""

from __future__ import annotations

from pathlib import Path

from dlpack.bindings.base import Binding, Bundle, copy, fill
from dlpack.bindings.text import camel, common, identifiers, joined, lines, memory_docs, pascal, reshapes, sets

_TYPES = {
    "bool": "bool", "float32": "float32", "float64": "float64", "float16": "uint16", "bfloat16": "uint16",
    **{f"{u}int{b}": f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)},
}  # fmt: skip
_TAKEN = frozenset(_TYPES.values()) | frozenset(
    "break case chan const continue default defer else fallthrough for func go goto if import interface map package "
    "range return select struct switch type var append bool byte cap close len make new nil string error true false "
    "int p out err rgb width height count runtime unsafe sync fmt "
    "set get check errors strconv found label".split()
)


_RESHAPE = """// Reshape{Name} gives {name} another shape, and all else what goes with it: {choice}. Any other is
// an error.
func (p *Predictor) Reshape{Name}(extents ...int64) error {{
	return p.reshape({index}, extents, "{shown} can be {choice}")
}}

// MemoryFor{Name} gives the bytes of a predictor that takes no larger {name} than this, for NewWithin.
func MemoryFor{Name}(extents ...int64) (uint64, error) {{
	return memoryFor({index}, extents, "{shown} can be {choice}")
}}"""


def _write(bundle: Bundle, folder: Path) -> None:
    api = bundle.api
    inputs = identifiers((t.name for t in api.inputs), camel, _TAKEN)
    outputs = identifiers((t.name for t in api.outputs), pascal, ())
    count = f"int(C.{api.name}_output_of(p.handle, {{index}}).bytes) / {{each}}"
    size = "" if api.sets else ", {size}"
    values = {
        **common(api, count),
        "reshapes": reshapes(_RESHAPE, api, inputs),
        "memory_docs": memory_docs(
            "// NewWithin makes a predictor within memory. {about}", "MemoryFor{Name}", api, inputs
        ),
        "shape_docs": sets(api, "//   - {number}: {shown}"),
        "cgo_flags": api.flags.replace(" -fno-unroll-loops", ""),  # which cgo does not let pass
        "input_docs": lines("//   - {name}: {about}", api.inputs, inputs),
        "fields": lines("// {name} is {about}.\n{name} []{type}", api.outputs, outputs, _TYPES),
        "parameters": joined(lines("{name} []{type}", api.inputs, inputs, _TYPES)),
        "arguments": ", ".join(inputs),
        "set_inputs": lines('set(p, {index}, {name}, "{shown} ({kind})"' + size + "),", api.inputs, inputs),
        "get_outputs": lines("get(p, {index}, &out.{name}" + size + "),", api.outputs, outputs),
    }
    conditions = api.conditions
    if conditions & {"shapes", "threads", "pictures"}:
        conditions |= {"fmt"}
    if conditions & {"side", "pictures"}:
        conditions |= {"unsafe"}
    texts = {"go.mod": "go.mod.txt", f"{api.name}.go": "predictor.go", "native.go": "native.go"}
    texts |= {"text.go": "text.go"} if "texts" in api.conditions else {}
    fill(__name__, folder, texts, api, values, conditions)
    copy(bundle, folder, api.source, api.header)


BINDING = Binding("go", "a module of cgo", _write, needs_library=False)

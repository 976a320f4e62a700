"""R: a source package; R compiles NAME.cc and what .Call calls when it installs it."""

from __future__ import annotations

import re
from pathlib import Path

from dlpack.bindings.api import Api, Tensor
from dlpack.bindings.base import Binding, Bundle, copy, fill, part
from dlpack.bindings.text import class_count, common, joined, lines, literal, sets
from dlpack.errors import UsageError

_C_TYPES = {
    "bool": "uint8_t", "float32": "float", "float64": "double", "int8": "int8_t", "uint8": "uint8_t",
    "int16": "int16_t", "uint16": "uint16_t", "int32": "int32_t", "uint32": "uint32_t", "int64": "int64_t",
    "uint64": "uint64_t", "float16": "uint16_t", "bfloat16": "uint16_t",
}  # fmt: skip


def _write(bundle: Bundle, folder: Path) -> None:
    api = bundle.api
    package = re.sub("_+", ".", api.name).strip(".")
    if len(package) < 2:
        raise UsageError("--binding r: R wants a package's name to have two letters; give the bundle one with --name")
    names = [t.name for t in (*api.inputs, *api.outputs)]
    inputs, outputs = names[: len(api.inputs)], names[len(api.inputs) :]
    own = "INPUTS[[k]]"
    values = {
        **common(api),
        "class_count": class_count(api, "prod(.Call(c_output_of, predictor$handle, {index}L))"),
        "input_shape": f"c(.Call(c_input_of, predictor$handle, k - 1L), {own})" if api.sets else own,
        "output_shape": "c(.Call(c_output_of, predictor$handle, k - 1L), OUTPUTS[[k]])" if api.sets else "OUTPUTS[[k]]",
        "shapes": joined(lines('"{choice}"', api.inputs, inputs)),
        "memory": "static_cast<size_t>(Rf_asReal(memory))" if api.open else "0",
        "memory_parameter": ", SEXP memory" if api.open else "",
        "only_memory": "SEXP memory" if api.open else "",
        "shape_docs": sets(api, "#' - {number}: {shown}"),
        "package": package,
        "r_symbol": package.replace(".", "_"),
        "input_docs": lines("#' - {shown}: {about}", api.inputs, inputs),
        "output_docs": lines("#' - {shown}: {about}", api.outputs, outputs),
        "inputs": _shapes(api.inputs),
        "outputs": _shapes(api.outputs),
        "to_c": lines("case {index}: data = values::given<{type}>(elements); break;", api.inputs, inputs, _C_TYPES),
        "from_c": lines("case {index}: return values::taken<{type}>(size, get);", api.outputs, outputs, _C_TYPES),
    }
    texts = {
        "DESCRIPTION": "DESCRIPTION.txt",
        "NAMESPACE": "NAMESPACE.txt",
        "R/predictor.R": "predictor.R",
        "src/binding.cc": "binding.cc",
        "src/values.h": "values.h",
        "src/Makevars": "Makevars.txt",
    }
    texts |= {"R/text.R": "text.R"} if "texts" in api.conditions else {}
    values["text_calls"] = part(__name__, "text.cc", api, values)
    values["methods"] = "\n".join(f'values::method("c_{name}", {name}),' for name in _methods(api))
    fill(__name__, folder, texts, api, values)
    copy(bundle, folder / "src", api.source, api.header)


def _methods(api: Api) -> list[str]:
    """The functions of binding.cc that R calls."""
    renamed = {
        "create_from_file": "create",
        "create_from_file_within": "create",
        "run": "compute",
        "preprocess_rgb": "preprocess",
    }
    hidden = ("error_text", "rewind", "write")  # generate() calls what writes
    return [renamed.get(f.name, f.name) for f in api.functions if f.name not in hidden]


def _shapes(tensors: tuple[Tensor, ...]) -> str:
    """An entry per tensor of a list: its name and its dimensions, of several sets of shapes those that C has not."""
    entries = []
    for t in tensors:
        shape = t.width if t.shapes else t.shape or (1,)
        entries.append(f"{literal(t.name)} = c({', '.join(f'{d}L' for d in shape)})")
    return ",\n".join(entries)


BINDING = Binding("r", "a source package", _write, needs_library=False)

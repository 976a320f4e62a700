"""Julia: a package that calls the shared library."""

from __future__ import annotations

import uuid
from pathlib import Path

from dlpack.bindings.base import Binding, Bundle, copy, fill
from dlpack.bindings.text import class_count, common, lines, literal, sets

_TYPES = {
    "bool": "Bool", "float32": "Float32", "float64": "Float64", "float16": "Float16", "bfloat16": "UInt16",
    **{f"{u}int{b}": f"{'UInt' if u else 'Int'}{b}" for u in ("", "u") for b in (8, 16, 32, 64)},
}  # fmt: skip


def _write(bundle: Bundle, folder: Path) -> None:
    api = bundle.api

    def table(side: str) -> str:
        tensors, open_ = getattr(api, side), api.open and side == "inputs"
        types = lines("{type}", tensors, [t.name for t in tensors], _TYPES).splitlines()
        told = lines('"{choice}"', tensors, [t.name for t in tensors]).splitlines()
        dims = [str(t.width if api.sets else t.shape) for t in tensors]
        shapes = [f"{d}, {words}" if open_ else d for d, words in zip(dims, told, strict=True)]
        return "\n".join(
            f"{literal(t.name)} => ({kind}, {shape})," for t, kind, shape in zip(tensors, types, shapes, strict=True)
        )

    offered = (
        ("classify", api.classes), ("detect", api.boxes), ("set_shape", api.sets), ("set_threads", api.threads > 1),
        ("set_shape_of", api.open), ("shape", api.sets), ("tokenize", api.texts.bytes), ("detokenize", api.texts.bytes),
        ("embed", api.texts.embedding), ("generate", api.texts.context), ("FullError", api.texts.context),
        ("write_text", api.texts.bytes and api.texts.context),
    )  # fmt: skip
    names = [t.name for t in (*api.inputs, *api.outputs)]
    values = {
        **common(api),
        "class_count": class_count(api, "prod(output_shape(handle, {index}))"),
        "exports": ", ".join(["Predictor", *(name for name, there in offered if there)]),
        "memory": "memory_for(largest)" if api.open else "0",
        "largest_parameter": "; largest = ()" if api.open else "",
        "shape_docs": sets(api, "- {number}: {shown}"),
        "library": str(bundle.library),
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"dlpack:{api.name}:{api.about}")),
        "inputs": table("inputs"),
        "outputs": table("outputs"),
        "input_docs": lines("- `{shown}`: {about}", api.inputs, names[: len(api.inputs)]),
        "output_docs": lines("- `{shown}`: {about}", api.outputs, names[len(api.inputs) :]),
    }
    texts = {"Project.toml": "Project.toml.txt", f"src/{values['Name']}.jl": "predictor.jl"}
    texts |= {"src/text.jl": "text.jl"} if "texts" in api.conditions else {}
    fill(__name__, folder, texts, api, values)
    copy(bundle, folder / "lib", str(bundle.library))


BINDING = Binding("julia", "a package", _write)

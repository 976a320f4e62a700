"""A TorchScript archive read without torch.jit.load: its objects, its weights and its code as a syntax tree.

torch.jit.load and the exporter for its result are deprecated, and TorchScript can access files. So the code is
interpreted here (`interpreter.py`) and PyTorch traces it anew: control flow over shapes is gone afterwards.
Format: torch/csrc/jit/serialization (the python_print of PyTorch 1.4 to 2.13).
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dlpack.errors import ModelError, UnsupportedError
from dlpack.exporters.pytorch.files import Archive, Foreign, Object, TensorRef, check_view, read_pickle, refuse_pickle
from dlpack.exporters.pytorch.framework import import_torch, tensor_from

MAX_CODE_BYTES = 16 << 20
MAX_DEPTH = 60


@dataclass
class Script:
    """An archive's code and its root object; `tensors` holds every tensor by its place in the object tree."""

    archive: Archive
    root: Object
    constants: Sequence[Any]
    tensors: dict[str, Any] = field(default_factory=dict)
    places: dict[TensorRef, str] = field(default_factory=dict)
    definitions: dict[str, dict[str, ast.AST]] = field(default_factory=dict)

    def definition(self, name: str) -> ast.AST:
        """The class or function of a qualified name. Raises ModelError."""
        module, _, short = name.rpartition(".")
        if module not in self.definitions:
            record = f"code/{module.replace('.', '/')}.py"
            data = self.archive.read(record, MAX_CODE_BYTES)
            try:
                tree = ast.parse(data.decode("utf-8"))
            except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
                raise ModelError(f"the code in '{record}' is damaged ({e}); save the model again") from None
            self.definitions[module] = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        found = self.definitions[module].get(short)
        if found is None:
            raise ModelError(f"the archive has no definition of '{name}'; save the model again")
        return found

    def method(self, type_name: str, name: str) -> ast.FunctionDef | None:
        node = self.definition(type_name)
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == name:
                    return item
        return None


def is_script(archive: Archive) -> bool:
    return "constants.pkl" in archive or any(n.startswith("code/") for n in archive)


def read_script(archive: Archive) -> Script:
    """Reads the objects, the weights and the entry's code. Raises ModelError, UsageError."""
    archive.check_byte_order()
    try:
        root = read_pickle(archive.read("data.pkl"), "data.pkl")
        constants = read_pickle(archive.read("constants.pkl"), "constants.pkl") if "constants.pkl" in archive else ()
    except Foreign as e:
        if str(e).endswith("__setstate__") or str(e).startswith("__torch__.torch.classes"):
            raise UnsupportedError(
                f"the model holds an object that is restored by code of its own ({e}), such as packed quantised "
                "weights; export the float model"
            ) from None
        raise refuse_pickle([str(e)]) from None
    if not isinstance(root, Object) or not isinstance(constants, tuple | list):
        raise ModelError("data.pkl holds no TorchScript module; save the model again")
    script = Script(archive, root, constants)
    if script.method(root.type, "forward") is None:
        raise ModelError("the module has no method forward; save the model again")
    _collect(script, root, "", set(), 0)
    for k, value in enumerate(constants):
        if isinstance(value, TensorRef):
            _add(script, value, f"constants.{k}", "constants/")
    return script


def _collect(script: Script, item: Any, place: str, seen: set[int], depth: int) -> None:
    """Collects every tensor below `item`, attributes of modules first."""
    if depth > MAX_DEPTH:
        raise ModelError(f"the modules nest more than {MAX_DEPTH} deep")
    if isinstance(item, TensorRef):
        _add(script, item, place, "data/")
        return
    if id(item) in seen:
        return
    seen.add(id(item))
    children: list[tuple[Any, Any]] = []
    if isinstance(item, Object):
        children = sorted(item.attributes.items(), key=lambda kv: not isinstance(kv[1], TensorRef | Object))
        item.attributes["training"] = False
    elif isinstance(item, list | tuple):
        children = list(enumerate(item))
    elif isinstance(item, dict):
        children = list(item.items())
    for key, value in children:
        if isinstance(value, TensorRef | Object | list | tuple | dict):
            _collect(script, value, f"{place}.{key}" if place else str(key), seen, depth + 1)


def _add(script: Script, ref: TensorRef, place: str, folder: str) -> None:
    if ref in script.places and (folder == "data/" or script.places[ref].startswith("constants.")):
        return
    torch = import_torch()
    record = f"{folder}{ref.record}"
    raw = script.archive.read(record if record in script.archive else ref.record)
    check_view(f"the weight '{place}'", len(raw), getattr(torch, ref.dtype).itemsize, ref)
    tensor = tensor_from(raw, ref.dtype, ref.offset, ref.size, ref.stride)
    script.tensors[place] = tensor
    script.places[ref] = place


@dataclass(frozen=True)
class ScriptInput:
    """A parameter of forward: its name, and its shape and type if the archive states them (traced models)."""

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    optional: bool


def script_inputs(script: Script) -> list[ScriptInput]:
    """The tensors that forward takes. Raises UnsupportedError for other parameters."""
    forward = script.method(script.root.type, "forward")
    assert forward is not None
    formals = forward.args.args[1:]
    first_default = len(formals) - len(forward.args.defaults)
    traced = _traced(script.archive)
    found = []
    for k, formal in enumerate(formals):
        kind = ast.unparse(formal.annotation) if formal.annotation else "Tensor"
        if kind not in ("Tensor", "Optional[Tensor]"):
            if k >= first_default:
                continue
            raise UnsupportedError(f"forward's parameter '{formal.arg}' is a {kind}; only tensors can be inputs")
        ref = traced[k] if k < len(traced) else None
        optional = k >= first_default or kind != "Tensor"
        if isinstance(ref, TensorRef):
            found.append(ScriptInput(formal.arg, ref.size, ref.dtype, optional))
        else:
            found.append(ScriptInput(formal.arg, None, "float32", optional))
    return found


def _traced(archive: Archive) -> Sequence[Any]:
    if "traced_inputs.pkl" not in archive:
        return ()
    try:
        value = read_pickle(archive.read("traced_inputs.pkl"), "traced_inputs.pkl")
    except Foreign:
        return ()
    inputs = value.get("forward") if isinstance(value, dict) else None
    return inputs if isinstance(inputs, list | tuple) else ()

"""A torch.export archive (.pt2) read without torch.export.load, which unpickles and evaluates the file's content.

The archive's JSON lists calls of ATen operators. They are checked against an allowlist and replayed in a module
that PyTorch then traces anew, so shapes that the file leaves open take the values given with `--shape`.
Format: torch/_export/serde/schema.py and torch/export/pt2_archive of PyTorch 2.1 to 2.13.
"""

from __future__ import annotations

import io
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import parse_json
from dlpack.exporters.pytorch.files import Archive, Foreign, TensorRef, check_view, read_pickle, refuse_pickle
from dlpack.exporters.pytorch.framework import attach, import_torch, tensor_from

OLD_PROGRAM = "serialized_exported_program.json"
DTYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
          12: "bool", 13: "bfloat16"}  # fmt: skip
_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
_ARITHMETIC = {f"_operator.{f.__name__}": f for f in (
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.neg,
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.and_, operator.or_,
    operator.not_, operator.getitem, operator.pos,
)} | {f"math.{f.__name__}": f for f in (math.ceil, math.floor, math.trunc, math.sqrt)} | {
    "torch.sym_int": int, "torch.sym_float": float, "torch.sym_max": max, "torch.sym_min": min,
    "torch.sym_not": operator.not_,
}  # fmt: skip
_FILES = ("from_file", "save")  # ATen's operators that touch files


@dataclass(frozen=True)
class Input:
    """An input tensor; dimensions that the file leaves open are None in `shape`."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    hint: tuple[int, ...]


@dataclass(frozen=True)
class ExportedProgram:
    """The content of a .pt2 file: the graph as JSON data, and where its arguments come from."""

    graph: dict[str, Any]
    signature: dict[str, Any]
    tensors: dict[str, Any]
    inputs: tuple[Input, ...]


def is_program(archive: Archive) -> bool:
    return OLD_PROGRAM in archive or any(n.startswith("models/") or n == "archive_format" for n in archive)


def read_program(archive: Archive) -> ExportedProgram:
    """Reads and checks everything but the operators. Raises ModelError, UsageError."""
    archive.check_byte_order()
    if OLD_PROGRAM in archive:
        name, tensors = OLD_PROGRAM, _old_tensors(archive)
    else:
        name = next((n for n in archive if n.startswith("models/") and n.endswith(".json")), "")
        if not name:
            raise UsageError(
                "this .pt2 holds compiled code, not a program; make one with torch.export.save(program, 'model.pt2')"
            )
        model = name.removeprefix("models/").removesuffix(".json")
        tensors = _tensors(archive, "weights", model) | _tensors(archive, "constants", model)
    document = parse_json(archive.text(name), name)
    try:
        module = document["graph_module"]
        graph, signature = module["graph"], module["signature"]
        return ExportedProgram(graph, signature, tensors, tuple(_inputs(graph, signature)))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as e:
        raise _damaged(e) from None


def _damaged(error: Exception) -> ModelError:
    what = f"{type(error).__name__}: {error}"
    return ModelError(f"the program is damaged, or of a version that is not known ({what}); export and save it again")


def _tensors(archive: Archive, kind: str, model: str) -> dict[str, Any]:
    """The weights or constants: a raw record each, named in a JSON file."""
    whole = f"data/{kind}/{model}.pt"
    if whole in archive:  # torch 2.8
        return _pickled(archive.read(whole))
    config = f"data/{kind}/{model}_{kind}_config.json"
    try:
        entries = parse_json(archive.text(config), config)["config"]
        found: dict[str, Any] = {}
        for name, entry in entries.items():
            record = f"data/{kind}/{entry['path_name']}"
            if entry["use_pickle"]:
                value = _pickled(archive.read(record))
                found[str(name)] = value.get("", value)
                continue
            meta = entry["tensor_meta"]
            size, stride = ([_int(v) for v in meta[k]] for k in ("sizes", "strides"))
            ref = TensorRef(record, DTYPES[meta["dtype"]], _int(meta["storage_offset"]), tuple(size), tuple(stride))
            found[str(name)] = _tensor(archive.read(record), ref, str(name))
        return found
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as e:
        raise _damaged(e) from None


def _old_tensors(archive: Archive) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("state_dict", "constants"):
        for suffix in ("json", "pt"):
            if (name := f"serialized_{kind}.{suffix}") in archive and (data := archive.read(name)):
                found |= _pickled(data)
    return found


def _pickled(data: bytes) -> dict[str, Any]:
    """A torch.save file inside the archive: a dict of tensors, or one tensor, which gets the name ""."""
    inner = Archive(io.BytesIO(data))
    inner.check_byte_order()
    try:
        value = read_pickle(inner.read("data.pkl"), "data.pkl")
    except Foreign as e:
        raise refuse_pickle([str(e)]) from None
    entries = value if isinstance(value, dict) else {"": value}
    found = {}
    for name, ref in entries.items():
        if not isinstance(ref, TensorRef):
            raise UnsupportedError(f"the archive's entry '{name}' is not a plain tensor")
        found[str(name)] = _tensor(inner.read(f"data/{ref.record}"), ref, str(name))
    return found


def _tensor(raw: bytes, ref: TensorRef, name: str) -> Any:
    torch = import_torch()
    check_view(f"the weight '{name}'", len(raw), getattr(torch, ref.dtype).itemsize, ref)
    return tensor_from(raw, ref.dtype, ref.offset, ref.size, ref.stride)


def _int(value: Mapping[str, Any]) -> int:
    return int(value["as_int"])


def _inputs(graph: Mapping[str, Any], signature: Mapping[str, Any]) -> Iterator[Input]:
    for spec in signature["input_specs"]:
        if (user := spec.get("user_input")) and (tensor := user["arg"].get("as_tensor")):
            name = str(tensor["name"])
            meta = graph["tensor_values"][name]
            shape = tuple(int(v["as_int"]) if "as_int" in v else None for v in meta["sizes"])
            hint = tuple(_hint(v) for v in meta["sizes"])
            yield Input(name, DTYPES[meta["dtype"]], shape, hint)


def _hint(size: Mapping[str, Any]) -> int:
    if "as_int" in size:
        return int(size["as_int"])
    hint = size["as_expr"].get("hint") or {}
    return int(hint.get("as_int", 1))


def module_of(program: ExportedProgram) -> Any:
    """A torch.nn.Module that computes the program. Raises UnsupportedError that lists all forbidden operators."""
    torch = import_torch()
    problems: dict[str, None] = {}
    try:
        targets = [str(node["target"]) for node in _nodes(program.graph)]
    except (KeyError, TypeError) as e:
        raise _damaged(e) from None
    for target in targets:
        if _function(target) is None and target != "torch.ops.higher_order.wrap_with_set_grad_enabled":
            problems[f"the operator {target}"] = None
    if problems:
        raise UnsupportedError("the program calls what is not part of an inference graph:", tuple(problems))

    class Replay(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def forward(self, *given: Any) -> tuple[Any, ...]:
            values = dict(self.named_buffers(remove_duplicate=False))
            try:
                return _replay(program, given, values)
            except (KeyError, AttributeError, IndexError) as e:
                raise _damaged(e) from e

    module = Replay()
    for name, tensor in program.tensors.items():
        attach(module, name, tensor)
    return module


def _nodes(graph: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for node in graph["nodes"]:
        yield node
        for argument in node["inputs"]:
            if isinstance(argument["arg"], dict) and "as_graph" in argument["arg"]:
                yield from _nodes(argument["arg"]["as_graph"]["graph"])


def _function(target: str) -> Any:
    """The function of an allowed target: an ATen operator without access to files, or arithmetic of shapes."""
    torch = import_torch()
    if target in _ARITHMETIC:
        return _ARITHMETIC[target]
    parts = target.split(".")
    if len(parts) != 5 or parts[:3] != ["torch", "ops", "aten"] or parts[3] in _FILES:
        return None
    packet = getattr(torch.ops.aten, parts[3], None)
    overload = getattr(packet, parts[4], None)
    return overload if isinstance(overload, torch._ops.OpOverload) else None


def _replay(program: ExportedProgram, given: Sequence[Any], tensors: Mapping[str, Any]) -> tuple[Any, ...]:
    values: dict[str, Any] = {}
    remaining = iter(given)
    for spec in program.signature["input_specs"]:
        ((kind, body),) = spec.items()
        if kind == "user_input":
            if "as_tensor" in body["arg"]:
                values[body["arg"]["as_tensor"]["name"]] = next(remaining)
        elif kind in ("parameter", "buffer", "tensor_constant"):
            values[body["arg"]["name"]] = tensors[body[f"{kind}_name"]]
        elif kind != "constant_input":
            raise UnsupportedError(f"the program has an input of the kind {kind}")
    results = _run(program.graph, values)
    specs = program.signature["output_specs"]
    return tuple(r for r, spec in zip(results, specs, strict=True) if "user_output" in spec and r is not None)


def _run(graph: Mapping[str, Any], values: dict[str, Any]) -> list[Any]:
    for node in graph["nodes"]:
        function = _function(node["target"])
        if function is None:
            results = _run_without_grad(node, values)
        else:
            args, kwargs = _arguments(function, node["inputs"], values)
            results = function(*args, **kwargs)
        outputs = node["outputs"]
        if not outputs:  # an assertion
            continue
        if len(outputs) == 1 and "as_tensors" in outputs[0]:
            outputs = [{"as_tensor": t} for t in outputs[0]["as_tensors"]]
        elif len(outputs) == 1 and node.get("is_hop_single_tensor_return") is not False:
            results = [results]
        for output, result in zip(outputs, results, strict=False):
            ((_, body),) = output.items()
            if isinstance(body, dict) and (name := body.get("name") or body.get("as_name")):
                values[name] = result
    return [_value(o, values) for o in graph["outputs"]]


def _run_without_grad(node: Mapping[str, Any], values: Mapping[str, Any]) -> list[Any]:
    """wrap_with_set_grad_enabled(enabled, graph, *arguments)."""
    _, body, *arguments = (i["arg"] for i in node["inputs"])
    graph = body["as_graph"]["graph"]
    inner = {
        formal["as_tensor"]["name"]: _value(actual, values)
        for formal, actual in zip(graph["inputs"], arguments, strict=True)
    }
    return _run(graph, inner)


def _arguments(function: Any, inputs: Sequence[Any], values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    schema = getattr(function, "_schema", None)
    if schema is None:
        return [_value(i["arg"], values) for i in inputs], {}
    given = {i["name"]: _value(i["arg"], values) for i in inputs}
    args: list[Any] = []
    for formal in schema.arguments:
        if formal.kwarg_only or formal.name not in given:
            break
        args.append(given.pop(formal.name))
    return args, given


_WRITTEN: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("as_int", "as_bool", "as_string", "as_ints", "as_bools", "as_strings"), lambda body: body),
    "as_none": lambda _: None,
    "as_float": float,  # "Infinity", "-Infinity" and "NaN" are written as text
    "as_floats": lambda body: [float(v) for v in body],
    "as_scalar_type": lambda body: getattr(import_torch(), DTYPES[body]),
    "as_memory_format": lambda body: getattr(import_torch(), _FORMATS[body]),
    "as_layout": lambda _: import_torch().strided,
    "as_device": lambda _: import_torch().device("cpu"),
}
"""Kinds of arguments whose value stands in the program itself."""


def _value(argument: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """An argument's value; the one key of `argument` is its kind."""
    ((kind, body),) = argument.items()
    if kind in _WRITTEN:
        return _WRITTEN[kind](body)
    if kind in ("as_optional_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
        return _value(body, values)
    if kind in ("as_optional_tensors", "as_sym_ints", "as_sym_floats"):
        return [_value(v, values) for v in body]
    if kind == "as_name":
        return values[body]
    if kind == "as_tensor":
        return values[body["name"]]
    if kind == "as_tensors":
        return [values[t["name"]] for t in body]
    raise UnsupportedError(f"the program has an argument of the kind {kind}")

"""PyTorch → ONNX: torch.export archives (.pt2), TorchScript, and Python code that returns a torch.nn.Module.

Files are data: archives are read by readers of our own (`program.py`, `script.py`), never by
torch.load, torch.jit.load or torch.export.load, which can run what a file says. What they hold is replayed, operator
by operator, under torch.export, and torch.onnx writes the ONNX. Code named as MODULE:NAME is the user's own and runs.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from dlpack.errors import ModelError, UsageError
from dlpack.exporters.base import Exported, Exporter, ExportOptions, read_bytes
from dlpack.exporters.callables import uses_framework
from dlpack.exporters.pytorch.convert import to_onnx
from dlpack.exporters.pytorch.files import Archive, Foreign, foreign_names, read_pickle, refuse_pickle
from dlpack.exporters.pytorch.framework import example, import_torch
from dlpack.exporters.pytorch.interpreter import module_of as script_module
from dlpack.exporters.pytorch.program import is_program, read_program
from dlpack.exporters.pytorch.program import module_of as program_module
from dlpack.exporters.pytorch.script import is_script, read_script, script_inputs

_SUFFIXES = (".pt", ".pth", ".pt2", ".torchscript", ".ts", ".ptl", ".jit")
_ZIP = b"PK\x03\x04"
_OLD_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # torch.save before 1.6: a pickled number


def recognises(path: Path, start: bytes) -> bool:
    if _OLD_MAGIC in start[:16] or (path.suffix in _SUFFIXES and start[:2] in (b"PK", b"\x80\x02", b"\x80\x04")):
        return True
    if not start.startswith(_ZIP):
        return False
    try:
        archive = Archive(path)
    except ModelError:
        return False
    return "data.pkl" in archive or is_program(archive)


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    if params is not None:
        raise UsageError("a PyTorch file holds its weights itself; leave --params out")
    with open(path, "rb") as file:
        if file.read(4) != _ZIP:
            raise refuse_pickle(foreign_names(read_bytes(path)))
    archive = Archive(path)
    if is_program(archive):
        return _export_program(archive, options)
    if is_script(archive):
        return Exported(_export_script(archive, options))
    if "data.pkl" not in archive:
        raise UsageError("this zip archive holds no PyTorch model")
    data = archive.read("data.pkl")
    try:
        read_pickle(data, "data.pkl")
    except Foreign as e:
        raise refuse_pickle(foreign_names(data) or [str(e)]) from None
    raise refuse_pickle([])


# --- files ------------------------------------------------------------------------------------------------------------


def _export_program(archive: Archive, options: ExportOptions) -> Exported:
    import_torch()
    program = read_program(archive)
    _check_names(options.shapes, [i.name for i in program.inputs])
    open_ = [i for i in program.inputs if None in i.shape and i.name not in options.shapes]
    batches = {i.name: (1, *i.hint[1:]) for i in open_ if None not in i.shape[1:]}
    if len(batches) < len(open_):
        words = _shape_words({i.name: i.hint for i in open_})
        raise UsageError(f"the program leaves dimensions of its inputs open; give them, for instance: {words}")
    inputs = {}
    for i in program.inputs:
        shape = options.shapes.get(i.name, batches.get(i.name, i.hint))
        fits = len(shape) == len(i.shape) and all(want in (None, d) for d, want in zip(shape, i.shape, strict=True))
        if not fits:
            told = "x".join("?" if d is None else str(d) for d in i.shape)
            raise UsageError(f"--shape gives the input '{i.name}' another shape than the program's {told}")
        inputs[i.name] = _example(i.name, shape, options.dtypes.get(i.name, i.dtype))
    said = tuple(f"the batch of the input '{n}' is taken as 1; --shape gives another size" for n in batches)
    return Exported(to_onnx(program_module(program), inputs), warnings=said)


def _export_script(archive: Archive, options: ExportOptions) -> ModelProto:
    import_torch()
    script = read_script(archive)
    formals = script_inputs(script)
    _check_names(options.shapes, [i.name for i in formals])
    inputs, missing = {}, []
    for i in formals:
        shape = options.shapes.get(i.name, i.shape)
        if shape is not None:
            inputs[i.name] = _example(i.name, shape, options.dtypes.get(i.name, i.dtype))
        elif not i.optional:
            missing.append(i.name)
    if missing:
        words = _shape_words({n: (1, 3, 224, 224) for n in missing})
        raise UsageError(f"TorchScript does not hold its inputs' shapes; give them, for instance: {words}")
    return to_onnx(script_module(script, list(inputs)), inputs)


def _example(name: str, shape: Sequence[int], dtype: str) -> Any:
    if any(d <= 0 or d > 1 << 24 for d in shape) or np.prod([float(d) for d in shape]) > 1 << 28:
        raise ModelError(f"the input '{name}' has the shape {list(shape)}, which no model's input has")
    return example(shape, dtype)


def _check_names(shapes: Mapping[str, Any], names: Sequence[str]) -> None:
    unknown = sorted(set(shapes) - set(names))
    if unknown:
        told = ", ".join(names) or "none"
        raise UsageError(
            f"--shape names the input '{unknown[0]}', which the model does not have; its inputs are: {told}"
        )


def _shape_words(shapes: Mapping[str, Sequence[int]]) -> str:
    return " ".join(f"--shape {n}={'x'.join(map(str, s))}" for n, s in shapes.items())


# --- callables --------------------------------------------------------------------------------------------------------


def takes(target: Any) -> bool:
    """An nn.Module, or a function over tensors."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(target, torch.nn.Module):
        return True
    return callable(target) and uses_framework(target) == "torch"


def trace(target: Any, _name: str, options: ExportOptions) -> Exported:
    torch = import_torch()
    module = target if isinstance(target, torch.nn.Module) else _wrapped(target)
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError("the callable gives a ScriptModule; save it with .save('model.pt') and give that file")
    parameters = inspect.signature(target.forward if module is target else target).parameters
    variadic = {p.kind for p in parameters.values()} & {
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    }
    if not variadic:
        _check_names(options.shapes, list(parameters))
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.name not in options.shapes and p.kind not in variadic
    ]
    if missing:
        words = _shape_words({n: (1, 3, 224, 224) for n in missing})
        raise UsageError(f"the shapes of its inputs are not known; give them, for instance: {words}")
    if not options.shapes:
        raise UsageError("give its inputs' shapes, for instance: --shape x=1x3x224x224")
    ordered = sorted(options.shapes, key=lambda n: list(parameters).index(n) if n in parameters else 0)
    inputs = {n: _example(n, options.shapes[n], options.dtypes.get(n, "float32")) for n in ordered}
    if any(p.device.type != "cpu" for p in [*module.parameters(), *module.buffers()]):
        module = module.cpu()
    return Exported(to_onnx(module, inputs, by_name=parameters_are_names(parameters, inputs)))


def parameters_are_names(parameters: Mapping[str, inspect.Parameter], inputs: Mapping[str, Any]) -> bool:
    """Whether the inputs can be passed as keywords."""
    return all(n in parameters and parameters[n].kind is not inspect.Parameter.POSITIONAL_ONLY for n in inputs)


def _wrapped(function: Any) -> Any:
    torch = import_torch()

    class Function(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

    return Function()


EXPORTER = Exporter(
    name="PyTorch",
    accepts="model.pt2 (torch.export), TorchScript model.pt, package.module:callable with --shape",
    recognises=recognises,
    export=export,
    takes=takes,
    trace=trace,
)

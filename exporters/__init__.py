"""From a framework's model to ONNX, labels and preprocessing: a folder per framework, found by itself.

Each folder's `export.py` holds ``EXPORTER``; adding a framework is adding its folder. What several frameworks need lies
beside the folders. Frameworks are imported inside functions only.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from dlpack.errors import UsageError
from dlpack.exporters.base import Exported, Exporter, ExportOptions, PictureInput, check_readable, head, main_file
from dlpack.exporters.callables import Spec, load_callable, parse_spec, uses_framework
from dlpack.exporters.foreign import foreign, foreign_folder, in_place_of_a_model

__all__ = ["ExportOptions", "Exported", "Exporter", "PictureInput", "accepted", "all_exporters", "export",
           "find_exporter", "is_callable", "model_stem"]  # fmt: skip

_ONNX_STARTS = tuple(bytes([tag]) for tag in b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca")
"""First bytes of a ModelProto: the tags of its fields, in whatever order they are written."""


@cache
def all_exporters() -> tuple[Exporter, ...]:
    """Every exporter in this folder, by name."""
    folders = [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]
    found: list[Exporter] = [importlib.import_module(f"{__name__}.{name}.export").EXPORTER for name in folders]
    return tuple(sorted(found, key=lambda e: e.name))


def find_exporter(path: Path) -> Exporter | None:
    """The exporter that knows the file at `path`, by its content; None for an ONNX model.

    Raises UsageError for a file that cannot be read, and for one that belongs to a model but is not its main file.
    """
    path = main_file(path)
    if path.is_dir() and (what := foreign_folder(path)):
        raise UsageError(f"{path}: {what}")
    check_readable(path)
    start = head(path)
    if what := in_place_of_a_model(start):
        raise UsageError(f"{path}: {what}")
    for exporter in all_exporters():
        if exporter.recognises(path, start):
            return exporter
    for exporter in all_exporters():
        if (advice := exporter.advises(path, start)) is not None:
            raise UsageError(f"{path}: {advice}")
    if not (path.suffix == ".onnx" and start[:1] in _ONNX_STARTS) and (what := foreign(path, start)):
        raise UsageError(f"{path}: {what}")
    return None


def accepted() -> str:
    """The accepted formats in words, for error messages."""
    return "; ".join(["ONNX: model.onnx", *(f"{e.name}: {e.accepts}" for e in all_exporters())])


def export(path: Path, params: Path | None = None, options: ExportOptions | None = None) -> Exported:
    """The model at `path` as ONNX, with its labels and preprocessing in the ONNX metadata.

    Raises a DlpackError for whatever the user can fix; an UnsupportedError lists every unsupported node.
    """
    path = Path(path)
    spec = parse_spec(path)
    if spec is not None:
        return _trace(spec, params, options or ExportOptions())
    path = main_file(path)
    exporter = find_exporter(path)
    if exporter is None and path.suffix == ".onnx" and head(path):
        raise UsageError(f"{path}: there is nothing to convert, this is an ONNX model already; dlpack build takes it")
    if exporter is None:
        raise UsageError(f"{path}: {_what(head(path))}; accepted are {accepted()}")
    if params is not None:
        check_readable(params)
    if options and options.dtypes and exporter.trace is None:
        raise UsageError(f"{path}: {exporter.name} files hold their inputs' types; give the shape alone with --shape")
    return exporter.run(path, params, options or ExportOptions())


def is_callable(model: Path) -> bool:
    """Whether `model` is written as MODULE:NAME or FILE.py:NAME."""
    return parse_spec(model) is not None


def model_stem(model: Path) -> str:
    """The default name of a model."""
    spec = parse_spec(model)
    return spec.stem if spec else model.stem.removesuffix("-symbol")


def _trace(spec: Spec, params: Path | None, options: ExportOptions) -> Exported:
    if params is not None:
        check_readable(params)
    target = load_callable(spec, options.shapes)
    for exporter in all_exporters():
        if exporter.takes(target):
            if params is not None and exporter.load is None:
                raise UsageError(f"--params is for models in two files; {spec} holds its weights itself")
            if params is not None and exporter.load is not None:
                exporter.load(target, params)
            return exporter.run_trace(Path(str(spec)), target, spec.stem, options)
    framework = uses_framework(target)
    uses = f", and this one uses {framework}" if framework else ""
    raise UsageError(f"{spec}: functions over NumPy arrays or PyTorch tensors and torch.nn.Modules are traced{uses}")


def _what(start: bytes) -> str:
    if not start:
        return "the file is empty"
    if start.lstrip()[:1] in (b"{", b"["):
        return "a JSON file, but not one of a model that is known"
    if b"\0" not in start and start.isascii():
        return "a text file, but not a model that is known"
    return "the file's content is not recognised"

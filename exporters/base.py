"""What all exporters share: their description and result, reading untrusted files, finding weights files."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError

HEAD_BYTES = 4096
_MODEL_SUFFIXES = (".onnx", ".pt2", ".pt", ".tflite", ".keras", ".h5", ".pb", ".skops", ".mlmodel", ".mlpackage",
                   ".prototxt", "-symbol.json", ".cbm", ".ubj", ".cfg", ".param", ".safetensors")  # fmt: skip
MAX_TEXT_BYTES = 64 << 20  # a network's description; real ones stay below 2 MB
MAX_WEIGHTS_BYTES = 8 << 30
MAX_JSON_DEPTH = 64
MAX_LABELS = 1 << 20
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True)
class PictureInput:
    """From a picture with values 0..255 to the model's input: ``image * scale - mean`` per channel.

    In the terms of `dlpack.meaning.preprocess`: `channels` is "RGB", "BGR" or "GRAY"; `resize` is the shorter side
    before the middle is cut out, None stretches the picture to the input's size.
    """

    input: str
    channels: str = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    resize: int | None = None
    layout: str = "NCHW"

    def to_json(self) -> str:
        """The value of the ONNX metadata key ``dlpack.preprocess``."""
        return json.dumps({**asdict(self), "mean": list(self.mean)})


@dataclass(frozen=True)
class ExportOptions:
    """Options from the command line: the inputs' shapes, and their element types if not float32."""

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """An exporter's result; labels and preprocessing are in the model's metadata as well."""

    model: ModelProto
    labels: tuple[str, ...] | None = None
    preprocess: PictureInput | None = None
    params: Path | None = None
    """The second file that was read, so that it enters the model's digest."""
    warnings: tuple[str, ...] = ()
    """What the user should know, a line each."""
    features: str | None = None
    """Of a model of tables: `dlpack.meaning.features.to_metadata` of its columns."""


@dataclass(frozen=True)
class Exporter:
    """One framework's way in.

    `recognises` and `advises` get the path and the file's first bytes; `advises` says which file to give instead of one
    that belongs to such a model but is not its main file. `takes` says whether `trace` exports a Python object.
    """

    name: str
    accepts: str
    recognises: Callable[[Path, bytes], bool]
    export: Callable[[Path, Path | None, ExportOptions], Exported]
    advises: Callable[[Path, bytes], str | None] = lambda *_: None
    takes: Callable[[Any], bool] = lambda _: False
    trace: Callable[[Any, str, ExportOptions], Exported] | None = None
    load: Callable[[Any, Path], None] | None = None
    """Loads the file of --params into an object that `trace` exports."""

    def run(self, path: Path, params: Path | None, options: ExportOptions) -> Exported:
        """`export`, with the file's name in every error and the metadata filled in."""
        return self._run(path, lambda: self.export(path, params, options))

    def run_trace(self, path: Path, target: Any, name: str, options: ExportOptions) -> Exported:
        """`trace` of what `path` (MODULE:NAME) names, in the same way."""
        if self.trace is None:
            raise UsageError(f"{path}: {self.name} models are given as files: {self.accepts}")
        trace = self.trace
        return self._run(path, lambda: trace(target, name, options))

    def _run(self, path: Path, export: Callable[[], Exported]) -> Exported:
        try:
            with np.errstate(all="ignore"):  # weights that are not finite are reported later
                result = export()
        except UnsupportedError as e:
            error = UnsupportedError(f"{path} ({self.name}): {e}")
            error.problems = e.problems
            raise error from e
        except DlpackError as e:
            raise e if str(path) in str(e) else type(e)(f"{path} ({self.name}): {e}") from e
        except RecursionError as e:
            raise ModelError(f"{path} ({self.name}): the model is nested too deeply") from e
        except MemoryError as e:
            raise ModelError(f"{path} ({self.name}): the model needs more memory than there is") from e
        if result.labels:
            set_metadata(result.model, "dlpack.labels", json.dumps(list(result.labels)))
        if result.preprocess:
            set_metadata(result.model, "dlpack.preprocess", result.preprocess.to_json())
        if result.features:
            set_metadata(result.model, "dlpack.features", result.features)
        set_metadata(result.model, "dlpack.source", self.name)
        return result


TABLE = "X"
"""The input of a model of tables, [rows, columns]."""

TEXT = "text"
"""The input of a table's columns of text, strings [rows, columns]."""


def rows_of(options: ExportOptions, columns: int, texts: int = 0) -> int:
    """The number of rows of a table with so many columns, and `texts` of text: of --shape X=ROWSxCOLUMNS, else 1.

    Raises UsageError.
    """
    known = {name: count for name, count in ((TABLE, columns), (TEXT, texts)) if count}
    rows = 1
    for name, shape in sorted(options.shapes.items()):
        if name not in known:
            inputs = " and ".join(f"'{n}'" for n in known)
            told = f"the model's only input is {inputs}" if len(known) == 1 else f"the model's inputs are {inputs}"
            raise UsageError(f"--shape {name}=...: {told}")
        if len(shape) != 2 or shape[0] < 1 or shape[1] != known[name] or rows not in (1, shape[0]):
            raise UsageError(f"--shape {name}={'x'.join(map(str, shape))}: the model takes ROWSx{known[name]}")
        rows = shape[0]
    return rows


def set_metadata(model: ModelProto, key: str, value: str) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = key, value


def write_model(model: ModelProto, path: Path) -> None:
    """Writes an ONNX file atomically: it appears complete or not at all."""
    if model.ByteSize() >= 2**31:
        raise UnsupportedError("the model is larger than the 2 GiB that an ONNX file can hold")
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(model.SerializeToString(deterministic=True))
        os.replace(part, path)
    except OSError as e:
        raise UsageError(f"{path} cannot be written: {e.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


# --- files ------------------------------------------------------------------------------------------------------------


def main_file(path: Path) -> Path:
    """The file to read of a model that is a folder: SavedModel, TF.js, Core ML's package, Hugging Face."""
    inside = [path / "saved_model.pb", path / "model.json", path / "Data" / "com.apple.CoreML" / "model.mlmodel"]
    if not any((path / other).is_file() for other in ("MLmodel", "inference.pdmodel", "inference.json")):
        weights = any(path.glob("*.safetensors"))
        exports = [] if weights else [path / "model.onnx", path / "onnx" / "model.onnx"]  # of optimum, and of the hub
        inside += [*exports, path / "config.json"] if (path / "config.json").is_file() else []
    return next((file for file in inside if file.is_file()), path)


def check_readable(path: Path) -> None:
    """Raises UsageError unless `path` is a file that can be opened."""
    try:
        with open(path, "rb"):
            pass
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: {_folder(path)}") from None
    except (OSError, ValueError) as e:
        raise UsageError(f"{path}: cannot be read: {getattr(e, 'strerror', None) or e}") from None


def _folder(path: Path) -> str:
    """What to do with a folder that is no model itself: the files in it that may be one."""
    files = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    if not files:
        return "this folder is empty"
    models = [n for n in files if n.endswith(_MODEL_SUFFIXES)]
    told = f": {', '.join(models[:5])}{' ...' if len(models) > 5 else ''}" if models else ""
    return f"this is a folder; give the model's file in it{told}"


def head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEAD_BYTES)


def read_bytes(path: Path, limit: int = MAX_WEIGHTS_BYTES) -> bytes:
    """The whole file, after checking its size."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise ModelError(f"{path}: the file has {size:,} bytes, more than the {limit:,} that are accepted")
            return file.read(size)
    except OSError as e:
        raise UsageError(f"{path}: cannot be read: {e.strerror}") from None


def read_text(path: Path) -> str:
    data = read_bytes(path, MAX_TEXT_BYTES)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # comments in old files; names stay distinct


def parse_json(text: str, what: str, depth: int = MAX_JSON_DEPTH) -> Any:
    """Parses JSON after checking how deeply it nests. Raises ModelError."""
    level = deepest = 0
    for match in _STRUCTURE.finditer(text):
        c = text[match.start()]
        if c != '"':
            level += 1 if c in "[{" else -1
            deepest = max(deepest, level)
    if deepest > depth:
        raise ModelError(f"{what} nests {deepest} levels deep; {depth} are accepted")
    try:
        return json.loads(text, parse_constant=lambda _: math.nan)
    except ValueError as e:
        raise ModelError(f"{what} is not valid JSON: {e}; it may be cut off, so copy or download it again") from None


def find_params(
    path: Path, given: Path | None, stems: Sequence[str], suffix: str, good: Callable[[bytes], bool]
) -> Path:
    """The weights file of the model at `path`: the given one, one with the same stem, or the only one beside it."""
    if given is not None:
        if not good(head(given)):
            raise UsageError(f"--params {given}: this is not a {suffix} file")
        return given
    found = sorted(p for p in path.parent.iterdir() if p.suffix == suffix and p.is_file())
    beside = [p for p in found if good(head(p))]
    for stem in stems:
        same = [p for p in beside if p.stem == stem or p.stem.startswith(f"{stem}-")]
        if same:
            return same[-1]  # of several epochs the last
    if len(beside) == 1:
        return beside[0]
    if found and not beside:
        raise UsageError(
            f"{found[0].name} beside it is not a {suffix} file of this framework; copy or download it again"
        )
    if not beside:
        raise UsageError(f"its weights, a {suffix} file, are not beside it; give them with --params FILE")
    names = ", ".join(p.name for p in beside[:8])
    raise UsageError(f"which of these are its weights: {names}? Give them with --params FILE")


def read_labels(text: str) -> tuple[str, ...]:
    """Class names, one per line. Raises ModelError for an implausibly large number."""
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(lines) > MAX_LABELS:
        raise ModelError(f"{len(lines):,} labels are more than the {MAX_LABELS:,} that are accepted")
    return lines

"""Calibration data: `--calibrate FILE.npz`, or a folder of pictures or of .npz files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlpack.errors import UsageError
from dlpack.graph.ir import Array
from dlpack.meaning.preprocess import Preprocess, open_picture
from dlpack.verify.given import read_given

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
MOST = 1000
"""Files of a folder that are read: more hardly move a range, and the quantiser keeps what they give in memory."""


@dataclass(frozen=True)
class Samples:
    """Inputs of several runs, each an array per input of the model; `origin`: the file's or folder's name."""

    origin: str
    runs: tuple[dict[str, Array], ...]


def read_samples(path: Path, inputs: Mapping[str, tuple[tuple[int, ...], str]], picture: Preprocess | None) -> Samples:
    """Reads calibration data for inputs of these shapes and dtypes.

    An .npz file has an array per input: of the input's shape for one run, with a dimension in front for one run per
    entry, or with a multiple of the input's first dimension. Pictures are prepared by `picture`. Raises UsageError.
    """
    if not path.exists():
        raise UsageError(f"--calibrate {path}: there is no such file or folder")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    pictures = [p for p in files if p.suffix.lower() in PICTURES][:MOST]
    arrays = [p for p in files if p.suffix.lower() == ".npz"][:MOST]
    if pictures and arrays:
        raise UsageError(f"--calibrate {path} holds pictures and .npz files: keep one kind")
    if not pictures and not arrays:
        raise UsageError(f"--calibrate {path} holds no pictures and no .npz files with an array per input")
    if pictures:
        runs = _prepared(path, pictures, inputs, picture)
    else:
        runs = [run for p in arrays for run in _runs_of(p, inputs)][:MOST]
    if not runs:
        raise UsageError(f"--calibrate {path} holds arrays for no run at all")
    return Samples(path.name, tuple(runs))


def _prepared(
    path: Path, files: Sequence[Path], inputs: Mapping[str, tuple[tuple[int, ...], str]], picture: Preprocess | None
) -> list[dict[str, Array]]:
    if picture is None or len(inputs) != 1:
        raise UsageError(f"--calibrate {path} holds pictures: --preprocess has to say how they become the input")
    runs = []
    for file in files:
        try:
            runs.append({picture.input: picture(open_picture(file))})
        except (OSError, ValueError, SyntaxError) as e:
            raise UsageError(f"--calibrate: the picture {file} cannot be read: {e}") from e
    return runs


def _runs_of(file: Path, inputs: Mapping[str, tuple[tuple[int, ...], str]]) -> list[dict[str, Array]]:
    arrays = read_given(file, "--calibrate").arrays
    if set(arrays) != set(inputs):
        raise UsageError(
            f"--calibrate {file}: it has arrays {_quoted(arrays)}, and the model has the inputs {_quoted(inputs)}"
        )
    split = {name: _split(file, name, arrays[name], *inputs[name]) for name in inputs}
    counts = {name: len(parts) for name, parts in split.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise UsageError(f"--calibrate {file}: its arrays are for different numbers of runs: {told}")
    return [dict(zip(split, parts, strict=True)) for parts in zip(*split.values(), strict=True)]


def _split(file: Path, name: str, array: Array, shape: tuple[int, ...], dtype: str) -> list[Array]:
    """An input's arrays, one per run."""
    make: Callable[[Array], Array] = np.ascontiguousarray
    if array.dtype.name != dtype:
        raise UsageError(f"--calibrate {file}: '{name}' is {array.dtype.name}, and the input {dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(f"--calibrate {file}: '{name}' has values that are not finite, which have no range")
    if array.shape == shape:
        return [make(array)]
    if array.shape[1:] == shape:
        return [make(entry) for entry in array]
    if shape and array.shape[1:] == shape[1:] and shape[0] and array.shape[0] % shape[0] == 0:
        return [make(part) for part in np.split(array, array.shape[0] // shape[0])] if array.size else []
    raise UsageError(
        f"--calibrate {file}: '{name}' has the shape {list(array.shape)}; for N runs it would be "
        f"{['N', *shape]}, as the input has {list(shape)}"
    )


def _quoted(names: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in names)

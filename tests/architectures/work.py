"""Builds architectures one after another: reads a line "NAME WAY" each, writes a line of JSON each.

An architecture that ends the process, or takes too long, costs itself alone: `__main__.py` starts another one.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from architectures import language, perception, pictures
from architectures.base import Architecture

WAYS = ("script", "export", "file", "float16")
"""How a model comes to dlpack: by torch.onnx from TorchScript, by torch.onnx from torch.export, as the framework's own
file (.pt2, .keras), and in half precision by torch.onnx."""

ROUNDS, ROUNDS_S = 41, 1.5
"""Rounds in which times are compared, and the seconds after which no other begins."""


class ExportError(Exception):
    """The framework does not write this model."""


@cache
def catalogue() -> dict[str, Architecture]:
    """All architectures by name."""
    found = (*language.architectures(), *perception.architectures(), *pictures.architectures())
    return {a.name: a for a in found}


@cache
def _made(name: str) -> tuple[Any, dict[str, Any]]:
    pictures.import_torchvision()
    return catalogue()[name].make()


def build(name: str, way: str, timed: bool, keep: Path | None = None) -> dict[str, Any]:
    """What became of the architecture: `outcome` is right, refused, wrong, broken or "not exported"."""
    from dlpack.errors import DlpackError, VerificationError

    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        place = keep or Path(folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                file = _written(name, way, place)
        except Exception as e:  # noqa: BLE001 - the framework's, of whatever kind
            return {"outcome": "not exported", "message": shortened(f"{type(e).__name__}: {root_of(e)}")}
        began = time.monotonic()
        try:
            told = _built(name, file, Path(folder, "bundle"))
        except VerificationError as e:
            return {"outcome": "wrong", "message": shortened(str(e))}
        except DlpackError as e:
            return {"outcome": "refused", "message": shortened(str(e))}
        except Exception as e:  # noqa: BLE001 - a mistake of ours that the table tells
            at = traceback.extract_tb(e.__traceback__)[-1]
            return {"outcome": "broken", "message": shortened(f"{type(e).__name__} at {at.filename}:{at.lineno}: {e}")}
        told["seconds"] = round(time.monotonic() - began, 1)
        if timed and way != "file":
            told |= _compared(file, Path(folder, "bundle"))
        return told


def _built(name: str, file: Path, bundle: Path) -> dict[str, Any]:
    import dlpack
    from dlpack.options import Options

    ranges = dict(catalogue()[name].ranges)
    if file.suffix == ".pt2":  # which numbers the inputs of a module that takes any
        ranges = {f"values_{k}": ranges[given] for k, given in enumerate(_made(name)[1]) if given in ranges}
    dlpack.build(file, bundle, Options(name="model", ranges=ranges))
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    errors = manifest["verification"]
    return {
        "outcome": "right" if all(e["passed"] for e in errors) else "wrong",
        "error": max(e["relative"] for e in errors),
        "weights": manifest["weights_bytes"],
        "macs": manifest["macs"],
    }


def _written(name: str, way: str, folder: Path) -> Path:
    model, inputs = _made(name)
    if not inputs:
        return _keras_file(model, way, folder)
    import torch

    values = tuple(inputs.values())
    with torch.no_grad():
        if way == "script":
            # Some modules keep what they met while they were traced.
            return onnx_file(copy.deepcopy(model), inputs, folder / "model.onnx", 17)
        if way == "file":
            path = folder / "model.pt2"
            torch.export.save(torch.export.export(model, values), str(path))
            return path
        if way == "float16":
            return _half(name, model, inputs, folder)
        return onnx_file(model, inputs, folder / "model.onnx", None)


def onnx_file(model: Any, inputs: dict[str, Any], path: Path, opset: int | None) -> Path:
    """The model's ONNX by torch.onnx's old exporter, of an opset, or by the new one, which has its own."""
    import torch

    more: dict[str, Any] = {"opset_version": opset} if opset else {"verbose": False}
    values = tuple(inputs.values())
    torch.onnx.export(model, values, str(path), input_names=list(inputs), dynamo=not opset, **more)
    if opset:  # the old exporter writes LayerNormalization in half precision with two types, and some wrong shapes
        open_session(path)
    return path


def _half(name: str, model: Any, inputs: dict[str, Any], folder: Path) -> Path:
    """The model in half precision: by the old exporter, by the new one, or by onnxruntime's converter."""
    values = {k: v.half() if v.is_floating_point() else v for k, v in inputs.items()}
    path = folder / "model.onnx"
    half = copy.deepcopy(model).half()
    for opset in (17, 16, None):
        try:
            return onnx_file(copy.deepcopy(half), values, path, opset)
        except Exception:  # noqa: BLE001 - PyTorch does not write it so
            continue
    try:
        return _converted(_written(name, "script", folder), path)
    except Exception:  # noqa: BLE001 - PyTorch's old exporter lacks some of its operators
        return _converted(_written(name, "export", folder), path)


def _converted(file: Path, path: Path) -> Path:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(str(file))), str(path))
    return path


def _keras_file(model: Any, way: str, folder: Path) -> Path:
    path = folder / "model.keras"
    if way == "file":
        model.save(path)
        return path
    if way != "float16":
        raise ExportError("Keras has its own file")
    import onnx

    from dlpack.source import read_source

    model.save(path)
    onnx.save(read_source(path, None, {}, {}, {}, ()).proto, str(folder / "model.onnx"))
    return _converted(folder / "model.onnx", folder / "model.onnx")


def _compared(file: Path, bundle: Path) -> dict[str, Any]:
    try:
        return {"ratio": _ratio(file, bundle)}
    except Exception as e:  # noqa: BLE001 - onnxruntime's
        return {"untimed": shortened(f"{type(e).__name__}: {e}")}


def _ratio(file: Path, bundle: Path) -> float:
    """Our CPU time over onnxruntime's, each the median of rounds that take turns, with one thread."""
    import dlpack

    session = open_session(file)
    predictor = dlpack.load(bundle)
    rng = np.random.default_rng(0)
    feed = {}
    for given in session.get_inputs():
        kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16}.get(given.type, np.int64)
        ids = rng.integers(1, 2, given.shape) if "mask" in given.name else rng.integers(4, 500, given.shape)
        feed[given.name] = (ids if kind is np.int64 else rng.standard_normal(given.shape)).astype(kind)
    runs = (lambda: predictor.run(feed), lambda: session.run(None, feed))
    times: tuple[list[float], list[float]] = ([], [])
    until = time.monotonic() + ROUNDS_S
    for _ in range(ROUNDS):
        for run, taken in zip(runs, times, strict=True):
            began = time.process_time()
            run()
            taken.append(time.process_time() - began)
        if time.monotonic() > until and len(times[0]) > 2:
            break
    ours, theirs = (median(taken[1:]) for taken in times)
    return round(ours / theirs, 3)


def open_session(file: Path) -> Any:
    """onnxruntime's session of one thread; raises its errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options)


def root_of(error: BaseException) -> BaseException:
    """What an exporter's error came of."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def shortened(text: str) -> str:
    return " ".join(text.split())[:400]


def main() -> None:
    timed = "--time" in sys.argv
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no result
    logging.disable(logging.WARNING)
    for line in sys.stdin:
        name, way = line.rstrip("\n").rsplit(" ", 1)
        with contextlib.redirect_stdout(sys.stderr):
            result = build(name, way, timed)
        print(json.dumps(result), file=out, flush=True)


if __name__ == "__main__":
    main()

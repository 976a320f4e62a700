"""`dlpack.load`: runs a native bundle from Python through its C API."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import UsageError
from dlpack.graph.ir import Array


class Predictor:
    """A compiled model. `inputs` and `outputs` map names to (dtype, shape).

    Not thread-safe: make one predictor per thread (they share the mapped weights' pages).
    """

    def __init__(self, bundle: Path) -> None:
        manifest = read_manifest(bundle)
        library = manifest.get("library")
        if not library:
            raise UsageError(f"{bundle} holds no library (target {manifest['target']}): build it for native to load it")
        self.manifest: dict[str, Any] = manifest
        self.name: str = manifest["name"]
        self.labels: list[str] | None = manifest.get("labels")
        path = bundle / library
        try:
            self._library = ctypes.CDLL(str(path.resolve()))
        except OSError as e:
            raise UsageError(f"{path} cannot be loaded on this computer: {e}") from e
        self._handle = ctypes.c_void_p()
        self._keep: dict[int, Array] = {}
        self.inputs = {t["name"]: (t["dtype"], tuple(t["shape"])) for t in manifest["inputs"]}
        self.outputs = {t["name"]: (t["dtype"], tuple(t["shape"])) for t in manifest["outputs"]}
        self._function("output_data").restype = ctypes.c_void_p
        self._function("error_text").restype = ctypes.c_char_p
        weights = manifest.get("weights")
        if weights:
            self._check(
                self._function("create_from_file")(
                    ctypes.byref(self._handle), str(bundle / weights["file"]).encode()
                )
            )
        else:
            none, zero = ctypes.c_void_p(), ctypes.c_size_t()
            self._check(self._function("create")(ctypes.byref(self._handle), none, zero, none, zero))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Computes all outputs; an input is anything with `__dlpack__` or the buffer protocol.

        Inputs that are contiguous and of the right type are read where they are. The outputs are views of the
        predictor's memory: they hold until the next run, copy what you keep.
        Raises ValueError for a missing, unknown or ill-shaped input.
        """
        unknown = set(inputs) - set(self.inputs)
        if unknown:
            raise ValueError(f"unknown input {sorted(unknown)[0]!r}; the model has {', '.join(self.inputs)}")
        for index, (name, (dtype, shape)) in enumerate(self.inputs.items()):
            if name not in inputs:
                raise ValueError(f"input {name!r} is missing ({dtype}, shape {shape})")
            array = _as_array(inputs[name])
            if array.dtype.name != dtype or array.shape != shape:
                raise ValueError(
                    f"input {name!r} is {array.dtype.name} of shape {array.shape}; the model takes {dtype} of {shape}"
                )
            array = np.ascontiguousarray(array).reshape(shape)
            self._keep[index] = array
            self._check(
                self._function("bind_input")(
                    self._handle, index, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
                )
            )
        self._check(self._function("run")(self._handle))
        return {name: self._output(k, *kind) for k, (name, kind) in enumerate(self.outputs.items())}

    __call__ = run

    def close(self) -> None:
        """Frees the predictor; outputs still held become invalid."""
        if self._handle:
            self._function("destroy")(self._handle)
            self._handle = ctypes.c_void_p()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _output(self, index: int, dtype: str, shape: tuple[int, ...]) -> Array:
        address = self._function("output_data")(self._handle, index)
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        memory = (ctypes.c_char * (count * kind.itemsize)).from_address(address)
        return np.frombuffer(memory, kind, count).reshape(shape)

    def _function(self, name: str) -> Any:
        return getattr(self._library, f"{self.name}_{name}")

    def _check(self, status: int) -> None:
        if status:
            text = self._function("error_text")(status).decode()
            raise UsageError(f"{self.name}: {text}")


def _as_array(value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    return np.asarray(memoryview(value))


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The bundle's manifest; raises UsageError where there is none."""
    path = Path(bundle) / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{bundle} is not a bundle: it has no readable manifest.json ({e})") from e
    return manifest


def load(bundle: str | Path) -> Predictor:
    """Loads a bundle built for this computer."""
    return Predictor(Path(bundle))

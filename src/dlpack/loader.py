"""`dlpack.load`: runs a native bundle from Python through its C API."""

from __future__ import annotations

import ctypes
import json
import tempfile
import weakref
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
        self.inputs = {t["name"]: (t["dtype"], tuple(t["shape"])) for t in manifest["inputs"]}
        self.outputs = {t["name"]: (t["dtype"], tuple(t["shape"])) for t in manifest["outputs"]}
        self._library = _open_library(bundle / library)
        for name, kind in (
            ("memory_size", ctypes.c_size_t),
            ("output_data", ctypes.c_void_p),
            ("error_text", ctypes.c_char_p),
            ("step_name", ctypes.c_char_p),
        ):
            self._function(name).restype = kind
        self._handle = ctypes.c_void_p()
        self._keep: dict[int, Array] = {}
        weights, size = ctypes.c_void_p(), ctypes.c_size_t()
        side = manifest.get("weights")
        if side:
            path = str(bundle / side["file"]).encode()
            self._check(self._function("map_weights")(path, ctypes.byref(weights), ctypes.byref(size)))
        # The predictor works in memory of numpy's, so that outputs which outlive it stay readable.
        self._memory = np.empty(self._function("memory_size")(), np.uint8)
        self._release = weakref.finalize(self, self._function("unmap_weights"), weights, size)
        address = ctypes.c_void_p(self._memory.ctypes.data)
        bytes_ = ctypes.c_size_t(self._memory.nbytes)
        self._check(self._function("create")(ctypes.byref(self._handle), address, bytes_, weights, size))
        self._run = self._function("run")
        self._run_step = self._function("run_step")

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Computes all outputs; an input is anything with `__dlpack__` or the buffer protocol.

        Inputs that are contiguous and of the right type are read where they are. The outputs are views of the
        predictor's memory: they hold until the next run, copy what you keep.
        Raises ValueError for a missing, unknown or ill-shaped input, and for a predictor that is closed.
        """
        self.bind(inputs)
        self.compute()
        return {name: self._output(k, *kind) for k, (name, kind) in enumerate(self.outputs.items())}

    __call__ = run

    def bind(self, inputs: Mapping[str, Any]) -> None:
        """Lets the predictor read these inputs, where they are, in every `compute` that follows; see `run`."""
        handle = self._open()
        unknown = [name for name in inputs if name not in self.inputs]
        if unknown:
            raise ValueError(f"unknown input {unknown[0]!r}; the model has {', '.join(self.inputs) or 'none'}")
        for index, (name, (dtype, shape)) in enumerate(self.inputs.items()):
            if name not in inputs:
                raise ValueError(f"input {name!r} is missing ({dtype}, shape {shape})")
            array = _as_array(name, inputs[name])
            if array.dtype != np.dtype(dtype) or array.shape != shape:
                order = "" if array.dtype.isnative else " in foreign byte order"
                raise ValueError(
                    f"input {name!r} is {array.dtype.name}{order} of shape {array.shape}; "
                    f"the model takes {dtype} of {shape}"
                )
            array = np.require(array, requirements=("C", "A")).reshape(shape)
            address, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
            self._check(self._function("bind_input")(handle, index, address, size))
            self._keep[index] = array

    def compute(self) -> None:
        """Computes all outputs from the inputs bound last (zeros before the first)."""
        self._check(self._run(self._open()))

    @property
    def steps(self) -> list[str]:
        """What a run does, in order: the names of kernels, `fill_halo` and `loop`."""
        return [self._function("step_name")(k).decode() for k in range(self._function("step_count")())]

    def run_step(self, index: int) -> bool:
        """Does one step of a run; False where there is none with this number."""
        return bool(self._run_step(self._handle, index) == 0)

    def close(self) -> None:
        """Gives the weights back; outputs still held stay as they are. Closing twice is no error."""
        if self._handle:
            self._function("destroy")(self._handle)
            self._handle = ctypes.c_void_p()
            self._keep.clear()
        self._release()

    def __enter__(self) -> Predictor:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> ctypes.c_void_p:
        if not self._handle:
            raise ValueError(f"the predictor {self.name} is closed; load the bundle again")
        return self._handle

    def _output(self, index: int, dtype: str, shape: tuple[int, ...]) -> Array:
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        start = self._function("output_data")(self._handle, index) - self._memory.ctypes.data
        return self._memory[start : start + size].view(kind).reshape(shape)

    def _function(self, name: str) -> Any:
        return getattr(self._library, f"{self.name}_{name}")

    def _check(self, status: int) -> None:
        if status:
            text = self._function("error_text")(status).decode()
            raise UsageError(f"{self.name}: {text}")


def _open_library(path: Path) -> ctypes.CDLL:
    """The shared library at `path` as it is now: the system's loader takes a name that it has seen for the same file,
    also after a new build, so each load goes by a name of its own."""
    try:
        with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
            alias = Path(folder) / path.name
            try:
                alias.symlink_to(path.resolve())
            except OSError:  # no right to make links
                alias = path.resolve()
            return ctypes.CDLL(str(alias))
    except OSError as e:
        raise UsageError(f"{path} cannot be loaded on this computer: {e}") from e


def _as_array(name: str, value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    try:
        return np.asarray(memoryview(value))
    except TypeError as e:
        raise TypeError(
            f"input {name!r} is a {type(value).__name__}; give a numpy array, or anything with __dlpack__ or a buffer"
        ) from e


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The bundle's manifest; raises UsageError where there is none."""
    path = Path(bundle) / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{bundle} is not a bundle: it has no readable manifest.json ({e})") from e
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise UsageError(f"{path} is not a manifest of format 1: build the bundle again")
    return manifest


def load(bundle: str | Path) -> Predictor:
    """Loads a bundle built for this computer."""
    return Predictor(Path(bundle))

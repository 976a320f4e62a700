"""`dlpack.load`: runs a native bundle from Python through its C API."""

from __future__ import annotations

import atexit  # noqa: F401 - weakref imports it for the first finalizer, which takes longer than all else of it
import ctypes
import re
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.bundle.arrays import as_array, bytes_of, cut_to, fits, in_bucket, numpy_dtype, own_outputs
from dlpack.bundle.classes import CClass, Class
from dlpack.bundle.device_arrays import DeviceArray, device_array, on_gpu
from dlpack.bundle.generating import Sampler
from dlpack.bundle.hearing import Hearing
from dlpack.bundle.locks import atomic, new_lock
from dlpack.bundle.quantised import QuantisedValues
from dlpack.bundle.read import open_library, read_kernels, read_manifest
from dlpack.bundle.room import NO_MEMORY, memory_bytes, too_large
from dlpack.bundle.texts import decoded, encoded_inputs
from dlpack.errors import ExceededError, UsageError
from dlpack.graph.ir import Array
from dlpack.meaning.preprocess import to_rgb
from dlpack.meaning.quantization import is_real
from dlpack.meaning.shape_sets import find_set, no_set, picture_set, sets_of

__all__ = ["Class", "Predictor", "Sampler", "load", "read_kernels", "read_manifest"]

_DEVICE_FAILED, _TOO_MANY = 7, 8
"""NAME_DEVICE_FAILED and NAME_TOO_MANY of NAME.h."""


class Predictor(Hearing, QuantisedValues):
    """A compiled model. `inputs` and `outputs` map names to (dtype, shape), in the set of shapes that it has now.

    Several threads may call one predictor: `run`, `classify` and every other call is done as a whole, one after the
    other. To compute at the same time make one predictor per thread; they share the mapped weights' pages.
    """

    def __init__(
        self, bundle: str | Path, device: str | None = None, largest: Mapping[str, Iterable[int]] | None = None
    ) -> None:
        bundle = Path(bundle)
        manifest = read_manifest(bundle)
        self.manifest: dict[str, Any] = manifest
        self.name: str = manifest["name"]
        self.labels: list[str] | None = manifest.get("labels")
        self._sets = sets_of(manifest)
        self._largest = largest
        self._choices = len(self._sets) > 1 or "variants" in manifest
        self._set, self._length = 0, 0
        self._waits = False  # whether anything was ever bound that is in a GPU's memory
        self._describe(0)
        self._library = open_library(bundle, manifest)
        for name, kind in (
            ("memory_size", ctypes.c_size_t),
            ("input_data", ctypes.c_void_p),
            ("output_data", ctypes.c_void_p),
            ("error_text", ctypes.c_char_p),
            ("step_name", ctypes.c_char_p),
            *((("step_name_of", ctypes.c_char_p),) if self._choices else ()),
            *((("variant_name", ctypes.c_char_p), ("variant", ctypes.c_char_p)) if "variants" in manifest else ()),
            *((("device", ctypes.c_char_p), ("cuda_stream", ctypes.c_void_p)) if self._has_gpus() else ()),
        ):
            self._function(name).restype = kind
        self._handle = ctypes.c_void_p()
        self._lock = new_lock(self)
        self._keep: dict[int, Any] = {}
        self._bound: dict[int, Any] = {}
        weights, size = ctypes.c_void_p(), ctypes.c_size_t()
        side = manifest.get("weights")
        if side:
            path = str(bundle / side["file"]).encode()
            self._check(self._function("map_weights")(path, ctypes.byref(weights), ctypes.byref(size)))
        # The predictor works in memory of numpy's, so that outputs which outlive it stay readable.
        self._memory = np.empty(memory_bytes(manifest, self._function, largest), np.uint8)
        own = self._function("destroy"), self._handle, self._function("unmap_weights"), weights, size
        self._release = weakref.finalize(self, _end, self._memory, *own)
        address = ctypes.c_void_p(self._memory.ctypes.data)
        bytes_ = ctypes.c_size_t(self._memory.nbytes)
        where = () if device is None else (self._check_device(device),)
        create = self._function("create_on" if where and self._has_gpus() else "create_mapped" if side else "create")
        wanted = where if self._has_gpus() else ()
        self._check(create(ctypes.byref(self._handle), *wanted, address, bytes_, weights, size))
        if device is not None and device.startswith("cuda") and not self.device.startswith("cuda"):
            told = self.device
            self.close()
            raise UsageError(f"{self.name}: there is no {device} here ({told})")
        self._run = self._function("run")
        self._run_step = self._function("run_step")
        self._own: dict[int, int] = {}
        self._find_own()

    @atomic
    def run(self, inputs: Mapping[str, Any], copy: bool = True) -> dict[str, Array]:
        """Computes all outputs. An input is anything with `__dlpack__` or the buffer protocol; one in the memory of the
        predictor's GPU, also with `__cuda_array_interface__`, is read there.
        If the bundle has several sets of shapes, the inputs' shapes select one. With buckets, inputs are padded with
        zeros to the next bucket, and outputs are cut to the inputs' length. Strings are lists or arrays of str.
        Contiguous inputs of the right dtype are read in place. The outputs are new arrays; with `copy=False` they are
        views of the predictor's memory, which the next run overwrites, strings as bytes. An output bound by
        `bind_outputs` is that array, or a view of it if it is cut. One whose size only a run knows has its true shape;
        that in `outputs` is the largest.
        Raises ValueError for a missing, unknown or wrongly shaped input, and for a closed predictor, ExceededError
        for data that exceeds a maximum (`--max`) of the build.
        """
        self.bind(inputs)
        self.compute()
        return self.results(copy)

    @atomic
    def results(self, copy: bool = True) -> dict[str, Array]:
        """The outputs as the last run left them, as `run` returns them."""
        self._open()
        outputs = {name: self._output(k, *kind) for k, (name, kind) in enumerate(self.outputs.items())}
        for name, index in self._shapes.items():
            true_shape = self._view("output_data", index, "int64", (outputs[name].ndim,))
            outputs[name] = cut_to(outputs[name], true_shape)
        cut = self.manifest["buckets"]["outputs"] if self._length else {}
        for name, dims in cut.items():
            parts = [slice(self._length) if d in dims else slice(None) for d in range(outputs[name].ndim)]
            outputs[name] = outputs[name][tuple(parts)]
        if copy:
            outputs = {n: x if k in self._bound else decoded(x).copy() for k, (n, x) in enumerate(outputs.items())}
        return outputs

    __call__ = run

    @atomic
    def bind_outputs(self, outputs: Mapping[str, Any]) -> None:
        """Makes the following runs write these outputs into the given arrays and return them without a copy.

        An array must be writable, contiguous, and of the output's dtype and shape. None returns an output to the
        predictor's own memory, and so does a switch to a set of shapes in which the output's shape differs.
        An array in the memory of the predictor's GPU is written there.
        Raises ValueError for an unknown output and for an array that does not fit.
        """
        handle = self._open()
        fitting: dict[int, Array | None] = {}
        for name, value in outputs.items():
            if name not in self.outputs:
                raise ValueError(f"unknown output {name!r}; the model has {', '.join(self.outputs)}")
            index, (dtype, shape) = list(self.outputs).index(name), self.outputs[name]
            if on_gpu(value):
                there = self._device_array(name, value, dtype, shape)
                self._bind_device("output", index, there)
                self._bound[index] = there
                continue
            fitting[index] = None if value is None else as_array(name, value, "output")
            array = fitting[index]
            if array is not None and (not fits(array, dtype) or array.shape != shape):
                raise ValueError(
                    f"output {name!r} needs an array of {dtype} {shape}, not {array.dtype.name} {array.shape}"
                )
            flags = array.flags if array is not None else None
            if flags and not (flags.c_contiguous and flags.aligned and flags.writeable):
                raise ValueError(f"the array for output {name!r} must be contiguous, aligned and writable")
        for index, array in fitting.items():
            dtype, shape = list(self.outputs.values())[index]
            size = ctypes.c_size_t(bytes_of(dtype, shape))
            at = self._own[index] if array is None else array.ctypes.data
            self._check(self._function("bind_output")(handle, index, ctypes.c_void_p(at), size))
            self._bound.pop(index, None)
            if array is not None:
                self._bound[index] = array

    @atomic
    def bind(self, inputs: Mapping[str, Any]) -> None:
        """Makes each following `compute` read these inputs in place; see `run`."""
        handle = self._open()
        inputs = encoded_inputs(self.inputs, inputs)
        unknown = [name for name in inputs if name not in self.inputs]
        if unknown:
            raise ValueError(f"unknown input {unknown[0]!r}; the model has {', '.join(self.inputs) or 'none'}")
        inputs = {**{name: np.zeros(1, np.int64) for name in self.manifest.get("seeds", ())}, **inputs}
        if len(self._sets) > 1 or "buckets" in self.manifest:
            inputs = self._reshape({name: x if on_gpu(x) else as_array(name, x) for name, x in inputs.items()})
        for index, (name, (dtype, shape)) in enumerate(self.inputs.items()):
            if name not in inputs:
                raise ValueError(f"input {name!r} is missing ({dtype}, shape {shape})")
            if on_gpu(inputs[name]):
                there = self._device_array(name, inputs[name], dtype, shape)
                self._bind_device("input", index, there)
                self._keep[index] = there
                continue
            array = as_array(name, inputs[name])
            if not fits(array, dtype) or array.shape != shape:
                order = "" if array.dtype.isnative else " in foreign byte order"
                raise ValueError(
                    f"input {name!r} is {array.dtype.name}{order} of shape {array.shape}; "
                    f"the model expects {dtype} of {shape}"
                )
            array = np.require(array, requirements=("C", "A")).reshape(shape)
            address, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
            self._check(self._function("bind_input")(handle, index, address, size))
            self._keep[index] = array

    def _device_array(self, name: str, value: Any, dtype: str, shape: tuple[int, ...]) -> DeviceArray:
        """An input or output in the GPU's memory, if it fits."""
        if not self.device.startswith("cuda"):
            raise ValueError(f"{name!r} is in a GPU's memory, and the predictor runs on the CPU ({self.device})")
        array = device_array(name, value, self._function("cuda_stream")(self._handle))
        if array.dtype != numpy_dtype(dtype) or array.shape != shape or not array.contiguous:
            gaps = "" if array.contiguous else ", not contiguous,"
            raise ValueError(f"{name!r} is {array.dtype.name} of shape {array.shape}{gaps} but {dtype} of {shape} fits")
        return array

    def _bind_device(self, kind: str, index: int, array: DeviceArray) -> None:
        address, size = ctypes.c_void_p(array.address), ctypes.c_size_t(array.nbytes)
        self._check(self._function(f"bind_{kind}_device")(self._handle, index, address, size))
        self._waits = True

    def _reshape(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """Selects the set of shapes for these inputs; returns the inputs, padded to the next bucket if there is one."""
        buckets = self.manifest.get("buckets")
        padded, self._length = in_bucket(arrays, buckets) if buckets else (arrays, 0)
        number = find_set(self.manifest, {name: x.shape for name, x in padded.items()})
        if number is None and arrays.keys() == self.inputs.keys():
            raise ValueError(no_set(self.manifest, {name: x.shape for name, x in arrays.items()}))
        if number is not None:
            self._use(number)
        return padded

    @property
    def shape(self) -> int:
        """The index of the current set of shapes in `manifest["shapes"]`."""
        return self._set

    @atomic
    def set_shape(self, number: int) -> None:
        """Takes the set of shapes of that number, for what comes next: a picture, or `compute`.

        `run` and `bind` choose it by their inputs. Raises ValueError for a number without a set.
        """
        if not 0 <= number < len(self._sets):
            raise ValueError(f"{self.name} has {len(self._sets)} sets of shapes, and no number {number}")
        self._use(number)

    def _use(self, number: int) -> None:
        """Selects a set of shapes; inputs and outputs whose shape changes are unbound."""
        if number != self._set:
            status = self._function("set_shape")(self._open(), number)
            if status == NO_MEMORY:
                raise too_large(self.name, self._largest)
            self._check(status)
            self._used(number)

    def _used(self, number: int) -> None:
        """Takes over the set of shapes that the C predictor has."""
        if number != self._set:
            before = self.outputs
            self._set = number
            self._describe(number)
            for index, (name, kind) in enumerate(self.outputs.items()):
                if before[name] != kind:
                    self._bound.pop(index, None)
            if "open" in self.manifest:
                self._find_own()

    def _find_own(self) -> None:
        """Notes where the predictor's own memory for outputs is, which moves with their shapes."""
        address = self._function("output_data")
        self._own |= {k: address(self._handle, k) for k in range(len(self.outputs)) if k not in self._bound}

    def _describe(self, number: int) -> None:
        s = self._sets[number]
        self.inputs = {t["name"]: (t["dtype"], tuple(t["shape"])) for t in s["inputs"]}
        self.outputs = {t["name"]: (t["dtype"], tuple(t["shape"])) for t in own_outputs(s["outputs"])}
        places = {t["name"]: k for k, t in enumerate(s["outputs"])}
        self._shapes = {t["name"]: places[t["true_shape"]] for t in s["outputs"] if "true_shape" in t}

    def compute(self) -> None:
        """Computes all outputs from the last bound inputs (zeros if none were bound)."""
        with self._lock:  # not by `atomic`, and without a needless call: a small network takes few microseconds
            handle = self._handle or self._open()
            if self._waits:
                for array in (*self._keep.values(), *self._bound.values()):
                    if isinstance(array, DeviceArray):  # its owner may still write an input, or read the last output
                        array.wait(self._function("cuda_stream")(handle))
            if status := self._run(handle):
                self._check(status)

    @atomic
    def set_flush_denormals(self, flush: bool = True) -> None:
        """Makes runs treat denormals, numbers closer to zero than 1.2e-38, as zero; off by default.

        Many processors compute several times as slowly where there are denormals.
        """
        self._check(self._function("set_flush_denormals")(self._open(), int(flush)))

    @atomic
    def preprocess(self, picture: Any) -> Array:
        """The input that the bundle's `preprocess` makes of a picture: uint8, height x width (x 1, 3 RGB or 4 RGBA).

        What `dlpack.preprocess` defines, done by the compiled code. The input is a new array, for `run` or `bind`; the
        predictor's own input of that name is set to it as well. Of several sets of shapes it is made for the one that
        `set_shape` or the last run chose, or where that takes no picture, since its batch is not 1, for the first that
        does.
        Raises UsageError for a model without preprocessing, ValueError for what is no picture.
        """
        number = picture_set(self._sets, self._set)
        if number is None:
            raise UsageError(f"{self.name} takes no pictures: build it with --preprocess (imagenet, caffe, tf ...)")
        handle = self._open()
        self._use(number)
        spec = self._sets[number]["preprocess"]
        rgb = to_rgb(np.asarray(picture))
        height, width, _ = rgb.shape
        stride = rgb.strides[0] if height > 1 else 3 * width
        sides = ctypes.c_int32(width), ctypes.c_int32(height), ctypes.c_ssize_t(stride)
        self._check(self._function("preprocess_rgb")(handle, ctypes.c_void_p(rgb.ctypes.data), *sides))
        index = list(self.inputs).index(spec["input"])
        self._keep.pop(index, None)
        return self._view("input_data", index, *self.inputs[spec["input"]]).copy()

    @atomic
    def top_k(self, k: int = 5, output: str | None = None) -> list[Class]:
        """The `k` most likely classes of the last run, most likely first; fewer if the output has fewer elements.

        `output` is the name of the output with the scores; by default the task's, or the first output of real numbers
        with one element per label. Quantised scores are dequantised. Scores that are not probabilities go through
        softmax, and NaN comes last, as described in NAME.h.
        Raises UsageError for a model with neither labels nor preprocessing, ValueError for a wrong `k` or `output`.
        """
        if not (self.labels or self.manifest.get("preprocess")):
            raise UsageError(f"{self.name} has no classes: build it with --labels")
        if k < 1:
            raise ValueError(f"k is {k}, but must be at least 1")
        if output is None:
            output = self._scores()
        if output not in self.outputs:
            raise ValueError(f"unknown output {output!r}; the model has {', '.join(self.outputs)}")
        count = min(k, int(np.prod(self.outputs[output][1], dtype=np.int64)))
        found = (CClass * max(1, count))()
        index = list(self.outputs).index(output)
        self._check(self._function("top_k")(self._open(), index, len(found), found))
        return [
            Class(c.index, str(c.index) if c.label is None else c.label.decode(), c.probability) for c in found[:count]
        ]

    @atomic
    def classify(self, picture: Any, k: int = 5) -> list[Class]:
        """`preprocess`, `run` and `top_k` in one, for a model whose only input is a picture."""
        picture_input = self.preprocess(picture)
        self.run({self.manifest["preprocess"]["input"]: picture_input})
        return self.top_k(k)

    def _scores(self) -> str:
        named = (self.manifest.get("task") or {}).get("output")
        if isinstance(named, str) and named in self.outputs:
            return named
        size = len(self.labels or ())
        fits = (t["name"] for t in self._sets[self._set]["outputs"] if is_real(t) and np.prod(t["shape"]) == size)
        name: str = next(fits, next(iter(self.outputs)))
        return name

    @property
    def steps(self) -> list[str]:
        """The steps of a run, in order: names of kernels, `fill_halo` and `loop`."""
        if not self._choices:
            return [self._function("step_name")(k).decode() for k in range(self._function("step_count")())]
        count = self._function("step_count_of")(self._handle)
        return [self._function("step_name_of")(self._handle, k).decode() for k in range(count)]

    def _has_gpus(self) -> bool:
        return any(str(v).startswith("cuda") for v in self.manifest.get("variants", ()))

    def _check_device(self, device: str) -> bytes:
        if not re.fullmatch(r"cpu|cuda(:\d{1,4})?", device):
            raise ValueError(f"unknown device {device!r}: write 'cpu', 'cuda' or 'cuda:1', say")
        if device != "cpu" and not self._has_gpus():
            raise UsageError(f"{self.name} has no kernels for GPUs: build it with --target cuda")
        return device.encode()

    @property
    def device(self) -> str:
        """What computes, and why no GPU does: "cuda: NVIDIA H200 (sm_90)", "cpu: avx512: no CUDA driver (...)"."""
        if not self._has_gpus():
            return f"cpu: {self.variant}"
        return str(self._function("device")(self._open()).decode())

    @property
    def variants(self) -> list[str]:
        """The machines that the library has kernels for, the best first; one where it has no choice."""
        if "variants" not in self.manifest:
            return [self.manifest["machine"]]
        return [self._function("variant_name")(k).decode() for k in range(self._function("variant_count")())]

    @property
    def variant(self) -> str:
        """The machine whose kernels the predictor runs: at first the best that the processor can run."""
        if "variants" not in self.manifest:
            return str(self.manifest["machine"])
        return str(self._function("variant")(self._open()).decode())

    @atomic
    def set_variant(self, machine: str) -> None:
        """Runs the kernels for another machine. Raises UsageError where the processor cannot."""
        if machine not in self.variants:
            raise ValueError(f"unknown variant {machine!r}; the library has {', '.join(self.variants)}")
        if machine != self.variant:
            self._check(self._function("set_variant")(self._open(), self.variants.index(machine)))

    @atomic
    def run_step(self, index: int) -> bool:
        """Runs one step; False if there is no step with this number."""
        return bool(self._handle) and bool(self._run_step(self._handle, index) == 0)

    @atomic
    def close(self) -> None:
        """Releases the weights; outputs still held stay valid. Closing twice is not an error."""
        self._release()
        self._handle = ctypes.c_void_p()
        self._keep.clear()
        self._bound.clear()

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
        """A view of an output as the last run wrote it."""
        bound = self._bound.get(index)
        value = bound.owner if isinstance(bound, DeviceArray) else bound
        return self._view("output_data", index, dtype, shape) if value is None else value

    def _view(self, function: str, index: int, dtype: str, shape: tuple[int, ...]) -> Array:
        """A view of the predictor's memory at the address that the C function returns."""
        start = self._function(function)(self._handle, index) - self._memory.ctypes.data
        return self._memory[start : start + bytes_of(dtype, shape)].view(numpy_dtype(dtype)).reshape(shape)

    def _function(self, name: str) -> Any:
        return getattr(self._library, f"{self.name}_{name}")

    def _check(self, status: int) -> None:
        if status:
            text = self._function("error_text")(status).decode()
            if status == _DEVICE_FAILED and self._has_gpus() and self._handle:
                text = self.device
            raise (ExceededError if status == _TOO_MANY else UsageError)(f"{self.name}: {text}")


def _end(memory: Array, destroy: Any, handle: Any, unmap: Any, *weights: Any) -> None:  # noqa: ARG001
    """Ends what a predictor has of the system. Its threads work in `memory`, which has to be there until then."""
    destroy(handle)
    unmap(*weights)


def load(
    bundle: str | Path, device: str | None = None, largest: Mapping[str, Iterable[int]] | None = None
) -> Predictor:
    """Loads a bundle built for this computer. Raises UsageError if it cannot be loaded.

    A bundle of the target cuda runs on the GPU of the current CUDA context, else on the first one, else on the CPU;
    `device` asks for one: "cuda", "cuda:1" (UsageError where it does not work, with the reason), "cpu".

    Of a bundle with open dimensions, `largest` has the largest shape that an input is to have, {"ids": (1, 128)}: the
    predictor gets memory for no more, and `run` raises ValueError for what needs more. Raises ValueError for a shape
    that the bundle does not take.
    """
    return Predictor(Path(bundle), device, largest)

"""Predictor: runs the model from Python. With numpy it speaks in arrays, without it in memoryviews."""

from __future__ import annotations

import importlib
import json
import math
import struct
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Concatenate, ParamSpec, TypeVar

from .buffers import FORMATS, byte_count, copied, dtype_of, nearest, rgb_bytes
from .module import Module, memory_bytes_for, read_weights
from .open_sizes import OpenSizes

_CLASS = struct.Struct("<ifI")
"""NAME_class of NAME.h: index, probability and the label's address."""

_NO_MEMORY, _TOO_MANY = 2, 8
"""NAME_NO_MEMORY and NAME_TOO_MANY of NAME.h."""


class ExceededError(RuntimeError):
    """The data of a run exceeds a maximum that the bundle was built with."""


@dataclass(frozen=True)
class Class:
    """One class: its place in the output, its name (the place in digits where the model has none), its probability."""

    index: int
    label: str
    probability: float


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _atomic(method: Callable[Concatenate[Predictor, _P], _T]) -> Callable[Concatenate[Predictor, _P], _T]:
    """A method that holds the predictor's lock: the compiled model serves one thread at a time."""

    @wraps(method)
    def locked(self: Predictor, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class Predictor:
    """The compiled model. `inputs` and `outputs` map names to (dtype, shape); `labels` are the classes' names or None.

    A model that was compiled for several sets of shapes has one of them at a time, the first at first.

    Several threads may call one predictor: `run`, `classify` and every other call is done as a whole, one after the
    other. To compute at the same time make one predictor per thread.

    `folder` holds the files (default: this package; a bundle for wasm has them, too, but for pictures and classes),
    `build` names one of its builds ("simd", "relaxed"). Of a model with open sizes, `largest` has the largest shape
    that an input is to have, {"image": (1, 3, 480, 640)}: the predictor takes memory for no more.
    Raises OSError for files that are missing or damaged, RuntimeError where WebAssembly has no SIMD, MemoryError,
    ValueError for a shape that an input cannot have.
    """

    def __init__(
        self,
        folder: Traversable | None = None,
        build: str | None = None,
        largest: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        folder = resources.files(__package__) if folder is None else folder
        self.manifest: dict[str, Any] = json.loads(folder.joinpath("manifest.json").read_text(encoding="utf-8"))
        self.name: str = self.manifest["name"]
        self.device: str = "wasm"
        self.labels: list[str] | None = self.manifest.get("labels")
        self._sets: Sequence[Any] = self.manifest.get("shapes") or [self.manifest]
        if "open" in self.manifest:
            self._sets = OpenSizes(self.manifest)
        self._length = 0  # of outputs that are cut; 0: none is
        self._describe(0)
        self._numpy = _optional("numpy")
        self._lock = threading.RLock()
        self._bound: dict[str, tuple[Any, memoryview[Any]]] = {}
        self._module: Module | None = _load(folder, self.manifest, build)
        self._handle = self._create(self._module, folder, largest or {})
        self._found = (0, 0)  # the address and size of what top_k finds

    @_atomic
    def run(self, inputs: Mapping[str, Any], copy: bool = True) -> dict[str, Any]:
        """Computes all outputs; an input is anything with the buffer protocol or, where numpy is, with `__dlpack__`.

        It has the model's type, and its shape or one dimension of as many elements. The outputs are new numpy arrays,
        or memoryviews where numpy is not installed. With `copy=False` a side module's are views of its memory, which
        the next run overwrites; a standalone module's memory is its own, so that they are copies all the same.
        An output that `bind_outputs` has given an array is that array, unless it is cut.
        An output whose size only a run knows has its true shape; that in `outputs` is the largest.
        Where there are several sets of shapes, those of the inputs choose. With buckets, inputs of a length between are
        padded with zeros to the next, and outputs are cut to the inputs' length.
        Raises ValueError for a missing, unknown or ill-shaped input, and for a predictor that is closed, ExceededError
        for data that exceeds a maximum of the build.
        """
        self.bind(inputs)
        self.compute()
        return self.results(copy)

    @_atomic
    def results(self, copy: bool = True) -> dict[str, Any]:
        """The outputs as the last run left them, as `run` returns them."""
        outputs = {
            name: self._bound[name][0] if name in self._bound else self._output(k, *kind, copy)
            for k, (name, kind) in enumerate(self.outputs.items())
        }
        cut = self.manifest["buckets"]["outputs"] if self._length else {}
        parts = {name: self._true_shape(*place) for name, place in self._sized.items()}
        for name, dims in cut.items():
            parts[name] = tuple(self._length if d in dims else n for d, n in enumerate(self.outputs[name][1]))
        for name, part in parts.items():
            dtype, shape = self.outputs[name]
            data = copied(memoryview(outputs[name]), shape, part)
            outputs[name] = self._array(memoryview(data), dtype, part)
        return outputs

    __call__ = run

    @_atomic
    def bind_outputs(self, outputs: Mapping[str, Any]) -> None:
        """Has every `run` and `compute` that follows copy these outputs into arrays of yours, which `run` then returns.

        An array is writable, contiguous, and of the output's type and shape; None ends it, and so does a set of shapes
        in which the output has another one.
        Raises ValueError for an unknown output and for an array that does not fit.
        """
        self._open()
        fitting: dict[str, tuple[Any, memoryview[Any]]] = {}
        for name, value in outputs.items():
            if name not in self.outputs:
                raise ValueError(f"unknown output {name!r}; the model has {', '.join(self.outputs)}")
            if value is None:
                continue
            (dtype, shape), view = self.outputs[name], self._buffer(name, value, "output")
            if dtype_of(view) != dtype or view.shape != shape:
                got = f"{dtype_of(view)} of shape {view.shape}"
                raise ValueError(f"output {name!r} is to go into {got}; it is {dtype} of {shape}")
            if view.readonly or not view.c_contiguous:
                raise ValueError(f"the array for output {name!r} must be contiguous and writable")
            fitting[name] = value, view
        self._bound = {name: x for name, x in self._bound.items() if name not in outputs} | fitting

    @_atomic
    def bind(self, inputs: Mapping[str, Any]) -> None:
        """Gives the predictor these inputs for every `compute` that follows; see `run`.

        A standalone module copies them now. A side module reads them where they are, unless they are read-only.
        """
        module = self._open()
        unknown = [name for name in inputs if name not in self.inputs]
        if unknown:
            raise ValueError(f"unknown input {unknown[0]!r}; the model has {', '.join(self.inputs) or 'none'}")
        if len(self._sets) > 1 or "buckets" in self.manifest:
            inputs = self._fitted(inputs)
        views = [self._view(name, inputs, *kind) for name, kind in self.inputs.items()]
        for index, view in enumerate(views):
            if view.nbytes:
                address = module.place(f"input {index}", view.cast("B"), view.itemsize)
                self._check(module.call("bind_input", self._handle, index, address, view.nbytes))

    @_atomic
    def compute(self) -> None:
        """Computes all outputs from the inputs bound last (zeros before the first)."""
        module = self._open()
        self._check(module.call("run", self._handle))
        for index, (name, kind) in enumerate(self.outputs.items()):
            if name in self._bound and (size := byte_count(*kind)):
                data = module.read(module.call("output_data", self._handle, index), size)
                self._bound[name][1].cast("B")[:] = data

    @_atomic
    def set_flush_denormals(self, flush: bool = True) -> None:
        """As with `dlpack.load`; WebAssembly has no such mode, so that it changes nothing here."""
        self._check(self._open().call("set_flush_denormals", self._handle, int(flush)))

    @_atomic
    def preprocess(self, picture: Any) -> Any:
        """The input that `manifest["preprocess"]` makes of a picture, for `run` or `bind`.

        A picture has the buffer protocol: bytes in the shape height x width, with or without 1, 3 (RGB) or 4 (RGBA)
        channels. Of several sets of shapes it is for the one that `set_shape` or the last run chose, or where that
        takes no picture, since its batch is not 1, for the first that does.
        Raises ValueError for what is no picture, and for a model without preprocessing.
        """
        others = range(len(self._sets)) if "open" not in self.manifest else (0,)  # if any takes one, the first does
        taken = next((k for k in (self._set, *others) if "preprocess" in self._sets[k]), None)
        if taken is None:
            raise ValueError(f"{self.name} takes no pictures: build it with --preprocess (imagenet, caffe, tf ...)")
        module = self._open()
        self._use(taken)
        spec = self._sets[taken]["preprocess"]
        rgb, height, width = rgb_bytes(picture)
        address = module.place("picture", rgb, 1)
        self._check(module.call("preprocess_rgb", self._handle, address, width, height, 3 * width))
        index, (dtype, shape) = list(self.inputs).index(spec["input"]), self.inputs[spec["input"]]
        data = module.read(module.call("input_data", self._handle, index), byte_count(dtype, shape))
        return self._array(memoryview(bytearray(data)), dtype, shape)

    @_atomic
    def top_k(self, k: int = 5, output: str | None = None) -> list[Class]:
        """The `k` likeliest classes of the last run, the likeliest first; fewer where the output has fewer elements.

        `output` names the output; default: the first of real numbers with an element per label, else the first.
        Those of a quantised output are dequantised. Scores that are no probabilities go through softmax, and NaN comes
        last.
        Raises ValueError for a model with neither labels nor preprocessing, and for a wrong `k` or `output`.
        """
        if not (self.labels or self.manifest.get("preprocess")):
            raise ValueError(f"{self.name} has no classes: build it with --labels")
        if k < 1:
            raise ValueError(f"k is {k}; at least one class can be asked for")
        output = self._scores() if output is None else output
        if output not in self.outputs:
            raise ValueError(f"unknown output {output!r}; the model has {', '.join(self.outputs)}")
        module = self._open()
        count = min(k, math.prod(self.outputs[output][1]))
        size = max(1, count) * _CLASS.size
        if size > self._found[1]:
            self._found = module.reserve(size), size
        at = self._found[0]
        self._check(module.call("top_k", self._handle, list(self.outputs).index(output), max(1, count), at))
        found = _CLASS.iter_unpack(bytes(module.read(at, count * _CLASS.size)))
        return [Class(i, self.labels[i] if self.labels else str(i), probability) for i, probability, _ in found]

    def dequantize(self, name: str, values: Any) -> Any:
        """The real numbers, in float32, that a quantised input's or output's integers stand for.

        What is not quantised, or in floats already, stays as it is. Raises ValueError for an unknown name.
        """
        quantization = self._tensor(name).get("quantization")
        if not quantization:
            return values
        numbers, shape, integers = self._numbers(name, values)
        if not integers:
            return values
        scale, zero = quantization["scale"], quantization["zero_point"]
        real = array("f", ((v - zero) * scale for v in numbers))
        return self._array(memoryview(real).cast("B"), "float32", shape)

    def quantize(self, name: str, values: Any) -> Any:
        """The integers that stand for real numbers in an input or output, the nearest that it has; halves go to the
        even one. Of one that is not quantised it is the values in its type. Raises ValueError for an unknown name.
        """
        tensor = self._tensor(name)
        dtype, quantization = tensor["dtype"], tensor.get("quantization")
        numbers, shape, _ = self._numbers(name, values)
        if quantization:
            scale, zero = quantization["scale"], quantization["zero_point"]
            bits = 8 * struct.calcsize(FORMATS[dtype])
            low, high = (0, (1 << bits) - 1) if dtype.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)
            numbers = [nearest(v / scale, low - zero, high - zero) + zero for v in numbers]
        elif not dtype.startswith("float"):
            numbers = [bool(v) if dtype == "bool" else int(v) for v in numbers]
        return self._array(
            memoryview(bytearray(struct.pack(f"={len(numbers)}{FORMATS[dtype]}", *numbers))), dtype, shape
        )

    @_atomic
    def classify(self, picture: Any, k: int = 5) -> list[Class]:
        """`preprocess`, `run` and `top_k` in one, for a model whose only input is a picture."""
        picture_input = self.preprocess(picture)
        self.run({self.manifest["preprocess"]["input"]: picture_input})
        return self.top_k(k)

    @property
    def variants(self) -> list[str]:
        """The machines that the module has kernels for: WebAssembly alone."""
        return [self.manifest["machine"]]

    @property
    def variant(self) -> str:
        """The machine whose kernels the predictor runs."""
        return str(self.manifest["machine"])

    def set_variant(self, machine: str) -> None:
        """Raises ValueError for another machine; there is but one."""
        if machine not in self.variants:
            raise ValueError(f"unknown variant {machine!r}; the module has {', '.join(self.variants)}")

    @property
    def steps(self) -> list[str]:
        """What a run does, in order: the names of kernels, `fill_halo` and `loop`."""
        module = self._open()
        if len(self._sets) == 1:
            return [module.text(module.call("step_name", k)) for k in range(module.call("step_count"))]
        count = module.call("step_count_of", self._handle)
        return [module.text(module.call("step_name_of", self._handle, k)) for k in range(count)]

    @_atomic
    def run_step(self, index: int) -> bool:
        """Does one step of a run; False where there is none with this number."""
        module = self._open()
        return index >= 0 and module.call("run_step", self._handle, index) == 0

    @_atomic
    def close(self) -> None:
        """Gives the memory back; outputs still held stay as they are. Closing twice is no error."""
        self._module = None

    def __enter__(self) -> Predictor:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _create(self, module: Module, folder: Traversable, largest: Mapping[str, Sequence[int]]) -> int:
        weights = self.manifest.get("weights")
        at, size = 0, 0
        if weights:
            size = weights["bytes"]
            at = module.reserve(size)
            read_weights(folder.joinpath(weights["file"]), weights, module, at)
        handle_at, memory_bytes = module.reserve(4), memory_bytes_for(module, self.manifest, largest)
        memory = module.reserve(memory_bytes)
        self._check(module.call("create", handle_at, memory, memory_bytes, at, size))
        return int.from_bytes(module.read(handle_at, 4), "little")

    def _describe(self, number: int) -> None:
        s, self._set = self._sets[number], number
        self.inputs = {t["name"]: (t["dtype"], tuple(t["shape"])) for t in s["inputs"]}
        shapes = {t["true_shape"]: t["name"] for t in s["outputs"] if "true_shape" in t}
        own = (t for t in s["outputs"] if t["name"] not in shapes and "limits" not in t)
        self.outputs = {t["name"]: (t["dtype"], tuple(t["shape"])) for t in own}
        self._sized = {shapes[t["name"]]: (k, t["shape"][0]) for k, t in enumerate(s["outputs"]) if t["name"] in shapes}

    @property
    def shape(self) -> int:
        """The number of the set of shapes that the predictor has now, of those in `manifest["shapes"]`."""
        return self._set

    @_atomic
    def set_shape(self, number: int) -> None:
        """Takes the set of shapes of that number; `run` and `bind` choose it by their inputs.

        Raises ValueError for a number without a set.
        """
        if not 0 <= number < len(self._sets):
            raise ValueError(f"{self.name} has no shapes number {number}; it has {len(self._sets)}")
        self._use(number)

    def _use(self, number: int) -> None:
        """Takes a set of shapes."""
        if number != self._set:
            status = self._open().call("set_shape", self._handle, number)
            if status == _NO_MEMORY and "open" in self.manifest:
                raise ValueError(f"{self.name}: these shapes need more memory than those in `largest`")
            self._check(status)
            before = self.outputs
            self._describe(number)
            self._bound = {name: x for name, x in self._bound.items() if self.outputs[name] == before[name]}

    def _fitted(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Takes the set of these inputs' shapes, the present one if it can be; returns them, padded to a bucket."""
        buckets = self.manifest.get("buckets", {"sizes": [], "inputs": {}})
        views = {name: self._buffer(name, value) for name, value in inputs.items()}
        where = {name: dims for name, dims in buckets["inputs"].items() if name in views}
        shapes = {name: view.shape or () for name, view in views.items()}
        lengths = {shapes[name][d] for name, dims in where.items() for d in dims if d < len(shapes[name])}
        length = lengths.pop() if len(lengths) == 1 else 0
        size = next((s for s in buckets["sizes"] if s >= length), length)
        self._length = length if size != length else 0
        if self._length:
            for name, dims in where.items():
                view: memoryview[Any] = views[name]
                whole = tuple(size if d in dims else n for d, n in enumerate(shapes[name]))
                form: Any = view.format
                views[name] = memoryview(copied(view, shapes[name], whole)).cast(form, whole)
        for number in self._order(views):
            wanted = {t["name"]: tuple(t["shape"]) for t in self._sets[number]["inputs"]}
            if all(n in views and views[n].shape in (s, (math.prod(s),)) for n, s in wanted.items()):
                self._use(number)
                break
        return views

    def _order(self, views: Mapping[str, memoryview[Any]]) -> list[int]:
        """The numbers of the sets that inputs may ask for, the present one first."""
        if isinstance(self._sets, OpenSizes):
            found = self._sets.find({name: view.shape or () for name, view in views.items()})
            return [self._set if found is None else found]
        return sorted(range(len(self._sets)), key=lambda k: k != self._set)

    def _open(self) -> Module:
        if self._module is None:
            raise ValueError(f"the predictor {self.name} is closed; make another")
        return self._module

    def _check(self, status: int) -> None:
        if status:
            module = self._open()
            kind = ExceededError if status == _TOO_MANY else RuntimeError
            raise kind(f"{self.name}: {module.text(module.call('error_text', status))}")

    def _view(self, name: str, inputs: Mapping[str, Any], dtype: str, shape: tuple[int, ...]) -> memoryview:
        """An input's elements, contiguous in memory."""
        if name not in inputs and name in self.manifest.get("seeds", ()):
            inputs = {name: array("q", [0])}
        if name not in inputs:
            raise ValueError(f"input {name!r} is missing ({dtype}, shape {shape})")
        view: memoryview[Any] = self._buffer(name, inputs[name])
        got = dtype_of(view)
        if got != dtype or view.shape not in (shape, (math.prod(shape),)):
            index = list(self.inputs).index(name)
            ends = isinstance(self._sets, OpenSizes)
            shown = (self._sets[0], self._sets[len(self._sets) - 1]) if ends else self._sets
            shapes = (" to " if ends else " or ").join(str(tuple(s["inputs"][index]["shape"])) for s in shown)
            told = f"input {name!r} is {got} of shape {view.shape}; the model takes {dtype} of {shapes}"
            given = {n: self._buffer(n, x).shape or () for n, x in inputs.items()}  # of which some may be flat
            apart = {n: s for n, s in given.items() if len(s) > 1}
            wrong = self._sets.wrong(apart) if isinstance(self._sets, OpenSizes) else ""
            raise ValueError(f"{told}: {wrong}" if wrong else told)
        if view.c_contiguous and view.format in FORMATS.values():
            return view
        return memoryview(bytearray(view.tobytes())).cast(FORMATS[got])

    def _buffer(self, name: str, value: Any, what: str = "input") -> memoryview:
        if self._numpy is not None and hasattr(value, "__dlpack__") and not isinstance(value, self._numpy.ndarray):
            value = self._numpy.from_dlpack(value)
        try:
            return memoryview(value)
        except TypeError as e:
            raise TypeError(
                f"{what} {name!r} is a {type(value).__name__}; give a numpy array or anything with a buffer"
            ) from e

    def _output(self, index: int, dtype: str, shape: tuple[int, ...], copy: bool) -> Any:
        module, size = self._open(), byte_count(dtype, shape)
        address = module.call("output_data", self._handle, index)
        data = module.read(address, size) if size else memoryview(bytearray())
        return self._array(memoryview(bytearray(data)) if copy and module.shares_memory else data, dtype, shape)

    def _true_shape(self, index: int, rank: int) -> tuple[int, ...]:
        """What output `index` tells of the shape of another one in the last run."""
        module = self._open()
        data = module.read(module.call("output_data", self._handle, index), 8 * rank)
        return struct.unpack(f"<{rank}q", bytes(data))

    def _array(self, data: memoryview, dtype: str, shape: tuple[int, ...]) -> Any:
        if self._numpy is not None:
            return self._numpy.ndarray(shape, dtype, data)
        return data.cast(FORMATS[dtype], shape) if data.nbytes else data.cast(FORMATS[dtype])

    def _scores(self) -> str:
        size = len(self.labels or ())
        real = (t for t in self._sets[self._set]["outputs"] if t["dtype"].startswith("float") or "quantization" in t)
        fits = (t["name"] for t in real if math.prod(t["shape"]) == size)
        return str(next(fits, next(iter(self.outputs))))

    def _tensor(self, name: str) -> Mapping[str, Any]:
        tensors = {t["name"]: t for t in (*self.manifest["inputs"], *self.manifest["outputs"])}
        if name not in tensors:
            raise ValueError(f"unknown name {name!r}; the model has {', '.join(tensors)}")
        found: Mapping[str, Any] = tensors[name]
        return found

    def _numbers(self, name: str, values: Any) -> tuple[list[Any], tuple[int, ...], bool]:
        """Numbers in order, their shape, and whether they are integers."""
        if self._numpy is not None:
            values = self._numpy.asarray(values)
        elif isinstance(values, (list, tuple)):
            values = array("d", values)
        view = self._buffer(name, values)
        flat = memoryview(view.tobytes()).cast(FORMATS[dtype_of(view)]).tolist()
        return flat, view.shape or (), not dtype_of(view).startswith("float")


def _optional(name: str) -> Any:
    """A package that may not be there."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _load(folder: Traversable, manifest: Mapping[str, Any], build: str | None) -> Module:
    if "side_module" in manifest:
        from .side_module import open_side_module

        return open_side_module(folder, manifest["name"], manifest["side_module"], build)
    from .standalone import open_standalone

    return open_standalone(folder, manifest["name"], manifest["wasm"], build)

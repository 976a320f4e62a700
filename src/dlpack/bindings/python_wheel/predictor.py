"""Predictor: runs the model's shared library through ctypes. With numpy it speaks in arrays, without in memoryviews.

It is the text of a wheel, and imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import math
import struct
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

numpy: Any = None
with contextlib.suppress(ImportError):
    numpy = importlib.import_module("numpy")

_FORMATS: Any = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q",
    "uint64": "Q", "float16": "H", "bfloat16": "H", "float32": "f", "float64": "d",
}  # fmt: skip
"""The element types, and the buffer protocol's names for them; 16-bit floats are given by their bits."""


class _RawClass(ctypes.Structure):
    _fields_ = (("index", ctypes.c_int32), ("probability", ctypes.c_float), ("label", ctypes.c_char_p))


class _RawDetection(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_int32),
        *((name, ctypes.c_float) for name in ("score", "x", "y", "width", "height")),
        ("label", ctypes.c_char_p),
    )


C_TYPES: dict[str, Any] = {
    "void": None, "status": ctypes.c_int32, "int32_t": ctypes.c_int32, "size_t": ctypes.c_size_t,
    "ptrdiff_t": ctypes.c_ssize_t, "void*": ctypes.c_void_p, "const void*": ctypes.c_void_p,
    "const char*": ctypes.c_char_p, "const uint8_t*": ctypes.c_void_p, "predictor*": ctypes.c_void_p,
    "const predictor*": ctypes.c_void_p, "predictor**": ctypes.POINTER(ctypes.c_void_p),
    "class*": ctypes.POINTER(_RawClass), "detection*": ctypes.POINTER(_RawDetection), "double": ctypes.c_double,
    "int32_t*": ctypes.POINTER(ctypes.c_int32), "const int64_t*": ctypes.POINTER(ctypes.c_int64),
}  # fmt: skip

_NO_MEMORY = 2
"""NAME_NO_MEMORY of NAME.h."""


@dataclass(frozen=True)
class Class:
    """One class: its place in the output, its name (the place in digits where the model has none), its probability."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Detection:
    """A box in a picture: its class and its name (the place in digits where the model has none), its score, its upper
    left corner and size in pixels."""

    index: int
    label: str
    score: float
    x: float
    y: float
    width: float
    height: float


class Predictor:
    """A compiled model. `inputs` and `outputs` map names to (dtype, shape), in the set of shapes that `shape` names;
    `shapes` are its sets, as (inputs, outputs) each, or where sizes are open the smallest and the largest.

    Of a model with open sizes, `largest` has the largest shape that an input is to have, {"image": (1, 3, 480, 640)}:
    the predictor takes memory for no more.

    Several threads may call one predictor, which serves them in turn; to compute at the same time make one for each.
    Raises RuntimeError where it cannot be made, ValueError for a shape that an input cannot have.
    """

    def __init__(self, largest: Mapping[str, Any] | None = None) -> None:
        folder = Path(__file__).parent
        api = json.loads((folder / "api.json").read_text(encoding="utf-8"))
        self._api = api
        self.name: str = api["name"]
        self._sets = _sets_of(api)
        ends = (0, len(self._sets) - 1) if "open" in api else range(len(self._sets))
        self.shapes = [tuple(_kinds(self._sets[k][of]) for of in ("inputs", "outputs")) for k in ends]
        self._use(0)
        self._library = ctypes.CDLL(str(folder / api["library"]))
        for name, (returns, parameters) in api["functions"].items():
            function = self._function(name)
            function.restype, function.argtypes = C_TYPES[returns], [C_TYPES[kind] for kind in parameters]
        self._lock = threading.RLock()
        handle, memory = ctypes.c_void_p(), self._memory_for(largest or {})
        if not api["weights"]:
            self._check(self._function("create")(ctypes.byref(handle), None, memory, None, 0))
        else:
            path = str(folder / api["weights"]).encode()
            if "open" in api:
                self._check(self._function("create_from_file_within")(ctypes.byref(handle), path, memory))
            else:
                self._check(self._function("create_from_file")(ctypes.byref(handle), path))
        self._handle = handle
        self._release = weakref.finalize(self, self._function("destroy"), handle)

    @property
    def shape(self) -> int:
        """The number of the set of shapes that inputs and outputs have, at first 0."""
        return self._set

    def set_shape(self, shape: int | Mapping[str, Any]) -> None:
        """Chooses a set of shapes for what comes next, by its number or by the shapes of all inputs,
        {"image": (1, 3, 480, 640)}. Raises ValueError for what none has."""
        number = shape if isinstance(shape, int) else self._number(shape)
        if number not in range(len(self._sets)):
            wrong = "" if isinstance(shape, int) or "open" not in self._api else self._sets.wrong(shape)
            raise ValueError(f"set of shapes {shape}: {wrong or f'there are {len(self._sets)}, from 0 on'}")
        with self._lock:
            status = self._function("set_shape")(self._open(), number) if len(self._sets) > 1 else 0
            if status == _NO_MEMORY and "open" in self._api:
                raise ValueError(f"{self.name}: these shapes need more memory than those in `largest`")
            self._check(status)
            self._use(number)

    def set_threads(self, count: int) -> None:
        """Computes on this many threads from now on; at first on as many as there are processors, or as the model was
        built for. Raises ValueError for fewer than one or more than that."""
        if count not in range(1, self._api["threads"] + 1):
            raise ValueError(f"{count} threads: from 1 to {self._api['threads']} can be chosen")
        with self._lock:
            if self._api["threads"] > 1:
                self._check(self._function("set_threads")(self._open(), count))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Computes all outputs: new numpy arrays by name, or memoryviews where numpy is not installed.

        An input is a numpy array or anything with the buffer protocol, of the model's type, and of its shape or flat.
        Raises ValueError for a missing, unknown or ill-formed input, and for a predictor that is closed.
        """
        unknown = [name for name in inputs if name not in self.inputs]
        if unknown:
            raise ValueError(f"unknown input {unknown[0]!r}; the model has {', '.join(self.inputs) or 'none'}")
        with self._lock:
            handle = self._open()
            data = [_elements(name, inputs, *kind) for name, kind in self.inputs.items()]
            for index, each in enumerate(data):
                self._check(self._function("set_input")(handle, index, each, len(each)))
            self._check(self._function("run")(handle))
            return {name: self._output(k, *kind) for k, (name, kind) in enumerate(self.outputs.items())}

    __call__ = run

    def classify(self, picture: Any, count: int = 5) -> list[Class]:
        """The `count` likeliest classes, the likeliest first.

        A picture has the buffer protocol: bytes of the shape height x width x 3 (RGB). For a model that takes no
        pictures give the inputs, as to `run`.
        Raises ValueError for what is no picture and for a wrong `count`, TypeError for a model without classes.
        """
        if not self._api["classes"]:
            raise TypeError(f"{self.name} has no classes")
        if count < 1:
            raise ValueError(f"count is {count}; at least one class can be asked for")
        if not self._api["pictures"]:
            self.run(picture)
            with self._lock:
                return self._top(count)
        with self._lock:
            self._run_picture(picture)
            return self._top(count)

    def detect(self, picture: Any, threshold: float | None = None) -> list[Detection]:
        """What is in a picture (as for `classify`), the surest first, with a score of at least `threshold`, by default
        the model's own.

        Raises ValueError for what is no picture, TypeError for a model that finds nothing in pictures.
        """
        if not self._api["boxes"]:
            raise TypeError(f"{self.name} finds nothing in pictures")
        least, most = self._api["threshold"] if threshold is None else threshold, self._api["most"]
        found, count = (_RawDetection * most)(), ctypes.c_int32()
        with self._lock:
            sides = self._run_picture(picture)
            self._check(self._function("detections")(self._handle, *sides, least, most, found, ctypes.byref(count)))
        return [Detection(d.index, _label(d), d.score, d.x, d.y, d.width, d.height) for d in found[: count.value]]

    def close(self) -> None:
        """Gives the memory back. Closing twice is no error."""
        with self._lock:
            if self._handle:
                self._release()
            self._handle = ctypes.c_void_p()

    def __enter__(self) -> Predictor:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _memory_for(self, largest: Mapping[str, Any]) -> int:
        """The bytes for inputs of no more than these shapes; 0, which stands for all, without any."""
        if largest and "open" not in self._api:
            raise ValueError(f"{self.name} has no open sizes: it takes as much memory for any of its shapes")
        sizes = [0]
        for name, shape in largest.items():
            if name not in self.inputs:
                raise ValueError(f"unknown input {name!r}; the model has {', '.join(self.inputs)}")
            extents = (ctypes.c_int64 * len(shape))(*shape)
            sizes.append(self._function("memory_size_for")(list(self.inputs).index(name), extents, len(shape)))
            if not sizes[-1]:
                first, last = (inputs[name][1] for inputs, _ in self.shapes)
                raise ValueError(f"input {name!r} can be {first} to {last}, not {tuple(shape)}")
        return max(sizes)

    def _use(self, number: int) -> None:
        self._set = number
        self.inputs, self.outputs = (_kinds(self._sets[number][of]) for of in ("inputs", "outputs"))

    def _number(self, shapes: Mapping[str, Any]) -> int:
        """That of the set with these inputs, -1 without one."""
        if "open" in self._api:
            found = self._sets.find(shapes)
            return -1 if found is None else found
        wanted = {name: tuple(shape) for name, shape in shapes.items()}
        own = ({t["name"]: tuple(t["shape"]) for t in s["inputs"]} for s in self._sets)
        return next((k for k, inputs in enumerate(own) if inputs == wanted), -1)

    def _run_picture(self, picture: Any) -> tuple[int, int]:
        handle, view = self._open(), memoryview(picture)
        shape = view.shape or ()
        if view.format != "B" or len(shape) != 3 or shape[2] != 3 or not view.nbytes:
            raise ValueError(f"a picture is uint8 of height x width x 3; this is {_dtype(view)} of {shape}")
        height, width = shape[:2]
        self._check(self._function("preprocess_rgb")(handle, view.tobytes(), width, height, 3 * width))
        self._check(self._function("run")(handle))
        return width, height

    def _top(self, count: int) -> list[Class]:
        scores = self._api["scores"]
        found = (_RawClass * min(count, math.prod(list(self.outputs.values())[scores][1])))()
        self._check(self._function("top_k")(self._open(), scores, len(found), found))
        return [Class(c.index, _label(c), c.probability) for c in found]

    def _output(self, index: int, dtype: str, shape: tuple[int, ...]) -> Any:
        size = math.prod(shape) * struct.calcsize(_FORMATS[dtype])
        data = bytearray(size)
        memory = (ctypes.c_char * size).from_buffer(data)
        self._check(self._function("get_output")(self._handle, index, memory, size))
        if numpy is not None:
            return numpy.ndarray(shape, "uint16" if dtype == "bfloat16" else dtype, data)
        view = memoryview(data)
        return view.cast(_FORMATS[dtype], shape) if size else view.cast(_FORMATS[dtype])

    def _open(self) -> ctypes.c_void_p:
        if not self._handle:
            raise ValueError(f"the predictor {self.name} is closed; make another")
        return self._handle

    def _check(self, status: int) -> None:
        if status:
            raise RuntimeError(f"{self.name}: {self._function('error_text')(status).decode()}")

    def _function(self, name: str) -> Any:
        return getattr(self._library, f"{self._api['name']}_{name}")


def _sets_of(api: dict[str, Any]) -> Any:
    """The sets of shapes: those of open sizes are made when they are asked for."""
    if "open" in api:
        from .open_sizes import OpenSizes

        return OpenSizes({**_set_of(api, 0), "open": api["open"]})
    return [_set_of(api, k) for k in range(api["sets"])]


def _set_of(api: dict[str, Any], number: int) -> dict[str, Any]:
    return {of: [{**t, "shape": t["shapes"][number]} for t in api[of]] for of in ("inputs", "outputs")}


def _kinds(tensors: list[dict[str, Any]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {t["name"]: (t["dtype"], tuple(t["shape"])) for t in tensors}


def _label(found: Any) -> str:
    return str(found.index) if found.label is None else found.label.decode()


def _elements(name: str, inputs: Mapping[str, Any], dtype: str, shape: tuple[int, ...]) -> bytes:
    """An input's elements, row-major."""
    if name not in inputs:
        raise ValueError(f"input {name!r} is missing ({dtype}, shape {shape})")
    try:
        view = memoryview(inputs[name])
    except TypeError as e:
        raise TypeError(
            f"input {name!r} is a {type(inputs[name]).__name__}; give a numpy array or anything with a buffer"
        ) from e
    got = _dtype(view)
    fits = got == dtype or (dtype in ("float16", "bfloat16") and got == "uint16")
    if not fits or view.shape not in (shape, (math.prod(shape),)):
        raise ValueError(f"input {name!r} is {got} of shape {view.shape}; the model takes {dtype} of {shape}")
    return view.tobytes()


def _dtype(view: memoryview) -> str:
    """The name that numpy gives the elements of a buffer, or its format where it has none (foreign byte order)."""
    form = (view.format or "B").lstrip("@=<")
    for letters, name in (("bhilqn", "int"), ("BHILQN", "uint"), ("efd", "float")):
        if len(form) == 1 and form in letters:
            return f"{name}{8 * view.itemsize}"
    return "bool" if form == "?" else f"format {view.format!r}"

"""The stand-in for a NumPy array while a function is traced: every use of it adds nodes to an ONNX graph.

NumPy itself delegates the work: ufuncs and operators through `__array_ufunc__` (NEP 13), other functions through
`__array_function__` (NEP 18), array API code through `__array_namespace__`. Arrays that do not depend on an input stay
NumPy arrays inside, so weights, masks and shape arithmetic are computed by NumPy. Floats are float32 in the graph.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters.builder import NotConverted, OnnxBuilder
from dlpack.exporters.callables import user_line
from dlpack.exporters.numpy.absent import ABSENT

UFUNCS: dict[str, Callable[..., Any]] = {}
"""Converters of ufuncs by name: (trace, inputs as the caller gave them) → Traced."""
FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Converters of other functions by their public name ("linalg.norm"): (trace, *args, **kwargs) → result."""


class Trace:
    """The tracing of one function into a graph."""

    def __init__(self, name: str) -> None:
        self.g = OnnxBuilder(name)
        self.names: dict[int, str] = {}  # id of a weight → its variable's name
        self.missing: dict[str, None] = {}  # functions without a converter, with the user's lines
        self._constants: dict[Any, str] = {}

    def array(self, value: Any) -> Traced:
        """`value` as a `Traced`: itself, or a constant."""
        value = unwrapped(value)
        if isinstance(value, Traced):
            return value
        if isinstance(value, list | tuple) and any(isinstance(v, Traced) for v in _leaves(value)):
            made: Traced = FUNCTIONS["stack"](self, [self.array(v) for v in value])
            return made
        return Traced(self, known=np.asarray(value))

    def wrap(self, name: str) -> Traced:
        return Traced(self, name=name)

    def op(self, kind: str, *inputs: Any, **attrs: Any) -> Traced:
        """A node over Arrays, names or constants, with one output."""
        names = [i if isinstance(i, str) else self.array(i).value() for i in inputs]
        return self.wrap(self.g.op(kind, *names, **attrs))

    def constant(self, array: np.ndarray[Any, Any]) -> str:
        if array.dtype.kind not in "fiub":
            self.unsupported(f"arrays of the type {array.dtype}")
        if array.size == 0:
            raise self.error(f"an array of the shape {list(array.shape)} has no elements")
        name = self.names.get(id(array), "")
        key = name or (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._constants:
            self._constants[key] = self.g.constant(array, name)
        return self._constants[key]

    def error(self, text: str) -> UsageError:
        return UsageError(f"{text}{user_line(traceback.extract_stack())}")

    def unsupported(self, what: str, hint: str = "") -> NoReturn:
        raise UnsupportedError(f"{what} cannot be exported{hint and f'; {hint}'}{user_line(traceback.extract_stack())}")

    def absent(self, what: str, function: Any, args: Any, kwargs: Any) -> Any:
        """Notes a function without a converter; its result for some numbers stands in, so that all are told at once."""
        why = ABSENT.get(what.removeprefix("np."), "") + user_line(traceback.extract_stack())
        self.missing[f"{what} cannot be exported{why}"] = None
        try:
            with np.errstate(all="ignore"):
                result = function(*_numbers(args), **_numbers(kwargs))
        except Exception:  # noqa: BLE001 - it takes no such numbers
            raise self.refusal() from None
        if isinstance(result, tuple) and hasattr(result, "_fields"):
            return type(result)(*map(self._unknown, result))
        kinds = tuple, list
        return type(result)(map(self._unknown, result)) if type(result) in kinds else self._unknown(result)

    def _unknown(self, value: Any) -> Traced:
        """A value of the shape and the type of `value`."""
        array = np.asarray(value)
        if array.dtype.kind not in "fiub" or not array.size:
            raise self.refusal()
        return self.wrap(self.g.input(f"absent_{len(self.missing)}_{id(value)}", array.shape, onnx_dtype(array.dtype)))

    def refusal(self, also: str = "") -> UnsupportedError:
        """Of all that is in `missing`, and `also` what ended the tracing."""
        told = [*self.missing, *([also] if also and also not in self.missing else [])]
        return UnsupportedError(told[0]) if len(told) == 1 else UnsupportedError("the function holds:", tuple(told))

    @contextmanager
    def located(self, what: str) -> Iterator[None]:
        """Errors that a converter raises get the user's line."""
        try:
            yield
        except (ModelError, NotConverted) as e:
            place = user_line(traceback.extract_stack())
            raise UsageError(f"{what}: {e}{'' if place in str(e) else place}") from e
        except DlpackError:
            raise
        except (ValueError, IndexError, TypeError) as e:
            if isinstance(e, TypeError) and "unexpected keyword" in str(e):
                argument = str(e).rpartition("'")[0].rpartition("'")[2]
                self.unsupported(f"{what} with the argument '{argument}'")
            raise self.error(f"{what}: {type(e).__name__}: {e}") from e


def _numbers(value: Any) -> Any:
    """`value` with numbers in place of what depends on the inputs."""
    if isinstance(value, Traced) and value.known is None:
        made = np.random.default_rng(0).uniform(0.5, 1.5, value.shape)
        return made.astype(value.dtype) if value.dtype.kind == "f" else np.ones(value.shape, value.dtype)
    if isinstance(value, Traced):
        return value.known
    if type(value) in (list, tuple):
        return type(value)(map(_numbers, value))
    return {k: _numbers(v) for k, v in value.items()} if isinstance(value, dict) else value


def _leaves(value: Any) -> Iterator[Any]:
    for v in value:
        if isinstance(v, list | tuple):
            yield from _leaves(v)
        else:
            yield v


def unwrapped(value: Any) -> Any:
    """`value` with a `Traced` in place of every `Buffer` that holds one, also inside tuples, lists and dicts."""
    if isinstance(value, np.ndarray):
        traced = getattr(value, "_traced", None)
        return value if traced is None else traced
    if type(value) in (list, tuple):
        return type(value)(unwrapped(v) for v in value)
    if type(value) is dict:
        return {k: unwrapped(v) for k, v in value.items()}
    return value


def onnx_dtype(dtype: Any) -> np.dtype[Any]:
    """The type that the graph has for one of NumPy's: floats of every size are float32."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32) if dtype.kind == "f" else dtype


def is_known(value: Any) -> bool:
    return not isinstance(value, Traced) or (value.known is not None and not value._rows)


def plain(value: Any) -> Any:
    """`value` with the constants among its Arrays as NumPy arrays."""
    if isinstance(value, Traced):
        return value.known
    if isinstance(value, list | tuple):
        return type(value)(plain(v) for v in value) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value


class Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """A NumPy array under tracing: a value of the graph, or `known`, a constant."""

    __array_priority__ = 1e6
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, trace: Trace, name: str = "", known: np.ndarray[Any, Any] | None = None) -> None:
        self._trace = trace
        self.known = known
        self._name = name
        self._rows: dict[int, Traced] = {}  # assigned along one axis, not yet in the graph
        self._axis = 0

    # --- what the graph knows

    def value(self) -> str:
        """The name of the graph's value."""
        if self._rows:
            self._join_rows()
        if self.known is not None:
            return self._trace.constant(self.known)
        return self._name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.known.shape if self.known is not None else self._trace.g.shape(self._name)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.known.dtype if self.known is not None else self._trace.g.dtype(self._name)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        return f"Array(shape={self.shape}, dtype={self.dtype})"

    # --- NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        t, out = self._trace, kwargs.pop("out", None)
        inputs, out = unwrapped(inputs), unwrapped(out)
        if out is not None and not all(isinstance(o, Traced) for o in out):
            t.unsupported(f"np.{ufunc.__name__} into an array made outside of the function", "return new arrays")
        what = f"np.{ufunc.__name__}"
        if any(np.iscomplexobj(v) for v in inputs if not isinstance(v, list | tuple)) and not all(
            map(is_known, inputs)
        ):
            return FUNCTIONS["complex ufunc"](t, ufunc, method, inputs, kwargs)
        if all(is_known(v) for v in (*inputs, *kwargs.values())):
            result: Any = getattr(ufunc, method)(*plain(list(inputs)), **plain(kwargs))
            result = tuple(map(t.array, result)) if isinstance(result, tuple) else t.array(result)
        else:
            with t.located(what):
                if kwargs.pop("where", True) is not True:
                    t.unsupported(f"{what} with the argument 'where'", "use np.where")
                result = self._ufunc(ufunc, method, inputs, kwargs)
        if out is not None:
            results = result if isinstance(result, tuple) else (result,)
            for target, made in zip(out, results, strict=True):
                target._become(made.astype(target.dtype))
            return out[0] if len(out) == 1 else out
        return result

    def _ufunc(self, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        t, name = self._trace, ufunc.__name__
        if method == "__call__":
            dtype = kwargs.pop("dtype", None)
            kwargs = {k: v for k, v in kwargs.items() if k not in ("casting", "order", "subok")}
            if name not in UFUNCS:
                return t.absent(f"np.{name}", ufunc, inputs, kwargs)
            result = UFUNCS[name](t, ufunc, *inputs, **kwargs)
            return result if dtype is None else result.astype(dtype)
        reductions = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_or": "any",
                      "logical_and": "all"}  # fmt: skip
        if method == "reduce" and name in reductions:
            kwargs.setdefault("axis", 0)
            return FUNCTIONS[reductions[name]](t, *inputs, **kwargs)
        if method == "accumulate" and name == "add":
            return FUNCTIONS["cumsum"](t, *inputs, **({"axis": 0} | kwargs))
        if method == "outer" and len(inputs) == 2 and name in UFUNCS:
            a, b = map(t.array, inputs)
            return UFUNCS[name](t, ufunc, a.reshape(*a.shape, *([1] * b.ndim)), b, **kwargs)
        t.unsupported(f"np.{name}.{method}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if any(hasattr(kind, "_complex") for kind in types):
            return NotImplemented  # its own converters take it
        t, args, kwargs = self._trace, unwrapped(args), unwrapped(kwargs)
        module = (getattr(function, "__module__", "") or "numpy").removeprefix("numpy").removeprefix(".")
        name = f"{module}.{function.__name__}" if module else function.__name__
        if name not in FUNCTIONS:
            if all(v.known is not None for v in _arrays((args, kwargs))):
                result = function(*plain(list(args)), **plain(kwargs))
                return t.array(result) if isinstance(result, np.ndarray) else result
            return t.absent(f"np.{name}", function, args, kwargs)
        if kwargs.pop("out", None) is not None:
            t.unsupported(f"np.{name} with the argument 'out'", "assign its result")
        if name not in _MAKES and all(v.known is not None for v in _arrays((args, kwargs))):
            result = function(*plain(list(args)), **plain(kwargs))
            if isinstance(result, list | tuple):
                return type(result)(map(t.array, result)) if type(result) in (list, tuple) else result
            return t.array(result)
        with t.located(f"np.{name}"):
            return FUNCTIONS[name](t, *args, **kwargs)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return np

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        hint = "call NumPy's functions on it (np.take(table, index, axis=0) looks up rows)"
        return np.asarray(self._needed("as a NumPy array", hint), dtype)

    def _needed(self, how: str, hint: str) -> Any:
        if self._rows:
            self._join_rows()
        if self.known is None:
            self._trace.unsupported(f"the use of a value that depends on the input {how}", hint)
        return self.known

    def __bool__(self) -> bool:
        hint = "the flow of the code cannot depend on it; use np.where, np.maximum or a mask"
        return bool(self._needed("as a condition", hint))

    def __float__(self) -> float:
        return float(self._needed("as a Python float", "use NumPy's functions on it, np.exp in place of math.exp"))

    def __int__(self) -> int:
        return int(self._needed("as a Python int", "use x.astype(np.int64)"))

    def __index__(self) -> int:
        return int(self._needed("as an index of a list or an array", "use np.take(table, index, axis=0)"))

    def __contains__(self, item: Any) -> bool:
        return item in self._needed("with 'in'", "use np.any(x == value)")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self.__dict__.get("known") is not None:
            return getattr(self.known, name)
        if not hasattr(np.ndarray, name):
            raise AttributeError(f"'numpy.ndarray' object has no attribute '{name}'")
        return self._trace.unsupported(f"ndarray.{name}")

    # --- indexing

    def __getitem__(self, key: Any) -> Any:
        if self._rows:
            self._join_rows()
        if self.known is not None and all(is_known(k) for k in _keys(key)):
            return self._trace.array(self.known[_plain_key(key)])
        with self._trace.located("indexing"):
            return FUNCTIONS["getitem"](self._trace, self, key)

    def __setitem__(self, key: Any, new: Any) -> None:
        t, new = self._trace, unwrapped(new)
        if not all(is_known(k) for k in _keys(key)):
            masked = isinstance(key, Traced) and key.dtype == bool and key.shape == self.shape
            if not masked or np.shape(plain(new) if is_known(new) else new) != ():
                t.unsupported("an assignment to places that depend on the input", "use np.where")
            if self._rows:
                self._join_rows()
            with t.located("assignment"):
                self._become(FUNCTIONS["where"](t, key, t.array(new).astype(self.dtype), self))
            return
        key = _plain_key(key)
        if self.known is not None and is_known(new) and not self._rows:
            self.known[key] = plain(new)
            return
        with t.located("assignment"):
            axis, index = _row(key, self.shape)
            if index is not None and (not self._rows or axis == self._axis):
                shape = (*self.shape[:axis], *self.shape[axis + 1 :])
                row = FUNCTIONS["broadcast_to"](t, t.array(new), shape).astype(self.dtype)
                self._axis, self._rows[index] = axis, row
                return
            if self._rows:
                self._join_rows()
            self._become(FUNCTIONS["setitem"](t, self, key, t.array(new)))

    def _join_rows(self) -> None:
        """Rows that were assigned one by one become one Concat."""
        t, rows, axis = self._trace, self._rows, self._axis
        self._rows = {}
        parts: list[Traced] = []
        k, n = 0, self.shape[axis]
        while k < n:
            if k in rows:
                parts.append(FUNCTIONS["expand_dims"](t, rows[k], axis))
                k += 1
                continue
            stop = next((j for j in range(k, n) if j in rows), n)
            parts.append(self[(*[slice(None)] * axis, slice(k, stop))])
            k = stop
        self._become(FUNCTIONS["concatenate"](t, parts, axis) if len(parts) > 1 else parts[0])

    def _become(self, other: Traced) -> None:
        self.known, self._name = (None, other.value()) if other.known is None else (other.known, "")

    # --- methods

    def astype(
        self, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
    ) -> Any:
        if self.known is not None and not self._rows:
            return self._trace.array(self.known.astype(dtype))
        want = onnx_dtype(dtype)
        if want.kind not in "fiub":
            self._trace.unsupported(f"the type {np.dtype(dtype)}")
        if want == onnx_dtype(self.dtype):
            return self.copy()
        import onnx

        return self._trace.op("Cast", self, to=onnx.helper.np_dtype_to_tensor_dtype(want))

    def copy(self, order: str = "C") -> Traced:
        name = self.value() if self.known is None or self._rows else ""
        return Traced(self._trace, name, None if self.known is None else self.known.copy())

    def reshape(self, *shape: Any, order: Any = "C", copy: bool | None = None) -> Any:
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order)

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, axes[0] if len(axes) == 1 else (axes or None))

    @property
    def T(self) -> Any:  # NumPy's name
        return np.transpose(self)

    @property
    def mT(self) -> Any:  # NumPy's name
        return np.swapaxes(self, -1, -2)

    def flatten(self, order: Any = "C") -> Any:
        return np.reshape(self, (-1,), order=order)

    def item(self, *args: Any) -> Any:
        return self._needed("as a Python number", "use NumPy's functions on it").item(*args)

    def tolist(self) -> Any:
        return self._needed("as a list", "use NumPy's functions on it").tolist()

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def real(self) -> Traced:
        return self


_METHODS = (
    "all", "any", "argmax", "argmin", "argsort", "clip", "cumsum", "cumprod", "diagonal", "dot", "max", "mean", "min",
    "prod", "ravel", "repeat", "round", "squeeze", "std", "sum", "swapaxes", "take", "trace", "var",
)  # fmt: skip


def _method(name: str) -> Callable[..., Any]:
    function = getattr(np, name)

    def call(self: Traced, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    call.__name__ = name
    return call


for _name in _METHODS:
    setattr(Traced, _name, _method(_name))

_MAKES = ("copy", "astype", "zeros_like", "ones_like", "full_like", "empty_like")


def _arrays(value: Any) -> Iterator[Traced]:
    if isinstance(value, Traced):
        if value._rows:
            value._join_rows()
        yield value
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _arrays(v)
    elif isinstance(value, dict):
        yield from _arrays(list(value.values()))


def _keys(key: Any) -> list[Any]:
    found = []
    key = unwrapped(key)
    for k in key if isinstance(key, tuple) else (key,):
        found += [k.start, k.stop, k.step] if isinstance(k, slice) else [*_arrays(k)] or [k]
    return found


def _plain_key(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(_plain_key(k) for k in key)
    if isinstance(key, slice):
        return slice(plain(key.start), plain(key.stop), plain(key.step))
    return plain(key)


def _row(key: Any, shape: tuple[int, ...]) -> tuple[int, int | None]:
    """(axis, index) where `key` is one whole row along an axis, such as y[3] or y[:, 3]; else index None."""
    keys = list(key) if isinstance(key, tuple) else [key]
    while keys and (keys[-1] is Ellipsis or (isinstance(keys[-1], slice) and keys[-1] == slice(None))):
        keys.pop()
    if not keys or len(keys) > len(shape) or any(not isinstance(k, slice) or k != slice(None) for k in keys[:-1]):
        return 0, None
    last, axis = keys[-1], len(keys) - 1
    if not isinstance(last, int | np.integer) or isinstance(last, bool):
        return 0, None
    if not -shape[axis] <= last < shape[axis]:
        raise IndexError(f"index {last} is out of bounds for axis {axis} with size {shape[axis]}")
    return axis, int(last) % shape[axis]

"""The arrays that NumPy creates while a function is traced: traced values can be assigned into them.

`out = np.zeros(n)` followed by `out[k] = f(x)` is how NumPy code collects results, and no protocol of NumPy's reports
it. So while a function is traced, np.zeros and its like give `Buffer`s, and the functions that NumPy does not hand
over (np.asarray, np.array, np.take of a table) pass traced values on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dlpack.exporters.numpy.array import FUNCTIONS, Trace, Traced, _arrays, unwrapped

_MAKERS = ("zeros", "ones", "empty", "full")
_CONVERTERS = ("asarray", "array", "asanyarray", "ascontiguousarray")


class Buffer(np.ndarray[Any, Any]):
    """A NumPy array until a traced value is assigned; from then on `_traced`, to which everything is passed."""

    _trace: Trace | None = None
    _traced: Traced | None = None

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            traced = super().__getattribute__("_traced")
            if traced is not None:
                return getattr(traced, name)
        return super().__getattribute__(name)

    def __getitem__(self, key: Any) -> Any:
        if self._traced is not None:
            return self._traced[key]
        return self.view(np.ndarray)[key]

    def __setitem__(self, key: Any, new: Any) -> None:
        new = unwrapped(new)
        if self._traced is None and self._trace is not None and any(True for _ in _arrays([key, new])):
            self._traced = Traced(self._trace, known=np.array(self.view(np.ndarray)))
        if self._traced is not None:
            self._traced[key] = new
        else:
            super().__setitem__(key, new)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.view(np.ndarray) if self._traced is None else self._traced)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        result = getattr(ufunc, method)(*_bare(unwrapped(inputs)), **_bare(kwargs))
        if out is None:
            return result
        for target, made in zip(out, result if isinstance(result, tuple) else (result,), strict=True):
            target[...] = made
        return out[0] if len(out) == 1 else out

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return function(*_bare(unwrapped(args)), **_bare(unwrapped(kwargs)))


def _bare(value: Any) -> Any:
    """Buffers without a traced value as plain arrays."""
    if isinstance(value, Buffer):
        return value.view(np.ndarray)
    if type(value) in (list, tuple):
        return type(value)(_bare(v) for v in value)
    if type(value) is dict:
        return {k: _bare(v) for k, v in value.items()}
    return value


@contextmanager
def creating(trace: Trace) -> Iterator[None]:
    """A context in which NumPy's functions that create arrays accept traced values."""
    saved = {n: getattr(np, n) for n in (*_MAKERS, *_CONVERTERS, "take")}

    def making(name: str, original: Any) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = unwrapped(args), unwrapped(kwargs)
            if name == "full" and any(True for _ in _arrays((args, kwargs))):
                return _full(trace, *args, **kwargs)
            made = original(*args, **kwargs)
            if type(made) is not np.ndarray or made.dtype.kind not in "fiub":
                return made
            buffer = made.view(Buffer)
            buffer._trace = trace
            return buffer

        return make

    def converting(original: Any) -> Callable[..., Any]:
        def convert(value: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
            value = unwrapped(value)
            if not any(True for _ in _arrays(value)):
                return original(value, dtype, *args, **kwargs)
            array = trace.array(value)
            return array.copy() if dtype is None else array.astype(dtype)

        return convert

    def take(a: Any, indices: Any, *args: Any, **kwargs: Any) -> Any:
        if any(True for _ in _arrays(unwrapped([a, indices]))):
            with trace.located("np.take"):
                return FUNCTIONS["take"](trace, a, indices, *args, **kwargs)
        return saved["take"](a, indices, *args, **kwargs)

    try:
        for name in _MAKERS:
            setattr(np, name, making(name, saved[name]))
        for name in _CONVERTERS:
            setattr(np, name, converting(saved[name]))
        np.take = take
        yield
    finally:
        for name, original in saved.items():
            setattr(np, name, original)


def _full(trace: Trace, shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **kwargs: Any) -> Any:
    value = trace.array(fill_value)
    made = np.broadcast_to(value, shape)
    return made if dtype is None else made.astype(dtype)

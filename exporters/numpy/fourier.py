"""Complex arrays under tracing, as pairs of real ones, and numpy.fft as ONNX's DFT.

A model's inputs and outputs are real, so complex values come from a transform or a complex constant, and end in their
real and imaginary parts, sizes, angles or an inverse transform.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dlpack.exporters.numpy.array import FUNCTIONS, Trace, Traced, plain, unwrapped
from dlpack.exporters.numpy.functions import axis_of, function

_BOTH = (
    "sum", "mean", "reshape", "ravel", "transpose", "swapaxes", "moveaxis", "squeeze", "expand_dims", "concatenate",
    "stack", "hstack", "vstack", "take", "roll", "flip", "broadcast_to", "tile", "repeat", "pad", "copy", "cumsum",
    "split", "array_split", "diagonal", "fft.fftshift", "fft.ifftshift",
)  # fmt: skip
"""Functions that do the same with the real and the imaginary part."""


class Complex(np.lib.mixins.NDArrayOperatorsMixin):
    """A complex array that depends on the inputs: `real` and `imag`."""

    _complex = True
    __array_priority__ = 2e6
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, trace: Trace, real: Any, imag: Any) -> None:
        self.real: Any
        self.imag: Any
        shape = np.broadcast_shapes(real.shape, imag.shape)
        self._trace = trace
        self.real, self.imag = (v if v.shape == shape else np.broadcast_to(v, shape) for v in (real, imag))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.real.shape)

    @property
    def ndim(self) -> int:
        return int(self.real.ndim)

    @property
    def size(self) -> int:
        return int(self.real.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.complex64)

    @property
    def T(self) -> Any:  # NumPy's name
        return np.transpose(self)

    def __len__(self) -> int:
        return len(self.real)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, key: Any) -> Complex:
        return Complex(self._trace, self.real[key], self.imag[key])

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in (*_BOTH, "conj", "conjugate"):
            return lambda *args, **kwargs: getattr(np, name)(self, *args, **kwargs)
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        return self._trace.unsupported(f"ndarray.{name} of a complex array")

    def astype(self, dtype: Any, **_: Any) -> Any:
        return self if np.dtype(dtype).kind == "c" else self.real.astype(dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return complex_ufunc(self._trace, ufunc, method, unwrapped(inputs), kwargs)

    def __array_function__(self, called: Any, types: Any, args: Any, kwargs: Any) -> Any:
        t, args, kwargs = self._trace, unwrapped(args), unwrapped(kwargs)
        module = (getattr(called, "__module__", "") or "numpy").removeprefix("numpy").removeprefix(".")
        name = f"{module}.{called.__name__}" if module else called.__name__
        with t.located(f"np.{name}"):
            if name in _BOTH:
                real, imag = (called(*_part(t, args, k), **_part(t, kwargs, k)) for k in ("real", "imag"))
                if isinstance(real, list | tuple):
                    return [Complex(t, a, b) for a, b in zip(real, imag, strict=True)]
                return Complex(t, real, imag)
            if name in _ON_COMPLEX:
                return FUNCTIONS[name](t, *args, **kwargs)
        return t.unsupported(f"np.{name} of a complex array")


def _part(t: Trace, value: Any, part: str) -> Any:
    """`value` with the parts of the complex arrays in it; a real array's imaginary part is zero."""
    if isinstance(value, Complex):
        return getattr(value, part)
    if isinstance(value, Traced | np.ndarray):
        return getattr(lifted(t, value), part)
    if type(value) in (list, tuple):
        return type(value)(_part(t, v, part) for v in value)
    return {k: _part(t, v, part) for k, v in value.items()} if isinstance(value, dict) else value


def lifted(t: Trace, value: Any) -> Complex:
    """Any array or number as a `Complex`."""
    if isinstance(value, Complex):
        return value
    if isinstance(value, Traced) and value.known is None:
        real = value.astype(np.float32)
        return Complex(t, real, t.array(np.zeros((1,) * real.ndim, np.float32)))
    array = np.asarray(plain(value))
    return Complex(t, t.array(array.real.astype(np.float32)), t.array(array.imag.astype(np.float32)))


# --- arithmetic -------------------------------------------------------------------------------------------------------


def _multiply(t: Trace, a: Complex, b: Complex) -> Complex:
    if _is_zero(b.imag):
        return Complex(t, a.real * b.real, a.imag * b.real)
    if _is_zero(a.imag):
        return Complex(t, a.real * b.real, a.real * b.imag)
    return Complex(t, a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real)


def _is_zero(value: Traced) -> bool:
    """Whether it is the imaginary part of a real array."""
    return value.known is not None and not np.any(value.known)


def _divide(t: Trace, a: Complex, b: Complex) -> Complex:
    size = b.real * b.real + b.imag * b.imag
    top = _multiply(t, a, Complex(t, b.real, -b.imag))
    return Complex(t, top.real / size, top.imag / size)


def _exp(t: Trace, a: Complex) -> Complex:
    size = np.exp(a.real)
    return Complex(t, size * np.cos(a.imag), size * np.sin(a.imag))


def _power(t: Trace, a: Complex, b: Any) -> Complex:
    raised = plain(b)
    if isinstance(raised, Traced | Complex) or np.ndim(raised) or not 1 <= raised <= 16 or raised != int(raised):
        t.unsupported("a complex array to the power of anything but a whole number up to 16")
    y = a
    for _ in range(int(raised) - 1):
        y = _multiply(t, y, a)
    return y


_UFUNCS: dict[str, Callable[..., Any]] = {
    "add": lambda t, a, b: Complex(t, a.real + b.real, a.imag + b.imag),
    "subtract": lambda t, a, b: Complex(t, a.real - b.real, a.imag - b.imag),
    "multiply": _multiply,
    "divide": _divide,
    "negative": lambda t, a: Complex(t, -a.real, -a.imag),
    "positive": lambda _, a: a,
    "conjugate": lambda t, a: Complex(t, a.real, -a.imag),
    "square": lambda t, a: _multiply(t, a, a),
    "reciprocal": lambda t, a: _divide(t, lifted(t, 1.0), a),
    "exp": _exp,
    "absolute": lambda _, a: np.sqrt(a.real * a.real + a.imag * a.imag),
}


def complex_ufunc(t: Trace, ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A ufunc of which an input is complex."""
    name = ufunc.__name__
    if kwargs.keys() - {"dtype"} or method != "__call__" or name not in (*_UFUNCS, "power"):
        call = name if method == "__call__" else f"{name}.{method}"
        t.unsupported(f"np.{call} of a complex array")
    with t.located(f"np.{name}"):
        if name == "power":
            return _power(t, lifted(t, inputs[0]), inputs[1])
        a, *others = (lifted(t, v) for v in inputs)
        return _UFUNCS[name](t, a, *others)


FUNCTIONS["complex ufunc"] = complex_ufunc


@function("real")
def _real_part(_: Trace, val: Any) -> Any:
    return val.real


@function("imag")
def _imaginary_part(t: Trace, val: Any) -> Any:
    return val.imag if isinstance(val, Complex) else val * t.array(np.float32(0))


@function("angle")
def angle(t: Trace, z: Any, deg: bool = False) -> Any:
    z = lifted(t, z)
    made = np.arctan2(z.imag + z.real * np.float32(0), z.real)
    return made * np.float32(180 / math.pi) if deg else made


@function("iscomplexobj")
def is_complex(_: Trace, x: Any) -> bool:
    return isinstance(x, Complex)


# --- transforms -------------------------------------------------------------------------------------------------------


def _fitted(t: Trace, x: Any, n: int, axis: int) -> Any:
    """`x` cut or filled with zeros to the length `n`."""
    have = x.shape[axis]
    if n < 1:
        raise ValueError(f"Invalid number of FFT data points ({n}) specified.")
    if have > n:
        return x[(*[slice(None)] * axis, slice(0, n))]
    if have < n:
        zeros = np.zeros((*x.shape[:axis], n - have, *x.shape[axis + 1 :]), np.float32)
        return np.concatenate([x, t.array(zeros)], axis=axis)
    return x


def _scaled(x: Any, n: int, norm: str | None, inverse: bool) -> Any:
    """From "backward" to `norm`."""
    if norm not in (None, "backward", "ortho", "forward"):
        raise ValueError(f'Invalid norm value {norm}; should be "backward", "ortho" or "forward".')
    if norm in (None, "backward"):
        return x
    factor = math.sqrt(n) if norm == "ortho" else float(n)
    return x * np.float32(factor if inverse else 1 / factor)


def _transform(t: Trace, a: Any, n: int | None, axis: int, norm: str | None, inverse: bool, half: bool) -> Complex:
    """The transform along one axis; with `half` of a real array, its first n // 2 + 1 values."""
    axis = axis_of(axis, a.ndim)
    n = a.shape[axis] if n is None else int(plain(n))
    x: Any = _fitted(t, a, n, axis)
    order = [*(k for k in range(x.ndim) if k != axis), axis]
    if isinstance(x, Complex):
        x = np.stack([np.transpose(v, order) for v in (x.real, x.imag)], axis=-1)
    else:
        x = np.expand_dims(np.transpose(x.astype(np.float32), order), -1)
    outer = x.shape[:-2]
    flat = np.reshape(x, (-1, *x.shape[-2:]))
    made: Any = t.op("DFT", flat, axis=1, inverse=int(inverse), onesided=int(half))
    made = np.reshape(made, (*outer, *made.shape[1:]))
    back = np.argsort(order).tolist()
    real, imag = (np.transpose(made[..., k], back) for k in (0, 1))
    done: Complex = _scaled(Complex(t, real, imag), n, norm, inverse)
    return done


@function("fft.fft")
def fft(t: Trace, a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    return _transform(t, a, n, axis, norm, inverse=False, half=False)


@function("fft.ifft")
def ifft(t: Trace, a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    return _transform(t, a, n, axis, norm, inverse=True, half=False)


@function("fft.rfft")
def rfft(t: Trace, a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    if isinstance(a, Complex):
        t.unsupported("np.fft.rfft of a complex array")
    return _transform(t, a, n, axis, norm, inverse=False, half=True)


@function("fft.irfft")
def irfft(t: Trace, a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    """The sum over half a spectrum, in which all values but the first, and for an even `n` the last, count twice."""
    axis = axis_of(axis, a.ndim)
    n = 2 * (a.shape[axis] - 1) if n is None else int(plain(n))
    bins = n // 2 + 1
    z = lifted(t, _fitted(t, a, bins, axis))
    t.g.claim("the inverse transform", (2 * bins, n), np.float32)
    turns = 2 * math.pi * (np.outer(np.arange(bins), np.arange(n)) % n) / n
    twice = np.full((bins, 1), 2.0)
    twice[0] = 1.0
    if n % 2 == 0:
        twice[-1] = 1.0
    cos, sin = ((f(turns) * twice / n).astype(np.float32) for f in (np.cos, np.sin))
    real, imag = (np.moveaxis(v, axis, -1) for v in (z.real, z.imag))
    made = real @ t.array(cos) - imag @ t.array(sin)
    return _scaled(np.moveaxis(made, -1, axis), n, norm, inverse=True)


def _several(name: str, default: tuple[int, ...] | None) -> None:
    """Enters a transform over several axes: the last first, which is the half one; an inverse has it last."""
    inverse, half = "ifft" in name or "irfft" in name, "rfft" in name

    def convert(t: Trace, a: Any, s: Any = None, axes: Any = default, norm: Any = None, out: Any = None) -> Any:
        s, axes = plain(s), plain(axes)
        if axes is None:
            axes = range(a.ndim) if s is None else range(-len(s), 0)
        axes = [axis_of(int(k), a.ndim) for k in axes]
        sizes = [None] * len(axes) if s is None else [int(n) for n in s]
        steps = list(zip(axes, sizes, strict=True))[::-1]
        if inverse and half:
            steps = [*steps[1:], steps[0]]
        for k, (axis, n) in enumerate(steps):
            special = half and k == (len(steps) - 1 if inverse else 0)
            one = (irfft if inverse else rfft) if special else (ifft if inverse else fft)
            a = one(t, a, n, axis, norm)
        return a

    FUNCTIONS[f"fft.{name}"] = convert


for _kind in ("fft", "ifft", "rfft", "irfft"):
    _several(f"{_kind}2", (-2, -1))
    _several(f"{_kind}n", None)


@function("fft.fftshift")
def fftshift(t: Trace, x: Any, axes: Any = None) -> Any:
    return _shifted(x, axes, lambda n: n // 2)


@function("fft.ifftshift")
def ifftshift(t: Trace, x: Any, axes: Any = None) -> Any:
    return _shifted(x, axes, lambda n: -(n // 2))


def _shifted(x: Any, axes: Any, by: Callable[[int], int]) -> Any:
    found = range(x.ndim) if axes is None else [axes] if isinstance(axes, int) else axes
    for axis in found:
        x = np.roll(x, by(x.shape[axis]), axis)
    return x


_ON_COMPLEX = ("real", "imag", "angle", "iscomplexobj", *(n for n in FUNCTIONS if n.startswith("fft.")))

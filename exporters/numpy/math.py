"""NumPy's reductions and linear algebra as ONNX nodes. Signatures are NumPy's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlpack.exporters.numpy.array import FUNCTIONS, Trace, Traced, onnx_dtype
from dlpack.exporters.numpy.functions import (
    axes_of,
    axis_of,
    concatenate,
    expand_dims,
    function,
    ravel,
    reshape,
    same_type,
)

NO: Any = np._NoValue


def _reduce(t: Trace, kind: str, a: Traced, axis: Any, keepdims: Any) -> Any:
    axes = axes_of(axis, a.ndim)
    keep = int(keepdims is not NO and bool(keepdims))
    if not axes:
        return a
    if kind == "ReduceSum":
        return t.op(kind, a, t.g.ints(axes), keepdims=keep)
    return t.op(kind, a, axes=axes, keepdims=keep)


def _refuse(t: Trace, name: str, initial: Any, where: Any) -> None:
    if (initial is not NO and initial is not None) or (where is not NO and where is not True):
        t.unsupported(f"np.{name} with the argument 'initial' or 'where'")


def _summed(a: Traced, dtype: Any) -> Traced:
    """In the type that NumPy sums in: booleans and small integers as int64."""
    if dtype is None:
        dtype = np.int64 if a.dtype.kind in "bi" else np.uint64 if a.dtype.kind == "u" else a.dtype
    dtype = onnx_dtype(dtype)
    made: Traced = a if a.dtype == dtype else a.astype(np.int64 if dtype == np.uint64 else dtype)
    return made


@function("sum")
def sum_(t: Trace, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO,
         initial: Any = NO, where: Any = NO) -> Any:  # fmt: skip
    _refuse(t, "sum", initial, where)
    return _reduce(t, "ReduceSum", _summed(t.array(a), dtype), axis, keepdims)


@function("prod")
def prod(t: Trace, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO,
         initial: Any = NO, where: Any = NO) -> Any:  # fmt: skip
    _refuse(t, "prod", initial, where)
    return _reduce(t, "ReduceProd", _summed(t.array(a), dtype), axis, keepdims)


@function("mean")
def mean(t: Trace, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO,
         where: Any = NO) -> Any:  # fmt: skip
    _refuse(t, "mean", NO, where)
    a = t.array(a)
    return _reduce(t, "ReduceMean", a if a.dtype.kind == "f" else a.astype(np.float32), axis, keepdims)


@function("var")
def var(  # noqa: PLR0913 - NumPy's signature
    t: Trace, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = NO,
    where: Any = NO, mean: Any = NO, correction: Any = NO,
) -> Any:  # fmt: skip
    _refuse(t, "var", NO, where)
    a = t.array(a)
    a = a if a.dtype.kind == "f" else a.astype(np.float32)
    less = a - (FUNCTIONS["mean"](t, a, axis, keepdims=True) if mean is NO else mean)
    total = _reduce(t, "ReduceSum", t.op("Mul", less, less), axis, keepdims)
    count = math.prod(a.shape[k] for k in axes_of(axis, a.ndim)) - (ddof if correction is NO else correction)
    return total / float(count)


@function("std")
def std(t: Trace, *args: Any, **kwargs: Any) -> Any:
    return np.sqrt(var(t, *args, **kwargs))


def _extreme(names: tuple[str, ...], kind: str) -> None:
    def convert(t: Trace, a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO, initial: Any = NO,
                where: Any = NO) -> Any:  # fmt: skip
        _refuse(t, names[0], initial, where)
        a = t.array(a)
        if a.dtype == np.bool_:
            return _reduce(t, kind, a.astype(np.int32), axis, keepdims).astype(np.bool_)
        return _reduce(t, kind, a, axis, keepdims)

    for name in names:
        FUNCTIONS[name] = convert


_extreme(("max", "amax"), "ReduceMax")
_extreme(("min", "amin"), "ReduceMin")


def _truths(name: str, kind: str) -> None:
    def convert(t: Trace, a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO, where: Any = NO) -> Any:
        _refuse(t, name, NO, where)
        truth: Any = np.not_equal(t.array(a), 0)
        return _reduce(t, kind, truth.astype(np.int32), axis, keepdims).astype(np.bool_)

    FUNCTIONS[name] = convert


_truths("any", "ReduceMax")
_truths("all", "ReduceMin")


@function("count_nonzero")
def count_nonzero(t: Trace, a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return sum_(t, np.not_equal(t.array(a), 0), axis, keepdims=keepdims)


@function("ptp")
def ptp(t: Trace, a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO) -> Any:
    return FUNCTIONS["max"](t, a, axis, keepdims=keepdims) - FUNCTIONS["min"](t, a, axis, keepdims=keepdims)


@function("average")
def average(
    t: Trace, a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = NO
) -> Any:
    if returned:
        t.unsupported("np.average with returned=True")
    a = t.array(a)
    if weights is None:
        return mean(t, a, axis, keepdims=keepdims)
    w: Any = t.array(weights)
    if w.shape != a.shape:
        shape = [1] * a.ndim
        for k, n in zip(axes_of(axis, a.ndim), w.shape, strict=True):
            shape[k] = n
        w = np.broadcast_to(np.reshape(w, shape), a.shape)
    return sum_(t, a * w, axis, keepdims=keepdims) / sum_(t, w, axis, keepdims=keepdims)


def _arg(name: str, kind: str) -> None:
    def convert(t: Trace, a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = NO) -> Any:
        a = t.array(a)
        keep = int(keepdims is not NO and bool(keepdims))
        if axis is None:
            flat = t.op(kind, ravel(t, a), axis=0, keepdims=0)
            return reshape(t, flat, (1,) * a.ndim) if keep else flat
        return t.op(kind, a, axis=axis_of(axis, a.ndim), keepdims=keep)

    FUNCTIONS[name] = convert


_arg("argmax", "ArgMax")
_arg("argmin", "ArgMin")


@function("cumsum")
def cumsum(t: Trace, a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    a = _summed(t.array(a), dtype)
    if axis is None:
        a, axis = ravel(t, a), 0
    return t.op("CumSum", a, t.g.scalar_int(axis_of(axis, a.ndim)))


@function("cumulative_sum")
def cumulative_sum(t: Trace, x: Any, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Any:
    if include_initial:
        t.unsupported("np.cumulative_sum with include_initial=True")
    return cumsum(t, x, 0 if axis is None else axis, dtype)


@function("diff")
def diff(t: Trace, a: Any, n: int = 1, axis: int = -1, prepend: Any = NO, append: Any = NO) -> Any:
    a = t.array(a)
    axis = axis_of(axis, a.ndim)
    ends = [
        e if e is NO or np.ndim(e) else np.full((*a.shape[:axis], 1, *a.shape[axis + 1 :]), e)
        for e in (prepend, append)
    ]
    parts = [p for p in (ends[0], a, ends[1]) if p is not NO]
    a = concatenate(t, parts, axis) if len(parts) > 1 else a
    cut = [slice(None)] * axis
    for _ in range(n):
        a = a[(*cut, slice(1, None))] - a[(*cut, slice(None, -1))]
    return a


def _sorted(t: Trace, a: Any, axis: Any, output: int) -> Any:
    a = t.array(a)
    if axis is None:
        a, axis = ravel(t, a), -1
    axis = axis_of(axis, a.ndim)
    made = t.g.op("TopK", a.value(), t.g.ints([a.shape[axis]]), outputs=2, axis=axis, largest=0, sorted=1)
    return t.wrap(made[output])


@function("sort")
def sort(t: Trace, a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    return _sorted(t, a, axis, 0)


@function("argsort")
def argsort(t: Trace, a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    return _sorted(t, a, axis, 1)


# --- products ---------------------------------------------------------------------------------------------------------


@function("einsum")
def einsum(t: Trace, *operands: Any, out: Any = None, optimize: Any = False, **kwargs: Any) -> Any:
    subscripts, *arrays = operands
    if not isinstance(subscripts, str):
        t.unsupported("np.einsum with lists of axes", "write the subscripts as a string")
    if kwargs:
        t.unsupported(f"np.einsum with the argument '{next(iter(kwargs))}'")
    return t.op("Einsum", *same_type(t, arrays), equation=subscripts.replace(" ", ""))


@function("dot", "linalg.multi_dot")
def dot(t: Trace, a: Any, b: Any = None, out: Any = None) -> Any:
    if b is None:  # multi_dot
        result, *rest = list(a)
        for factor in rest:
            result = dot(t, result, factor)
        return result
    a, b = t.array(a), t.array(b)
    if a.ndim == 0 or b.ndim == 0:
        return np.multiply(a, b)
    if b.ndim <= 2:
        return np.matmul(a, b)
    return tensordot(t, a, b, ([-1], [-2]))


@function("matmul", "linalg.matmul")
def matmul(t: Trace, a: Any, b: Any) -> Any:
    return np.matmul(t.array(a), b)


@function("inner")
def inner(t: Trace, a: Any, b: Any) -> Any:
    a, b = t.array(a), t.array(b)
    if a.ndim == 0 or b.ndim == 0:
        return np.multiply(a, b)
    return tensordot(t, a, b, ([-1], [-1]))


@function("vdot")
def vdot(t: Trace, a: Any, b: Any) -> Any:
    return np.matmul(ravel(t, a), ravel(t, b))


@function("outer", "linalg.outer")
def outer(t: Trace, a: Any, b: Any, out: Any = None) -> Any:
    return np.multiply(expand_dims(t, ravel(t, a), 1), ravel(t, b))


@function("tensordot", "linalg.tensordot")
def tensordot(t: Trace, a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = t.array(a), t.array(b)
    if isinstance(axes, int | np.integer):
        axes = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    pairs = [[int(k)] if isinstance(k, int | np.integer) else [int(n) for n in k] for k in axes]
    left = [axis_of(k, a.ndim) for k in pairs[0]]
    right = [axis_of(k, b.ndim) for k in pairs[1]]
    free_a = [k for k in range(a.ndim) if k not in left]
    free_b = [k for k in range(b.ndim) if k not in right]
    inner_size = math.prod(a.shape[k] for k in left)
    if [a.shape[k] for k in left] != [b.shape[k] for k in right]:
        raise ValueError("shape-mismatch for sum")
    rows = np.reshape(np.transpose(a, [*free_a, *left]), (-1, inner_size))
    columns = np.reshape(np.transpose(b, [*right, *free_b]), (inner_size, -1))
    shape = [a.shape[k] for k in free_a] + [b.shape[k] for k in free_b]
    return np.reshape(np.matmul(rows, columns), shape)


@function("linalg.vecdot")
def vecdot(t: Trace, x1: Any, x2: Any, axis: int = -1) -> Any:
    return sum_(t, np.multiply(t.array(x1), x2), axis)


@function("linalg.norm", "linalg.vector_norm", "linalg.matrix_norm")
def norm(t: Trace, x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    x = t.array(x)
    vector = (axis is not None and not isinstance(axis, tuple | list)) or x.ndim == 1
    x = x if x.dtype.kind == "f" else x.astype(np.float32)
    if ord in (None, "fro") or (ord == 2 and vector):
        return np.sqrt(sum_(t, np.square(x), axis, keepdims=keepdims))
    if vector and ord == 1:
        return sum_(t, np.abs(x), axis, keepdims=keepdims)
    if vector and ord in (np.inf, -np.inf):
        return FUNCTIONS["max" if ord > 0 else "min"](t, np.abs(x), axis, keepdims=keepdims)
    return t.unsupported(f"np.linalg.norm with ord={ord!r} of an array of {x.ndim} dimensions")


@function("linalg.det")
def det(t: Trace, a: Any) -> Any:
    return t.op("Det", t.array(a))


@function("kron")
def kron(t: Trace, a: Any, b: Any) -> Any:
    a, b = t.array(a), t.array(b)
    rank = max(a.ndim, b.ndim)
    sizes = [[*[1] * (rank - v.ndim), *v.shape] for v in (a, b)]
    left = np.reshape(a, [n for d in sizes[0] for n in (d, 1)])
    right = np.reshape(b, [n for d in sizes[1] for n in (1, d)])
    return np.reshape(np.multiply(left, right), [p * q for p, q in zip(*sizes, strict=True)])


@function("convolve")
def convolve(t: Trace, a: Any, v: Any, mode: str = "full") -> Any:
    a, v = t.array(a), t.array(v)
    if v.size > a.size:
        a, v = v, a
    return correlate(t, a, np.flip(v), mode)


@function("correlate")
def correlate(t: Trace, a: Any, v: Any, mode: str = "valid") -> Any:
    a, v = (x if x.dtype.kind == "f" else x.astype(np.float32) for x in (t.array(a), t.array(v)))
    n = v.size
    if n > a.size:
        t.unsupported("np.correlate with a second array longer than the first")
    before, after = {"full": (n - 1, n - 1), "valid": (0, 0), "same": (n // 2, n - 1 - n // 2)}[mode]
    if mode == "same":
        before, after = (n - 1) - (n - 1) // 2, (n - 1) // 2
    result = t.op("Conv", np.reshape(a, (1, 1, -1)), np.reshape(v, (1, 1, -1)), pads=[before, after])
    return ravel(t, result)

"""The arrays that a predictor is given and gives: what counts as one, its size, and its padding to a bucket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dlpack.graph.ir import STORED, Array


def as_array(name: str, value: Any, what: str = "input") -> Array:
    """An array over the memory of anything with `__dlpack__` or the buffer protocol. Raises TypeError for the rest."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    try:
        return np.asarray(memoryview(value))
    except TypeError as e:
        raise TypeError(
            f"{what} {name!r} is a {type(value).__name__}; pass a NumPy array, or an object "
            "with __dlpack__ or the buffer protocol"
        ) from e


def bytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    """The size of a dense array in bytes."""
    return int(np.prod(shape, dtype=np.int64)) * numpy_dtype(dtype).itemsize


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's element type for the manifest's. What only ml_dtypes has is, without it, the type that stands for it in
    memory: integers below a byte one of a byte, other floats their bits."""
    if name not in STORED or name == "float16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype(STORED[name])
    kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name, STORED[name]))
    return kind


def fits(array: Array, dtype: str) -> bool:
    """Whether an array has the elements of an input or output of the manifest's type, or what stands for them."""
    return bool(array.dtype == numpy_dtype(dtype)) or array.dtype.name == STORED.get(dtype)


def storable(array: Array) -> Array:
    """An array as a .npz file can keep it: of ml_dtypes' types the bits, under a name that says which."""
    name = array.dtype.name
    return array.view(np.dtype([(name, STORED[name])])) if name in STORED and name != "float16" else array


def own_outputs(tensors: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A manifest's outputs without those that hold the true shape of another, or say that a maximum was exceeded."""
    all_ = list(tensors)
    shapes = {t["true_shape"] for t in all_ if "true_shape" in t}
    return [t for t in all_ if t["name"] not in shapes and "limits" not in t]


def true_sizes(tensors: Iterable[Mapping[str, Any]], outputs: Mapping[str, Array]) -> dict[str, Array]:
    """A run's outputs cut to their true sizes, without those that hold these; a runner may have done that itself."""
    own = {}
    for t in own_outputs(tensors):
        x = outputs[t["name"]]
        own[t["name"]] = cut_to(x, outputs[t["true_shape"]]) if t.get("true_shape") in outputs else x
    return own


def cut_to(x: Array, shape: Array) -> Array:
    """The part of an output that counts: the first elements of each dimension."""
    part: Array = x[tuple(slice(max(0, int(n))) for n in shape)]
    return part


def restored(array: Array) -> Array:
    """The array that `storable` was given."""
    if array.dtype.names and len(array.dtype.names) == 1:
        return array.view(numpy_dtype(array.dtype.names[0]))
    return array.view(numpy_dtype("bfloat16")) if array.dtype == np.dtype("V2") else array


def in_bucket(arrays: dict[str, Array], buckets: Mapping[str, Any]) -> tuple[dict[str, Array], int]:
    """The inputs by name, padded with zeros to the next of the manifest's `buckets`, and their length.

    It is 0 where nothing is padded: they have the size of a bucket, no bucket holds them, or their lengths differ.
    """
    where = {name: dims for name, dims in buckets["inputs"].items() if name in arrays}
    lengths = {arrays[n].shape[d] for n, dims in where.items() for d in dims if d < arrays[n].ndim}
    if len(lengths) != 1:
        return arrays, 0
    (length,) = lengths
    size = next((s for s in buckets["sizes"] if s >= length), length)
    if length in (0, size):
        return arrays, 0
    out = dict(arrays)
    for name, dims in where.items():
        x = arrays[name]
        out[name] = np.zeros([size if d in dims else n for d, n in enumerate(x.shape)], x.dtype)
        out[name][tuple(slice(n) for n in x.shape)] = x
    return out, length

"""How much memory a predictor gets that is to take no more than some shapes of a bundle with open dimensions."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dlpack.errors import UsageError

NO_MEMORY = 2
"""NAME_NO_MEMORY of NAME.h."""


def memory_bytes(
    manifest: Mapping[str, Any], function: Callable[[str], Any], largest: Mapping[str, Iterable[int]] | None
) -> int:
    """The bytes for shapes of inputs up to the `largest`, or where there are none, for all that the bundle takes.

    `function` gives the C function of that name. Raises UsageError for a bundle without open dimensions, ValueError for
    an unknown input and a shape that it cannot have.
    """
    if not largest:
        return int(function("memory_size")())
    if "open" not in manifest:
        raise UsageError(f"{manifest['name']} has no open dimensions: it takes as much memory for any of its shapes")
    names = [t["name"] for t in manifest["inputs"]]
    size_for = function("memory_size_for")
    size_for.restype = ctypes.c_size_t
    sizes: list[int] = []
    for name, given in largest.items():
        shape = tuple(given)
        if name not in names:
            raise ValueError(f"unknown input {name!r}; the model has {', '.join(names)}")
        sizes.append(size_for(names.index(name), (ctypes.c_int64 * len(shape))(*shape), len(shape)))
        if not sizes[-1]:
            raise ValueError(f"input {name!r} cannot have the shape {'x'.join(map(str, shape))}")
    return max(sizes)


def too_large(name: str, largest: Mapping[str, Iterable[int]] | None) -> ValueError:
    """The error for inputs that need more memory than a predictor was given."""
    shapes = ", ".join(f"{k} {'x'.join(map(str, shape))}" for k, shape in (largest or {}).items())
    return ValueError(f"{name}: the predictor was loaded with memory for shapes up to {shapes}, and these need more")

"""Weights from a .safetensors file, loaded into a module that the user's Python makes.

Layout: eight bytes, the size of a JSON object, which has for each tensor its type, its shape and where its bytes begin
and end behind the object.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import ModelError, UsageError
from dlpack.exporters.base import MAX_TEXT_BYTES, parse_json, read_bytes
from dlpack.exporters.builder import MAX_RANK, Array
from dlpack.exporters.pytorch.framework import import_torch

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
          "U8": "u1", "BOOL": "?"}  # fmt: skip
_DAMAGED = "the safetensors are damaged or cut off; copy or download them again"


def read_safetensors(path: Path) -> dict[str, Array]:
    """The tensors by name; bfloat16 becomes float32. Raises ModelError."""
    data = read_bytes(path)
    size = int.from_bytes(data[:8], "little")
    if len(data) < 10 or not 2 <= size <= min(len(data) - 8, MAX_TEXT_BYTES) or data[8:9] != b"{":
        raise ModelError(f"{path.name}: {_DAMAGED}")
    header = parse_json(data[8 : 8 + size].decode("utf-8", "replace"), f"the header of {path.name}")
    body = memoryview(data)[8 + size :]
    return {name: _tensor(path, name, entry, body) for name, entry in header.items() if name != "__metadata__"}


def _tensor(path: Path, name: str, entry: Any, body: memoryview) -> Array:
    where = f"{path.name}: the tensor '{name[:80]}'"
    entry = entry if isinstance(entry, dict) else {}
    kind, shape, place = (entry.get(k) for k in ("dtype", "shape", "data_offsets"))
    if kind not in _TYPES:
        raise ModelError(f"{where} has the type {str(kind)[:20]}; {', '.join(_TYPES)} are read")
    for numbers in (shape, place):
        if not isinstance(numbers, list) or not all(type(v) is int and v >= 0 for v in numbers):
            raise ModelError(f"{where} has no shape or no place; {_DAMAGED}")
    dtype, count = np.dtype(_TYPES[kind]), math.prod(shape)
    inside = len(place) == 2 and place[0] + count * dtype.itemsize == place[1] <= len(body)
    if not inside or len(shape) > MAX_RANK:
        raise ModelError(f"{where} does not lie in the file; {_DAMAGED}")
    array = np.frombuffer(body[place[0] : place[1]], dtype).reshape(shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else array


def load_weights(module: Any, path: Path) -> None:
    """Loads a .safetensors file into `module`: every parameter and buffer must be there, and no other tensor.

    A tensor may be missing if it is another one's memory, or the count of a batch normalisation's batches.
    """
    torch = import_torch()
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"--params {path}: weights are loaded into a torch.nn.Module, and this is none")
    arrays = read_safetensors(path)
    own = module.state_dict()
    given = {own[n].data_ptr() for n in arrays if n in own}
    missing = [n for n, t in own.items() if n not in arrays and t.data_ptr() not in given]
    missing = [n for n in missing if not n.endswith("num_batches_tracked")]
    other = [n for n in arrays if n not in own]
    shapes = [n for n, a in arrays.items() if n in own and tuple(own[n].shape) != a.shape]
    if shapes:
        name = shapes[0]
        raise UsageError(
            f"--params {path}: '{name}' has the shape {list(arrays[name].shape)}, and in the module "
            f"{list(own[name].shape)}"
        )
    if missing or other:
        words = [f"{len(missing)} of the module's are not there ({missing[0]})"] if missing else []
        words += [f"{len(other)} are not of the module ({other[0]})"] if other else []
        raise UsageError(f"--params {path}: these are not the module's weights: {', '.join(words)}")
    tensors = {n: torch.from_numpy(np.array(a)) for n, a in arrays.items()}
    module.load_state_dict(tensors, strict=False)

"""PyTorch, if it is installed; tensors from files as modules' buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlpack.errors import UsageError

INSTALL = "pip install 'dlpack-aot[torch]'"


def import_torch() -> Any:
    """The module torch, with what its exporter needs. Raises UsageError naming the extra."""
    try:
        import onnxscript  # noqa: F401
        import torch
    except ImportError as e:
        raise UsageError(f"PyTorch models are exported by PyTorch, and {e.name} is not installed: {INSTALL}") from e
    return torch


def attach(root: Any, name: str, tensor: Any) -> None:
    """Registers `tensor` as the buffer `name` of a module; dots create submodules."""
    torch = import_torch()
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root._modules[part] = torch.nn.Module()
        root = root._modules[part]
    root._buffers[last] = tensor  # past the checks of names: an archive may call a buffer anything


def tensor_from(raw: bytes | bytearray, dtype: str, offset: int, size: Sequence[int], stride: Sequence[int]) -> Any:
    """A tensor over a copy of `raw`; the caller has checked that it fits."""
    torch = import_torch()
    kind = getattr(torch, dtype)
    if not raw:
        return torch.empty(tuple(size), dtype=kind)
    whole = len(raw) - len(raw) % kind.itemsize
    flat = torch.frombuffer(bytearray(raw[:whole]), dtype=kind)
    return flat.as_strided(tuple(size), tuple(stride), offset)


def example(shape: Sequence[int], dtype: str) -> Any:
    """An input to trace with: zeros, since its values do not matter."""
    torch = import_torch()
    return torch.zeros(tuple(shape), dtype=getattr(torch, dtype))

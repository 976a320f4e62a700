"""Arrays in a GPU's memory, as their owners describe them: by DLPack, or by __cuda_array_interface__."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlpack.bundle.arrays import numpy_dtype
from dlpack.errors import UsageError

_CUDA, _CUDA_HOST, _CUDA_MANAGED = 2, 3, 13
_KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}


@dataclass(frozen=True)
class DeviceArray:
    """An array in a GPU's memory at `address`; `owner` keeps it alive, and `capsule`, what that gave by DLPack."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    contiguous: bool
    owner: Any
    capsule: Any = None

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def wait(self, stream: int | None) -> None:
        """Makes work on `stream` (a CUstream) come after what the owner has begun to do with the array."""
        if self.capsule is not None:
            self.owner.__dlpack__(stream=stream)
        elif (theirs := self.owner.__cuda_array_interface__.get("stream")) is not None:
            _wait(theirs)


class _Tensor(ctypes.Structure):
    """DLTensor of dlpack.h, with which DLManagedTensor begins."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def on_gpu(value: Any) -> bool:
    """Whether something is an array that only a GPU reaches."""
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[0]) in (_CUDA, _CUDA_MANAGED)
    return hasattr(value, "__cuda_array_interface__")


def device_array(name: str, value: Any, stream: int | None) -> DeviceArray:
    """The array of an input or output called `name`; work on `stream` (a CUstream) then finds its data complete.

    Raises ValueError for an element type that NumPy does not know.
    """
    if hasattr(value, "__dlpack__"):
        return _by_dlpack(name, value, stream)
    about = value.__cuda_array_interface__
    if about.get("stream") is not None:
        _wait(about["stream"])
    dtype = np.dtype(about["typestr"])
    shape = tuple(int(n) for n in about["shape"])
    strides = about.get("strides")
    dense = strides is None or _dense(shape, tuple(s // dtype.itemsize for s in strides))
    return DeviceArray(int(about["data"][0]), dtype, shape, dense, value)


def _by_dlpack(name: str, value: Any, stream: int | None) -> DeviceArray:
    capsule = value.__dlpack__(stream=stream)
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    t = _Tensor.from_address(get(capsule, b"dltensor"))  # the capsule is kept, and frees what it has at its end
    if t.code not in _KINDS or t.lanes != 1:
        raise ValueError(f"{name!r} has an element type that NumPy does not know")
    dtype = numpy_dtype("bool" if t.code == 6 else f"{_KINDS[t.code]}{t.bits}")
    shape = tuple(t.shape[d] for d in range(t.ndim))
    dense = not t.strides or _dense(shape, tuple(t.strides[d] for d in range(t.ndim)))
    return DeviceArray((t.data or 0) + t.byte_offset, dtype, shape, dense, value, capsule)


def _dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether strides, in elements, are those of an array without gaps, its last dimension innermost."""
    expected = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and stride != expected:
            return False
        expected *= n
    return True


def _wait(stream: int) -> None:
    """Waits for the work that an array's owner has started."""
    try:
        status = ctypes.CDLL("libcuda.so.1").cuStreamSynchronize(ctypes.c_void_p(stream))
    except OSError as e:
        raise UsageError(f"an array is in a GPU's memory, but there is no CUDA driver: {e}") from e
    if status:
        raise UsageError(f"waiting for an array in a GPU's memory failed with CUDA's error {status}")

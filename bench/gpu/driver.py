"""NVIDIA's driver through ctypes, as far as the bench needs it: memory, kernels, graphs; nothing else is installed."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np

_Handle = ctypes.c_void_p
_RELAXED = 2
_MAJOR, _MINOR = 75, 76


class DriverError(Exception):
    """A function of the driver failed; the text has its name and the driver's words."""


class Gpu:
    """GPU 0 with its primary context, which is current in this thread within ``with Gpu() as gpu:``."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL("libcuda.so.1")
        except OSError as e:
            raise DriverError(f"no CUDA driver: {e}") from e
        self.context, self.stream = _Handle(), _Handle()
        self._allocated: list[int] = []
        self._modules: list[_Handle] = []
        self("cuInit", 0)
        self("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), 0)
        self("cuCtxPushCurrent_v2", self.context)
        self("cuStreamCreate", ctypes.byref(self.stream), 1)
        self.arch = 10 * self._attribute(_MAJOR) + self._attribute(_MINOR)

    def __call__(self, function: str, *arguments: Any) -> None:
        status = getattr(self.library, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(status, ctypes.byref(text))
            raise DriverError(f"{function.split('_v')[0]}: {(text.value or b'unknown error').decode()} ({status})")

    def __enter__(self) -> Gpu:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(DriverError):
            for address in self._allocated:
                self("cuMemFree_v2", ctypes.c_uint64(address))
            for module in self._modules:
                self("cuModuleUnload", module)
            self("cuStreamDestroy_v2", self.stream)
            self("cuCtxPopCurrent_v2", ctypes.byref(_Handle()))
            self("cuDevicePrimaryCtxRelease", 0)

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self("cuDeviceGetAttribute", ctypes.byref(value), which, 0)
        return value.value

    def memory(self, nbytes: int) -> int:
        """The address of so many bytes of the GPU's memory, which are freed at the end."""
        address = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(nbytes, 1)))
        self._allocated.append(address.value)
        return address.value

    def write(self, to: int, data: np.ndarray[Any, Any]) -> None:
        if data.nbytes:
            size = ctypes.c_size_t(data.nbytes)
            self("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(to), _Handle(data.ctypes.data), size, self.stream)
            self.wait()

    def read(self, data: np.ndarray[Any, Any], source: int) -> None:
        if data.nbytes:
            size = ctypes.c_size_t(data.nbytes)
            self("cuMemcpyDtoHAsync_v2", _Handle(data.ctypes.data), ctypes.c_uint64(source), size, self.stream)
            self.wait()

    def copy(self, to: int, source: int, nbytes: int) -> None:
        """On the GPU, on the stream."""
        size = ctypes.c_size_t(nbytes)
        self("cuMemcpyDtoDAsync_v2", ctypes.c_uint64(to), ctypes.c_uint64(source), size, self.stream)

    def module(self, images: Sequence[bytes]) -> _Handle:
        """The first of the images, each a cubin or PTX, that the driver takes. Raises the first one's refusal."""
        module, refusal = _Handle(), DriverError("there is no image")
        for k, image in enumerate(images):
            try:
                self("cuModuleLoadData", ctypes.byref(module), image)
                self._modules.append(module)
                return module
            except DriverError as e:
                refusal = e if k == 0 else refusal
        raise refusal

    def kernel(self, module: _Handle, name: str) -> _Handle:
        function = _Handle()
        self("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        return function

    def launch(self, kernel: _Handle, grid: Sequence[int], block: Sequence[int], addresses: Sequence[int]) -> None:
        """On the stream; all parameters of a kernel are addresses."""
        values = (ctypes.c_uint64 * max(1, len(addresses)))(*addresses)
        parameters = (_Handle * max(1, len(addresses)))(
            *(ctypes.addressof(values) + 8 * k for k in range(len(addresses)))
        )
        self("cuLaunchKernel", kernel, *grid, *block, 0, self.stream, parameters, None)

    def wait(self) -> None:
        self("cuStreamSynchronize", self.stream)


class Recorded:
    """What is put on the GPU's stream within ``with Recorded(gpu) as graph:``, as a CUDA graph."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.exec = gpu, _Handle()

    def __enter__(self) -> Recorded:
        self.gpu("cuStreamBeginCapture_v2", self.gpu.stream, _RELAXED)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        graph = _Handle()
        try:
            self.gpu("cuStreamEndCapture", self.gpu.stream, ctypes.byref(graph))
        except DriverError:
            if error is None:
                raise
            return
        self.gpu("cuGraphInstantiateWithFlags", ctypes.byref(self.exec), graph, ctypes.c_uint64(0))
        self.gpu("cuGraphDestroy", graph)

    def launch(self) -> None:
        self.gpu("cuGraphLaunch", self.exec, self.gpu.stream)

    def close(self) -> None:
        self.gpu("cuGraphExecDestroy", self.exec)

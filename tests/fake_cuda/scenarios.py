"""What a program does with a predictor on the fake GPU; run by tests/test_cuda_host.py in a process of its own.

    python scenarios.py NAME LIBRARY

Each function is a scenario: it gets the library of sample.py's program, and fails by an assertion.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import sample

OK, BAD_ARGUMENT, BAD_CPU, DEVICE_FAILED = 0, 1, 6, 7
Array = np.ndarray


class Failed(Exception):
    """A status other than 0."""

    def __init__(self, status: int, device: str) -> None:
        super().__init__(f"{status}: {device}")
        self.status, self.device = status, device


class Predictor:
    """The C API."""

    def __init__(self, library: ctypes.CDLL, device: str | None = None, like: Predictor | None = None) -> None:
        self.library, self.handle = library, ctypes.c_void_p()
        for name in ("device", "variant"):
            getattr(library, f"sample_{name}").restype = ctypes.c_char_p
        for name in ("output_data", "input_data", "cuda_stream"):
            getattr(library, f"sample_{name}").restype = ctypes.c_void_p
        none = (None, ctypes.c_size_t(0), None, ctypes.c_size_t(0))
        if like:
            status = library.sample_create_shared(ctypes.byref(self.handle), None, ctypes.c_size_t(0), like.handle)
        elif device is None:
            status = library.sample_create(ctypes.byref(self.handle), *none)
        else:
            status = library.sample_create_on(ctypes.byref(self.handle), device.encode(), *none)
        if status:
            raise Failed(status, "")

    def __call__(self, name: str, *arguments: object) -> None:
        """A function that returns a status."""
        status = getattr(self.library, f"sample_{name}")(self.handle, *arguments)
        if status:
            raise Failed(status, self.device)

    @property
    def device(self) -> str:
        return str(self.library.sample_device(self.handle).decode())

    def close(self) -> None:
        self.library.sample_destroy(self.handle)

    def set_input(self, x: Array) -> None:
        self("set_input", 0, ctypes.c_void_p(x.ctypes.data), ctypes.c_size_t(x.nbytes))

    def bind_input(self, x: Array) -> None:
        self("bind_input", 0, ctypes.c_void_p(x.ctypes.data), ctypes.c_size_t(x.nbytes))

    def output(self, index: int, rows: int = 4) -> Array:
        y = np.zeros((rows, 6), np.float32)
        self("get_output", index, ctypes.c_void_p(y.ctypes.data), ctypes.c_size_t(y.nbytes))
        return y

    def computes(self, seed: int) -> None:
        """Sets an input, runs, and compares both outputs with what is expected."""
        x = numbers(seed)
        self.set_input(x)
        self("run")
        for index in range(2):
            np.testing.assert_allclose(self.output(index), sample.expected(x), rtol=1e-6, err_msg=f"output {index}")


def numbers(seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, (4, 6)).astype(np.float32)


def fake() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def calls(name: str) -> int:
    count: int = fake().fake_cuda_calls(name.encode())
    return count


def nothing_left(faults: int = 0) -> None:
    """No object of the driver's lives on, and no call was wrong."""
    assert fake().fake_cuda_leaks() == 0, f"{fake().fake_cuda_leaks()} objects are left"
    assert fake().fake_cuda_faults() == faults, f"{fake().fake_cuda_faults()} calls were wrong"


@contextmanager
def failing(function: str, call: int = 1, error: int = 0) -> Iterator[None]:
    """The call of a function that comes so many calls from now fails."""
    os.environ["FAIL_AT"] = f"{function}:{calls(function) + call}" + (f":{error}" if error else "")
    yield
    del os.environ["FAIL_AT"]


def gpu_memory(data: Array | int) -> int:
    """The address of memory of the GPU, in the current context, with a copy of the data or of so many bytes."""
    size = data if isinstance(data, int) else data.nbytes
    address = ctypes.c_uint64()
    assert fake().cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)) == 0
    if not isinstance(data, int):
        copy(address.value, data.ctypes.data, size)
    return address.value


def copy(to: int, source: int, size: int) -> None:
    fake().fake_cuda_copy(ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(size))


# --- scenarios --------------------------------------------------------------------------------------------------------


def computes(library: ctypes.CDLL) -> None:
    """Runs are recorded once, and all copies are in the recording."""
    p = Predictor(library)
    assert p.device == f"cuda: Fake GPU 0 (sm_{os.environ.get('FAKE_CUDA_ARCH', '90')})", p.device
    for seed in range(4):
        p.computes(seed)
    assert calls("cuStreamBeginCapture_v2") == 1
    assert calls("cuGraphLaunch") == 4
    assert calls("cuLaunchKernel") == 5, "the border is filled once; four launches are recorded"
    assert calls("cuMemcpyHtoDAsync_v2") == 2, "the weights, and the input while it was recorded"
    p.close()
    nothing_left()


def on_the_cpu(library: ctypes.CDLL) -> None:
    """The CPU computes; $WHY is the reason that is told."""
    p = Predictor(library)
    assert p.device == f"cpu: plain: {os.environ['WHY']}", p.device
    p.computes(1)
    p.close()


def by_name(library: ctypes.CDLL) -> None:
    told = {"cpu": "cpu: plain", "cuda": "cuda: Fake GPU 0 (sm_90)", "cuda:1": "cuda: Fake GPU 1 (sm_90)"}
    for name, device in told.items():
        p = Predictor(library, name)
        assert p.device == device, p.device
        p.computes(2)
        p.close()
    p = Predictor(library, "cuda:7")
    assert p.device == "cpu: plain: there is no GPU of this number", p.device
    p.close()
    for name in ("", "gpu", "cuda:", "cuda:x", "cuda1", "cpu:0", "cuda:99999999999"):
        try:
            Predictor(library, name)
            raise AssertionError(name)
        except Failed as e:
            assert e.status == BAD_ARGUMENT
    nothing_left()


def every_failure_of_create(library: ctypes.CDLL) -> None:
    """Whichever call fails while a predictor is created, the CPU computes, the reason is told, and nothing is left."""
    fatal = (
        "cuInit cuDeviceGetCount cuDeviceGet cuDevicePrimaryCtxRetain cuCtxPushCurrent_v2 cuModuleGetFunction "
        "cuMemAlloc_v2 cuMemcpyHtoDAsync_v2 cuStreamCreate cuStreamSynchronize"
    ).split()
    p = Predictor(library)
    made = {name: calls(name) for name in fatal}
    p.close()
    for name in fatal:
        assert made[name], name
        for call in range(1, made[name] + 1):
            with failing(name, call):
                p = Predictor(library)
            begin = f"cpu: plain: {name.split('_v')[0]}"
            assert p.device == f"{begin}: out of memory (2)", (name, call, p.device)
            p.computes(call)
            p.close()
            nothing_left()


def every_failure_of_a_run(library: ctypes.CDLL) -> None:
    """Whichever call fails in a run, its status and the driver's words say so, and the next run is right."""
    fatal = (
        "cuCtxPushCurrent_v2 cuMemcpyHtoDAsync_v2 cuMemcpyDtoHAsync_v2 cuMemcpyDtoDAsync_v2 cuLaunchKernel "
        "cuStreamSynchronize cuStreamBeginCapture_v2 cuStreamEndCapture cuGraphInstantiate cuGraphLaunch"
    ).split()
    for name in fatal:
        p = Predictor(library)
        p.set_input(numbers(3))
        with failing(name, error=700):
            try:
                p("run")
                raise AssertionError(f"{name} failed, and nothing was told")
            except Failed as e:
                words = f"{name.split('_v')[0]}: an illegal memory access was encountered (700)"
                assert (e.status, e.device) == (DEVICE_FAILED, f"cuda: Fake GPU 0 (sm_90): {words}"), e
        p.close() if name == "cuStreamEndCapture" else (p.computes(4), p.close())
    assert fake().fake_cuda_faults() == 0


def a_refused_image(library: ctypes.CDLL) -> None:
    """Where the driver refuses the cubin, it gets the PTX."""
    with failing("cuModuleLoadData", error=209):
        p = Predictor(library)
    assert calls("cuModuleLoadData") == 2
    p.computes(5)
    p.close()
    nothing_left()


def two_threads(library: ctypes.CDLL) -> None:
    """Two predictors, and one that shares the weights of the first, each in a thread of its own."""
    first = Predictor(library)
    predictors = [first, Predictor(library), Predictor(library, like=first)]
    errors: list[BaseException] = []

    def work(p: Predictor, seed: int) -> None:
        try:
            for k in range(30):
                p.computes(100 * seed + k)
        except BaseException as e:  # noqa: BLE001 - told to the thread that waits
            errors.append(e)

    threads = [threading.Thread(target=work, args=(p, k)) for k, p in enumerate(predictors)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors
    for p in reversed(predictors):
        p.close()
    nothing_left()


def shared_weights(library: ctypes.CDLL) -> None:
    first = Predictor(library)
    uploads, modules = calls("cuMemcpyHtoDAsync_v2"), calls("cuModuleLoadData")
    second = Predictor(library, like=first)
    assert second.device == first.device
    assert (calls("cuMemcpyHtoDAsync_v2"), calls("cuModuleLoadData")) == (uploads, modules)
    second.computes(6)
    second.close()
    first.computes(7)
    first.close()
    on_cpu = Predictor(library, "cpu")
    shares = Predictor(library, like=on_cpu)
    assert shares.device == "cpu: plain"
    shares.computes(8)
    shares.close()
    on_cpu.close()
    nothing_left()


def memory_of_the_gpu(library: ctypes.CDLL) -> None:
    """Inputs and outputs in memory of the GPU are used in place; what does not fit is refused."""
    context = ctypes.c_void_p()
    fake().cuInit(0)
    fake().cuCtxCreate_v2(ctypes.byref(context), 0, 0)
    p = Predictor(library)
    x = [numbers(9), numbers(10)]
    inputs, y = [gpu_memory(x[0]), gpu_memory(x[1])], gpu_memory(96)
    size = ctypes.c_size_t(96)
    p("bind_output_device", 0, ctypes.c_void_p(y), size)
    copies = calls("cuMemcpyHtoDAsync_v2")
    for turn in range(6):
        p("bind_input_device", 0, ctypes.c_void_p(inputs[turn % 2]), size)
        p("run")
        found = np.zeros((4, 6), np.float32)
        copy(found.ctypes.data, y, 96)
        for array in (found, p.output(0), p.output(1)):
            np.testing.assert_allclose(array, sample.expected(x[turn % 2]), rtol=1e-6)
    assert calls("cuStreamBeginCapture_v2") == 2, "each input is recorded once"
    assert calls("cuMemcpyHtoDAsync_v2") == copies, "no input is copied"
    assert p.library.sample_input_data(p.handle, 0) == inputs[1]
    # Kernels read vectors of 16 bytes: what is less aligned is copied on the GPU.
    shifted = gpu_memory(np.concatenate([np.zeros(1, np.float32), x[0].ravel()]))
    p("bind_input_device", 0, ctypes.c_void_p(shifted + 4), size)
    z = gpu_memory(100)
    p("bind_output_device", 1, ctypes.c_void_p(z + 4), size)
    p("run")
    np.testing.assert_allclose(p.output(1), sample.expected(x[0]), rtol=1e-6)
    assert calls("cuMemcpyHtoDAsync_v2") == copies
    p.computes(11)  # set_input takes the predictor's own memory again
    small = gpu_memory(90)
    wrong = {
        "a wrong size": (inputs[0], 92),
        "less memory than it says": (small, 96),
        "memory of the host": (x[0].ctypes.data, 96),
        "no memory": (0, 96),
        "a misaligned address": (inputs[0] + 2, 96),
    }
    for what, (address, bytes_) in wrong.items():
        for function in ("bind_input_device", "bind_output_device"):
            try:
                p(function, 0, ctypes.c_void_p(address), ctypes.c_size_t(bytes_))
                raise AssertionError(f"{function} takes {what}")
            except Failed as e:
                assert e.status == BAD_ARGUMENT
    p.computes(12)
    on_cpu = Predictor(library, "cpu")
    try:
        on_cpu("bind_input_device", 0, ctypes.c_void_p(inputs[0]), size)
        raise AssertionError("a predictor on the CPU takes memory of the GPU")
    except Failed as e:
        assert e.status == BAD_ARGUMENT
    on_cpu.close()
    # Back on the CPU's kernels, nothing stays bound to what they cannot reach.
    p("bind_input_device", 0, ctypes.c_void_p(inputs[0]), size)
    p("set_variant", 1)
    assert p.device == "cpu: plain"
    p("run")
    p.computes(13)
    p("set_variant", 0)
    p.computes(14)
    p.close()
    for address in (*inputs, y, small, shifted, z):
        fake().cuMemFree_v2(ctypes.c_uint64(address))
    fake().cuCtxDestroy_v2(context)
    nothing_left()


def mapped_memory(library: ctypes.CDLL) -> None:
    """Memory of the host that the caller has mapped is used in place; that of another GPU is refused."""
    contexts = [ctypes.c_void_p(), ctypes.c_void_p()]
    fake().cuInit(0)
    fake().cuCtxCreate_v2(ctypes.byref(contexts[1]), 0, 1)
    others = gpu_memory(96)
    fake().cuCtxCreate_v2(ctypes.byref(contexts[0]), 0, 0)
    p = Predictor(library)
    size, x, mapped = ctypes.c_size_t(96), numbers(20), ctypes.c_uint64()
    pages = np.zeros(8192, np.uint8)
    at = pages.ctypes.data + -pages.ctypes.data % 4096
    ctypes.memmove(at, x.ctypes.data, 96)
    assert fake().cuMemHostRegister_v2(ctypes.c_void_p(at), size, 2) == 0
    assert fake().cuMemHostGetDevicePointer_v2(ctypes.byref(mapped), ctypes.c_void_p(at), 0) == 0
    copies = calls("cuMemcpyHtoDAsync_v2")
    p("bind_input_device", 0, ctypes.c_void_p(mapped.value), size)
    p("run")
    np.testing.assert_allclose(p.output(0), sample.expected(x), rtol=1e-6)
    assert calls("cuMemcpyHtoDAsync_v2") == copies
    try:
        p("bind_input_device", 0, ctypes.c_void_p(others), size)
        raise AssertionError("memory of another GPU is taken")
    except Failed as e:
        assert e.status == BAD_ARGUMENT
    p.close()
    fake().cuMemHostUnregister(ctypes.c_void_p(at))
    fake().cuCtxDestroy_v2(contexts[0])
    fake().cuMemFree_v2(ctypes.c_uint64(others))
    fake().cuCtxDestroy_v2(contexts[1])
    nothing_left()


def neighbours(library: ctypes.CDLL) -> None:
    """Small predictors lie beside each other in memory; the driver keeps each one's inputs and outputs in place."""
    predictors = [Predictor(library) for _ in range(4)]
    for seed in range(2):
        for p in predictors:
            p.computes(seed)
    assert calls("cuMemcpyHtoDAsync_v2") == 8, "the weights and a recorded input of each"
    for p in predictors:
        p.close()
    nothing_left()


def a_context_of_the_callers(library: ctypes.CDLL) -> None:
    """The current context is used, and stays current. When it is destroyed, a run says so, and the CPU can go on."""
    context = ctypes.c_void_p()
    fake().cuInit(0)
    fake().cuCtxCreate_v2(ctypes.byref(context), 0, 0)
    p = Predictor(library)
    p.computes(15)
    assert calls("cuDevicePrimaryCtxRetain") == 0
    current = ctypes.c_void_p()
    fake().cuCtxGetCurrent(ctypes.byref(current))
    assert current.value == context.value
    fake().cuCtxDestroy_v2(context)
    try:
        p("run")
        raise AssertionError("a run in a destroyed context")
    except Failed as e:
        assert e.status == DEVICE_FAILED
        assert e.device.endswith(": cuCtxPushCurrent: invalid device context (201)"), e.device
    p("set_variant", 1)
    p.computes(16)
    p.close()
    nothing_left()


def memory_of_the_host(library: ctypes.CDLL) -> None:
    """Bound memory of the host is copied by each run, and not by the recording."""
    p = Predictor(library)
    for seed in range(3):
        x = numbers(seed)
        p.bind_input(x)
        y = np.zeros((4, 6), np.float32)
        p("bind_output", 1, ctypes.c_void_p(y.ctypes.data), ctypes.c_size_t(96))
        p("run")
        np.testing.assert_allclose(y, sample.expected(x), rtol=1e-6)
        np.testing.assert_allclose(p.output(0), sample.expected(x), rtol=1e-6)
    assert calls("cuStreamBeginCapture_v2") == 1
    p.close()
    nothing_left()


def an_integrated_gpu(library: ctypes.CDLL) -> None:
    """It works in the host's memory: nothing is copied but the weights."""
    p = Predictor(library)
    for seed in range(3):
        p.computes(seed)
    assert (calls("cuMemcpyHtoDAsync_v2"), calls("cuMemcpyDtoHAsync_v2")) == (1, 0)
    x = numbers(4)
    p.bind_input(x)
    p("run")
    np.testing.assert_allclose(p.output(0), sample.expected(x), rtol=1e-6)
    p.close()
    nothing_left()


def memory_that_cannot_be_kept(library: ctypes.CDLL) -> None:
    """Where the driver cannot keep the host's memory in place, each run copies."""
    p = Predictor(library)
    for seed in range(3):
        p.computes(seed)
    assert calls("cuMemcpyHtoDAsync_v2") == 4
    p.close()
    nothing_left()


def steps(library: ctypes.CDLL) -> None:
    p = Predictor(library)
    x = numbers(17)
    p.set_input(x)
    for k in range(library.sample_step_count_of(p.handle)):
        p("run_step", k)
    np.testing.assert_allclose(p.output(1), sample.expected(x), rtol=1e-6)
    assert calls("cuGraphLaunch") == 0
    p.close()
    nothing_left()


def sets_of_shapes(library: ctypes.CDLL) -> None:
    """Each set is recorded once; a bound output whose shape changes is the predictor's own again."""
    p = Predictor(library)
    for _ in range(3):
        for number in range(2):
            p("set_shape", number)
            x = numbers(18)
            p.set_input(x)
            p("run")
            np.testing.assert_allclose(p.output(1, 4 - number), sample.expected(x)[: 4 - number], rtol=1e-6)
    assert calls("cuStreamBeginCapture_v2") == 2
    p.close()
    nothing_left()


def early_weights(library: ctypes.CDLL) -> None:
    """Weights go to the GPU as they arrive; where that fails, the CPU computes with all of them."""
    for broken in (False, True):
        weights = np.zeros(8, np.float64)
        handle = Predictor(library, "cpu")
        handle.close()
        address, size = ctypes.c_void_p(weights.ctypes.data), ctypes.c_size_t(24)
        none = None, ctypes.c_size_t(0)
        status = library.sample_create_early(ctypes.byref(handle.handle), *none, address, size)
        assert status == OK
        weights.view(np.float32)[:6] = sample.WEIGHTS
        handle("weights_arrived", ctypes.c_size_t(8))
        if broken:
            with failing("cuMemcpyHtoDAsync_v2"):
                handle("weights_arrived", ctypes.c_size_t(24))
            assert handle.device == "cpu: plain: cuMemcpyHtoDAsync: out of memory (2)", handle.device
        else:
            handle("weights_arrived", ctypes.c_size_t(24))
            assert handle.device.startswith("cuda: "), handle.device
        handle.computes(19)
        handle.close()
    nothing_left()


if __name__ == "__main__":
    scenario: Callable[[ctypes.CDLL], None] = globals()[sys.argv[1]]
    scenario(ctypes.CDLL(str(Path(sys.argv[2]).resolve())))

"""The target cuda, from the model to its outputs: the emitted file's CUDA C runs on the CPU, launched by the emitted
code through a driver for tests (tests/fake_cuda/)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import processes
import pytest
from conftest import DIGITS, requires_module
from fake_driver import kernels_of
from test_control_flow import SCAN, parse

from dlpack.errors import UsageError
from dlpack.options import Options
from dlpack.pipeline import build

MODELS = ["digits", "attention_net", next(iter(SCAN))]

RUN = """
import ctypes, json, sys
import numpy as np
import dlpack
with dlpack.load(sys.argv[1]) as p:
    print(json.dumps([p.device, p.variant, p.variants]))
    reference = np.load(sys.argv[1] + "/reference.npz")
    inputs = {name: reference[f"in_{k}"] for k, name in enumerate(p.inputs)}
    for k in range(2):
        outputs = p.run(inputs)
    for k, name in enumerate(p.outputs):
        want = reference[f"out_{k}"]
        assert np.abs(outputs[name] - want).max() <= 1e-4 * max(np.abs(want).max(), 1e-30), name
fake = ctypes.CDLL("libcuda.so.1")
assert fake.fake_cuda_leaks() == 0 and fake.fake_cuda_faults() == 0
"""


@pytest.fixture(scope="module")
def models(model_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import onnx

    loops = tmp_path_factory.mktemp("models") / "loops.onnx"
    onnx.save(parse(SCAN[MODELS[-1]]), loops)
    return {**model_files, MODELS[-1]: loops, "digits": DIGITS}


@pytest.fixture(scope="module")
def built(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model's bundle for an H100, built once. Tests must not write over what is in it."""
    folder = tmp_path_factory.mktemp("bundles")

    @cache
    def of(model: str) -> Path:
        return build(models[model], folder / str(MODELS.index(model)), Options("cuda", name="net"))

    return of


def run(bundle: Path, cuda_driver: Path, machine: str, arch: str) -> list:
    environment = {"LD_LIBRARY_PATH": str(cuda_driver.parent), "FAKE_CUDA_ARCH": arch}
    environment["FAKE_CUDA_KERNELS"] = str(kernels_of(bundle, machine))
    done = processes.run([sys.executable, "-c", RUN, bundle], check=True, env=os.environ | environment)
    told: list = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("model", MODELS)
def test_models_run_on_the_gpu(model: str, built: Callable[[str], Path], cuda_driver: Path) -> None:
    """With the kernels scheduled for the GPU that there is, and where none are, with those for any, by PTX."""
    bundle = built(model)
    variants = ["cuda_sm_90", "cuda_generic", "avx512", "avx2"]
    assert run(bundle, cuda_driver, "cuda_sm_90", "90") == ["cuda: Fake GPU 0 (sm_90)", variants[0], variants]
    assert run(bundle, cuda_driver, "cuda_generic", "75") == ["cuda: Fake GPU 0 (sm_75)", variants[1], variants]


def test_archs_are_chosen(tmp_path: Path) -> None:
    requires_module("nvidia.cuda_nvrtc")
    bundle = build(DIGITS, tmp_path / "net", Options("cuda", name="net", target_options={"arch": "sm_53,sm_75"}))
    assert json.loads((bundle / "manifest.json").read_text())["variants"][:2] == ["cuda_sm_53", "cuda_generic"]
    text = (bundle / "net.cc").read_text()
    assert "compiled for sm_53\n" in text
    assert "compiled for sm_75, compute_53\n" in text
    with pytest.raises(UsageError, match="'90' is no GPU architecture: write --arch sm_90,sm_87, say"):
        build(DIGITS, tmp_path / "other", Options("cuda", target_options={"arch": "90"}))


ON_DEVICE = """
import ctypes, sys
import numpy as np
import dlpack
from dlpack.errors import UsageError

fake = ctypes.CDLL("libcuda.so.1")

class There:
    '''An array in the GPU's memory, as other libraries describe theirs.'''
    def __init__(self, array, kind):
        self.array, self.address, self.kind = array, ctypes.c_uint64(), kind
        assert fake.cuMemAlloc_v2(ctypes.byref(self.address), ctypes.c_size_t(array.nbytes)) == 0
        self.copy(self.address.value, array.ctypes.data)

    def copy(self, to, source):
        fake.fake_cuda_copy(ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(self.array.nbytes))

    def get(self):
        out = np.zeros_like(self.array)
        self.copy(out.ctypes.data, self.address.value)
        return out

    def __getattr__(self, name):
        if name == "__cuda_array_interface__" and self.kind == "interface":
            data = self.address.value, False
            return {"shape": self.array.shape, "typestr": self.array.dtype.str, "data": data, "version": 3}
        if name in ("__dlpack__", "__dlpack_device__") and self.kind == "dlpack":
            return getattr(self, name[2:-2])
        raise AttributeError(name)

    def dlpack_device(self):
        return 2, 0

    def dlpack(self, *, stream):
        assert stream, "the predictor's stream"
        self.waits = getattr(self, "waits", 0) + 1
        from dlpack.bundle.device_arrays import _Tensor
        a = self.array
        self.shape = (ctypes.c_int64 * a.ndim)(*a.shape)
        self.tensor = _Tensor(self.address.value, 2, 0, a.ndim, 2, 32, 1, self.shape, None, 0)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return new(ctypes.addressof(self.tensor), b"dltensor", None)

context = ctypes.c_void_p()
fake.cuInit(0)
fake.cuCtxCreate_v2(ctypes.byref(context), 0, 0)
reference = np.load(sys.argv[1] + "/reference.npz")
x, want = reference["in_0"], reference["out_0"]
with dlpack.load(sys.argv[1], device="cuda") as p:
    (name,), (output,) = p.inputs, p.outputs
    for kind in ("dlpack", "interface"):
        there, out = There(x, kind), There(want * 0, kind)
        p.bind_outputs({output: out})
        assert p.run({name: there})[output] is out
        p.compute()
        if kind == "dlpack":  # what PyTorch still does with an array comes before each run, of outputs too
            assert there.waits >= 3 and out.waits == 3, (there.waits, out.waits)
        np.testing.assert_allclose(out.get(), want, atol=1e-5)
        p.bind_outputs({output: None})
        np.testing.assert_allclose(p.run({name: there})[output], want, atol=1e-5)
    for wrong in (There(x[..., :4].copy(), kind), There(x.astype(np.float64), kind)):
        try:
            p.run({name: wrong})
            raise AssertionError("an array that does not fit")
        except ValueError as e:
            assert "float32 of (1, 1, 8, 8) fits" in str(e), e
with dlpack.load(sys.argv[1], device="cpu") as p:
    assert p.device.startswith("cpu: "), p.device
    np.testing.assert_allclose(p.run({name: x})[output], want, atol=1e-5)
    try:
        p.run({name: there})
        raise AssertionError("an array that the CPU does not reach")
    except ValueError as e:
        assert "is in a GPU's memory, and the predictor runs on the CPU" in str(e), e
for device, error in (("cuda:5", UsageError), ("gpu", ValueError)):
    try:
        dlpack.load(sys.argv[1], device=device)
        raise AssertionError(device)
    except error as e:
        assert device in str(e), e
"""


def test_python_gives_arrays_in_the_gpus_memory(cuda_driver: Path, built: Callable[[str], Path]) -> None:
    """By DLPack and by __cuda_array_interface__, without a copy; a device is asked for by name."""
    bundle = built("digits")
    environment = {"LD_LIBRARY_PATH": str(cuda_driver.parent), "FAKE_CUDA_ARCH": "90"}
    environment["FAKE_CUDA_KERNELS"] = str(kernels_of(bundle, "cuda_sm_90"))
    processes.run([sys.executable, "-c", ON_DEVICE, bundle], check=True, env=os.environ | environment)

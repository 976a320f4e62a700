"""The target cuda, from the model to its outputs: the emitted file's own CUDA C runs on the CPU, launched by the emitted
code through a driver for tests (tests/fake_cuda/)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import processes
import pytest
from conftest import DIGITS, ROOT, requires_module, requires_tool
from test_control_flow import SCAN, parse

from dlpack.errors import UsageError
from dlpack.options import Options
from dlpack.pipeline import build

FOLDER = ROOT / "tests" / "fake_cuda"
sys.path.insert(0, str(FOLDER))

from emitted import device_text, host_text  # noqa: E402 - lies in that folder

SHIM = ROOT / "tests" / "cuda_on_host.h"
MODELS = ["digits", "conv_net", "attention_net", next(iter(SCAN))]

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
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    requires_module("nvidia.cuda_nvrtc")
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-soname,libcuda.so.1"]
    processes.run([requires_tool("g++"), *flags, FOLDER / "fake_cuda.cc", "-o", library, "-ldl"], check=True)
    return library


@pytest.fixture(scope="module")
def models(model_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import onnx

    loops = tmp_path_factory.mktemp("models") / "loops.onnx"
    onnx.save(parse(SCAN[MODELS[-1]]), loops)
    return {**model_files, MODELS[-1]: loops, "digits": DIGITS}


def kernels_of(bundle: Path, machine: str) -> Path:
    """The kernels for a machine, from the emitted file, for the driver."""
    name = json.loads((bundle / "manifest.json").read_text())["name"]
    source, library = bundle / f"{machine}.cc", bundle / f"{machine}.so"
    source.write_text(host_text(device_text((bundle / f"{name}.cc").read_text(), machine), SHIM))
    flags = ["-std=c++17", "-O1", "-ffp-contract=fast", "-fno-strict-aliasing", "-fvisibility=hidden", "-w", "-shared", "-fPIC"]
    processes.run([requires_tool("clang++"), *flags, source, "-o", library], check=True)
    return library


def run(bundle: Path, driver: Path, machine: str, arch: str) -> list:
    environment = {"LD_LIBRARY_PATH": str(driver.parent), "FAKE_CUDA_ARCH": arch}
    environment["FAKE_CUDA_KERNELS"] = str(kernels_of(bundle, machine))
    done = processes.run([sys.executable, "-c", RUN, bundle], check=True, env=os.environ | environment)
    told: list = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("model", MODELS)
def test_models_run_on_the_gpu(model: str, models: dict[str, Path], driver: Path, tmp_path: Path) -> None:
    """With the kernels scheduled for the GPU that there is, and where none are, with those for any, by PTX."""
    bundle = build(models[model], tmp_path / "net", Options("cuda", name="net"))
    variants = ["cuda_sm_90", "cuda_generic", "avx512", "avx2"]
    assert run(bundle, driver, "cuda_sm_90", "90") == ["cuda: Fake GPU 0 (sm_90)", variants[0], variants]
    assert run(bundle, driver, "cuda_generic", "75") == ["cuda: Fake GPU 0 (sm_75)", variants[1], variants]


def test_archs_are_chosen(tmp_path: Path) -> None:
    requires_module("nvidia.cuda_nvrtc")
    bundle = build(DIGITS, tmp_path / "net", Options("cuda", name="net", target_options={"arch": "sm_53,sm_75"}))
    assert json.loads((bundle / "manifest.json").read_text())["variants"][:2] == ["cuda_sm_53", "cuda_generic"]
    text = (bundle / "net.cc").read_text()
    assert "compiled for sm_53\n" in text
    assert "compiled for sm_75, compute_53\n" in text
    with pytest.raises(UsageError, match="'90' is no GPU architecture: write --arch sm_90,sm_87, say"):
        build(DIGITS, tmp_path / "other", Options("cuda", target_options={"arch": "90"}))

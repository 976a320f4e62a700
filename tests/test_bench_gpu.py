"""bench/gpu, which runs where a GPU is: here with a driver for tests (tests/fake_cuda/)."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from conformance.batch import compile_for
from conformance.cases import find, freeze
from conformance.gpu import packed
from conftest import ROOT, requires_module
from fake_driver import kernels_of
from gpu_text import compile_for_host, cuda_text

from bench.gpu import kernels
from bench.gpu.build import build_all, pack
from bench.gpu.measure import rows_of, summary
from dlpack.targets.gpu.machine import SM_90
from dlpack.targets.gpu.schedule import GpuBackend


def environment(driver: Path, library: Path) -> dict[str, str]:
    told = {"LD_LIBRARY_PATH": str(driver.parent), "FAKE_CUDA_ARCH": "90", "FAKE_CUDA_KERNELS": str(library)}
    return os.environ | told


def test_bundles_and_kernels(model_files: dict[str, Path], cuda_driver: Path, tmp_path: Path) -> None:
    """Those of a packed file, too; peers that are not there are told, and bundles that are wrong."""
    folder, result = tmp_path / "gpu", tmp_path / "gpu.json"
    assert build_all([model_files["conv_net"]], folder, "sm_90", True, light=True, jobs=1) == []
    bundle, other = folder / "conv_net", folder / "conv_net_8"
    assert (folder / "conv_net_8.onnx").is_file()
    library = kernels_of(bundle, "cuda_sm_90")
    assert (other / "manifest.json").is_file()
    shutil.rmtree(other)
    (folder / "kernels" / "conv_net_8.npz").unlink()
    pack(folder, tmp_path / "carried.tar.xz")
    command = [sys.executable, "-m", "bench.gpu", "measure", tmp_path / "carried.tar.xz", "-o", result]
    done = processes.run(command, cwd=ROOT, env=environment(cuda_driver, library))
    assert done.returncode == 0, done.stderr
    assert "1 bundles and 0 node tests are right" in done.stdout
    found = json.loads(result.read_text())
    row = found["rows"]["conv_net"]
    assert row["device"] == "cuda: Fake GPU 0 (sm_90)" and row["right"] and row["same_again"]
    assert row["host_s"] > 0 and row["device_s"] > 0
    assert "problem" in row["pytorch"] and "conv_net.onnx is not there" in row["onnxruntime"]["problem"]
    timed = found["kernels"]["conv_net"]
    assert timed["us"] > 0 and timed["launches"] == len(timed["kernels"])
    assert all(k["us"] > 0 and k["model_us"] > 0 and k["words"] for k in timed["kernels"])
    assert sum(kind["kernels"] for kind in found["calibration"].values()) == len(timed["kernels"])
    with np.load(bundle / "reference.npz") as file:
        arrays = dict(file)
    np.savez(bundle / "reference.npz", **{**arrays, "out_0": arrays["out_0"] + 1})
    command[4] = folder
    done = processes.run(command, cwd=ROOT, env=environment(cuda_driver, library))
    assert done.returncode == 1 and "1 wrong: conv_net" in done.stdout
    assert "no CUDA provider" in json.loads(result.read_text())["rows"]["conv_net"]["onnxruntime"]["problem"]


def worker(kind: str, path: Path, variables: dict[str, str]) -> dict[str, Any]:
    done = processes.run([sys.executable, "-m", "bench.gpu.worker", kind, path], cwd=ROOT, env=variables)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


@pytest.mark.parametrize(
    "name", ["softmax_axis_1", "top_k", "conv_with_strides_padding", "nonzero_example", "string_concat"]
)
def test_node_tests_are_carried(name: str, cuda_driver: Path, tmp_path: Path) -> None:
    """A file has all that a GPU needs to compute a test, and to say whether it is right."""
    (case,) = find([f"test_{name}"])
    assert packed(case, tmp_path) == "right"
    program = compile_for(freeze(case), GpuBackend(SM_90))
    variables = environment(cuda_driver, compile_for_host(program, str(cuda_text(program)), tmp_path))
    path = tmp_path / f"{case.name}.npz"
    assert worker("cases", path, variables) == {"right": True}
    with np.load(path) as file:
        arrays = dict(file)
    wrong = arrays["out_0"] ^ np.uint8(0x15)
    np.savez(path, **{**arrays, "out_0": wrong})
    row = worker("cases", path, variables)
    assert not row["right"] and "instead of" in row["problem"]
    image = arrays["image_sm_90"].copy()
    image[:4] = 0
    np.savez(path, **{**arrays, "image_sm_90": image})  # then it takes the PTX
    assert worker("cases", path, variables) == {"right": True}


def test_without_a_driver_it_is_told(tmp_path: Path) -> None:
    requires_module("nvidia.cuda_nvrtc")
    (case,) = find(["test_softmax_axis_1"])
    packed(case, tmp_path)
    variables = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    row = worker("cases", tmp_path / "test_softmax_axis_1.npz", variables)
    assert row["problem"].startswith("DriverError: no CUDA driver: libcuda.so.1")


STUB = """
import os, signal, sys, time
for path in sys.argv[5:]:
    if path == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "hangs":
        time.sleep(60)
    print("talk")
    print('{"path": "%s"}' % path, flush=True)
    if path == "loses the GPU":
        sys.exit(3)
"""


def test_a_worker_that_dies_or_hangs_costs_one_row() -> None:
    names = ["first", "dies", "second", "hangs", "loses the GPU", "last"]
    around = [sys.executable, "-c", STUB]
    end = time.monotonic() + 60
    rows = {str(path): row for path, row in rows_of("bundles", [Path(n) for n in names], end, around, patience=3)}
    assert list(rows) == names
    assert rows["dies"]["problem"].startswith("the process ended with -9")
    assert rows["hangs"] == {"problem": "no result within 3 s"}
    assert all(rows[n] == {"path": n} for n in ("first", "second", "loses the GPU", "last"))
    late = dict(rows_of("bundles", [Path("a"), Path("b")], time.monotonic() - 1, around))
    assert late == {Path(n): {"problem": "not measured: the time was up"} for n in "ab"}


def test_what_is_found_is_summed_up() -> None:
    fast = {"right": True, "device_s": 1.0, "pytorch": {"graph_s": 2.0}, "compiled": {"s": 4.0}}
    rows = {
        "a": fast,
        "b": {**fast, "device_s": 8.0},
        "b_8": fast,
        "c": {"right": False, "pytorch": {"problem": "none"}},
    }
    told = summary({"rows": rows, "cases": {"x": {"right": True}, "y": {"right": False}}})
    assert told["over_best_peer"] == {"a": 0.5, "b": 4.0} and told["geometric_mean"] == 1.414
    assert (told["right"], told["wrong"], told["cases_right"], told["cases_wrong"]) == (3, ["c"], 1, ["y"])
    made = [{"words": "a thread per output", "us": us, "model_us": 2.0} for us in (1.0, 4.0, 0.0)]
    (kind,) = kernels.calibration([{"kernels": made}, {"problem": "none"}]).values()
    assert kind == {"kernels": 2, "measured_over_model": 1.0, "least": 0.5, "most": 2.0, "us": 5.0, "model_us": 4.0}

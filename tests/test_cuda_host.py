"""The host's side of GPUs, against a driver for tests (tests/fake_cuda/): every call, every failure, no GPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import processes
import pytest
from conftest import ROOT, requires_module, requires_tool

FOLDER = ROOT / "tests" / "fake_cuda"
sys.path.insert(0, str(FOLDER))

import sample  # noqa: E402 - lies in that folder

from dlpack.amalgamate.text import bytes_literal  # noqa: E402

STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
LIBRARY = ["-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"]
ARCHS = ("sm_53", "sm_90", "compute_53")


class Computer:
    """Where the predictor runs: its library, and a driver in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.gcc = folder, requires_tool("g++")
        self.bundle = sample.write_bundle(folder / "sample", ARCHS)
        self.compile([self.bundle / "sample.cc"], self.bundle / "libsample.so", *STRICT)
        (folder / "kernels.cc").write_text(sample.host_kernels(sample.program(), "threads_in_turn.h"))
        self.compile([folder / "kernels.cc"], folder / "kernels.so", f"-I{FOLDER}")
        for driver, *flags in (("now",), ("cuda_10_2", "-DCUDA_10_2")):
            (folder / driver).mkdir()
            soname = "-Wl,-soname,libcuda.so.1"
            self.compile([FOLDER / "fake_cuda.cc"], folder / driver / "libcuda.so.1", "-frtti", soname, *flags)

    def compile(self, sources: list[Path], output: Path, *flags: str) -> None:
        command = [self.gcc, "-std=c++17", *LIBRARY, *flags, *sources, "-o", output, "-ldl"]
        processes.run(command, check=True)

    def run(self, scenario: str, library: Path | None = None, driver: str = "now", **variables: str) -> None:
        """Runs a scenario; fails with what it says."""
        environment = os.environ | {"FAKE_CUDA_KERNELS": str(self.folder / "kernels.so"), **variables}
        environment.pop("LD_LIBRARY_PATH", None)
        if driver:
            environment["LD_LIBRARY_PATH"] = str(self.folder / driver)
        command = [sys.executable, FOLDER / "scenarios.py", scenario, library or self.bundle / "libsample.so"]
        processes.run(command, check=True, env=environment, cwd=self.folder)


@pytest.fixture(scope="module")
def computer(tmp_path_factory: pytest.TempPathFactory) -> Computer:
    requires_module("nvidia.cuda_nvrtc")
    return Computer(tmp_path_factory.mktemp("cuda"))


@pytest.mark.parametrize("driver", ["now", "cuda_10_2"])
def test_runs_are_graphs(computer: Computer, driver: str) -> None:
    computer.run("computes", driver=driver)


@pytest.mark.parametrize("arch", ["53", "62", "75", "90", "121"])
def test_every_arch_from_the_oldest_on_has_an_image(computer: Computer, arch: str) -> None:
    """53 and 90 take their cubins, the others PTX: a driver of CUDA 10.2 too, whose newest ISA is 6.5."""
    computer.run("computes", FAKE_CUDA_ARCH=arch)
    computer.run("computes", driver="cuda_10_2", FAKE_CUDA_ARCH=arch)


SCENARIOS = (
    "by_name every_failure_of_create every_failure_of_a_run a_refused_image two_threads shared_weights "
    "memory_of_the_gpu mapped_memory neighbours a_context_of_the_callers memory_of_the_host steps early_weights"
).split()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(computer: Computer, scenario: str) -> None:
    """As tests/fake_cuda/scenarios.py tells."""
    computer.run(scenario, FAKE_CUDA_DEVICES="2")


def test_an_integrated_gpu_works_in_the_hosts_memory(computer: Computer) -> None:
    computer.run("an_integrated_gpu", FAKE_CUDA_INTEGRATED="1", FAKE_CUDA_ARCH="53")


def test_memory_that_the_driver_cannot_keep_in_place_is_copied(computer: Computer) -> None:
    computer.run("memory_that_cannot_be_kept", FAKE_CUDA_NO_REGISTER="1")


def test_sets_of_shapes(computer: Computer) -> None:
    bundle = sample.write_bundle(computer.folder / "shapes", ARCHS, several_shapes=True)
    computer.compile([bundle / "sample.cc"], bundle / "libsample.so", *STRICT)
    computer.run("sets_of_shapes", bundle / "libsample.so")


NO_DRIVER = "no CUDA driver (libcuda.so.1: cannot open shared object file: No such file or directory)"


@pytest.mark.parametrize(
    ("why", "driver", "variables"),
    [
        (NO_DRIVER, "", {}),
        ("the CUDA driver is too old: it is for CUDA 9.2, and 10.1 is needed", "now", {"FAKE_CUDA_VERSION": "9020"}),
        ("cuInit: no CUDA-capable device is detected (100)", "now", {"FAKE_CUDA_DEVICES": "0"}),
        ("no kernels for sm_50", "now", {"FAKE_CUDA_ARCH": "50"}),
    ],
)
def test_the_cpu_computes_and_says_why(computer: Computer, why: str, driver: str, variables: dict[str, str]) -> None:
    computer.run("on_the_cpu", driver=driver, WHY=why, **variables)


def test_a_library_that_is_no_driver_is_told(computer: Computer) -> None:
    (computer.folder / "empty").mkdir()
    (computer.folder / "empty.cc").write_text("int nothing;\n")
    computer.compile([computer.folder / "empty.cc"], computer.folder / "empty" / "libcuda.so.1")
    computer.run("on_the_cpu", driver="empty", WHY="the CUDA driver is too old or damaged: it lacks cuInit")


def test_a_cubin_for_another_arch_is_refused_by_the_driver(computer: Computer) -> None:
    bundle = sample.write_bundle(computer.folder / "other", ("sm_70",))
    computer.compile([bundle / "sample.cc"], bundle / "libsample.so", *STRICT)
    computer.run("on_the_cpu", bundle / "libsample.so", WHY="no kernels for sm_90")
    why = "cuModuleLoadData: no kernel image is available for execution on the device (209)"
    computer.run("on_the_cpu", bundle / "libsample.so", WHY=why, FAKE_CUDA_ARCH="75", FAIL_AT="cuModuleLoadData:1:209")


def test_a_jetsons_cubin_is_for_it_alone(computer: Computer) -> None:
    """Other GPUs run code of their own major number; a Jetson's own code is no other's, and it takes no other's."""
    bundle = sample.write_bundle(computer.folder / "major", ("sm_80", "sm_87"))
    computer.compile([bundle / "sample.cc"], bundle / "libsample.so", *STRICT)
    for arch in ("80", "86", "87"):
        computer.run("computes", bundle / "libsample.so", FAKE_CUDA_ARCH=arch)
    jetson = sample.write_bundle(computer.folder / "jetson", ("sm_87",))
    computer.compile([jetson / "sample.cc"], jetson / "libsample.so", *STRICT)
    computer.run("on_the_cpu", jetson / "libsample.so", WHY="no kernels for sm_89", FAKE_CUDA_ARCH="89")
    desktop = sample.write_bundle(computer.folder / "desktop", ("sm_86",))
    computer.compile([desktop / "sample.cc"], desktop / "libsample.so", *STRICT)
    computer.run("on_the_cpu", desktop / "libsample.so", WHY="no kernels for sm_87", FAKE_CUDA_ARCH="87")


def test_damaged_images_are_not_loaded(computer: Computer) -> None:
    bundle = sample.write_bundle(computer.folder / "damaged", ARCHS)
    sample.damaged(bundle)
    computer.compile([bundle / "sample.cc"], bundle / "libsample.so", *STRICT)
    computer.run("on_the_cpu", bundle / "libsample.so", WHY="the kernels in this file are damaged")


@pytest.mark.parametrize("flag", ["-DSAMPLE_NO_CUDA", "-DSAMPLE_FREESTANDING", "-DSAMPLE_BIND_ONLY"])
def test_the_file_compiles_without_gpus(computer: Computer, flag: str) -> None:
    library = computer.folder / f"lib{flag[2:]}.so"
    computer.compile([computer.bundle / "sample.cc"], library, flag, *STRICT)
    if flag == "-DSAMPLE_NO_CUDA":
        computer.run("on_the_cpu", library, WHY="this system has no CUDA, or it was left out")


@pytest.mark.parametrize("target", ["x86_64-windows-gnu", "aarch64-linux-gnu.2.23", "aarch64-macos"])
def test_the_file_compiles_for_other_systems(computer: Computer, target: str) -> None:
    zig = [
        sys.executable,
        "-m",
        "ziglang",
        "c++",
        "-target",
        target,
        "-std=c++17",
        "-O1",
        "-fno-exceptions",
        "-fno-rtti",
    ]
    output = computer.folder / f"sample-{target}.o"
    processes.run([*zig, *STRICT, "-c", computer.bundle / "sample.cc", "-o", output], check=True)


def test_the_cuda_c_in_the_file_is_what_was_compiled(computer: Computer) -> None:
    text = (computer.bundle / "sample.cc").read_text()
    for kernel in sample.CUDA.values():
        assert kernel in text
    assert bytes_literal(b"\x78\xda")[1:-1] in text, "a zlib stream"

"""CUDA C → cubins and PTX: what NVRTC makes, what it takes, what is refused, what is kept; and the block of images."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from conftest import requires_module

from dlpack.errors import ToolchainError, UsageError
from dlpack.targets.gpu import nvrtc
from dlpack.targets.gpu.blob import pack, unpack
from dlpack.targets.gpu.host import DEFAULT_ARCHS, taken_by
from dlpack.targets.gpu.nvrtc import Launch, compile_images

REVERSED = """\
extern "C" __global__ void __launch_bounds__(128) reversed(float* __restrict__ y, const float* __restrict__ x) {
    __shared__ float part[256];
    part[threadIdx.x] = x[blockIdx.x * 128 + threadIdx.x];
    __syncthreads();
    y[blockIdx.x * 128 + threadIdx.x] = part[127 - threadIdx.x] * 2.0f;
}
"""
# 160 values that are all needed at the end; 1024 threads leave 64 registers each, on sm_53 32.
GREEDY = """\
extern "C" __global__ void greedy(float* y, const float* x) {
    float v[160];
    #pragma unroll
    for (int i = 0; i < 160; ++i) v[i] = x[i * 1024 + threadIdx.x];
    #pragma unroll
    for (int i = 0; i < 160; ++i) y[i * 1024 + threadIdx.x] = v[159 - i] * v[(i * 7) % 160];
}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    requires_module("nvidia.cuda_nvrtc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "dlpack" / "nvrtc"


def test_every_arch_of_the_target_compiles() -> None:
    images = compile_images(REVERSED, DEFAULT_ARCHS, [Launch("reversed", (1, 1, 1), (128, 1, 1))])
    assert [i.name for i in images] == list(DEFAULT_ARCHS)
    for image in images[:-1]:
        assert image.data.startswith(b"\x7fELF")
        assert image.data[48] == image.arch, "the arch in the ELF header's flags"
        assert 4 < image.kernels["reversed"].registers < 32
        assert (image.kernels["reversed"].shared, image.kernels["reversed"].spills) == (1024, 0)


def test_ptx_is_for_the_oldest_driver() -> None:
    (ptx,) = compile_images(REVERSED, ["compute_53"])
    assert b"\n.version 6.4\n" in ptx.data
    assert b"\n.target sm_53\n" in ptx.data
    assert ptx.data.endswith(b"\0")
    (newer,) = compile_images(REVERSED, ["compute_90"])
    assert b"\n.version 6.4\n" not in newer.data


def test_ptx_says_nothing_that_the_oldest_driver_does_not_know() -> None:
    """Newer PTX says of a vector which of its bytes are used."""
    load = b"\tld.shared.v4.f32 \t{%f1, %f2, %f3, %f4}, [%rd1];\n"
    text = b'.version 8.8\n\t.pragma "used_bytes_mask 255";\n' + load + b'\t.pragma "nounroll";\n'
    assert nvrtc._ptx(text, "compute_53") == b".version 6.4\n" + load + b'\t.pragma "nounroll";\n\0'
    assert nvrtc._ptx(text, "compute_90") == text + b"\0"


def test_an_error_names_the_line() -> None:
    with pytest.raises(
        ToolchainError, match=r'refuses line 8 for sm_90: identifier "absent" is undefined\n    return absent'
    ):
        compile_images(REVERSED + "__device__ int f() {\n    return absent;\n}\n", ["sm_90"])


def test_an_unknown_arch_is_refused() -> None:
    for arch in ("sm_20", "sm53", "volta", "compute_1"):
        with pytest.raises(UsageError, match=f"unknown GPU architecture '{arch}'; known are: .*sm_53.*sm_90"):
            compile_images(REVERSED, [arch])


def test_registers_beyond_the_limit_are_refused() -> None:
    launch = Launch("greedy", (1, 1, 1), (1024, 1, 1))
    with pytest.raises(
        ToolchainError, match=r"kernel greedy takes [\d,]+ registers a block on sm_53 .* there are 32,768"
    ):
        compile_images(GREEDY, ["sm_53"], [launch])
    compile_images(GREEDY, ["sm_53"], [Launch("greedy", (1, 1, 1), (128, 1, 1))])


def test_threads_beyond_the_limit_are_refused() -> None:
    with pytest.raises(ToolchainError, match="kernel reversed: 2048 threads a block, sm_90 allows 1024"):
        compile_images(REVERSED, ["sm_90"], [Launch("reversed", (1, 1, 1), (2048, 1, 1))])


def test_a_grid_beyond_the_limit_is_refused() -> None:
    said = "kernel reversed: a grid of 1 x 65,536 x 1 blocks, sm_90 allows 2,147,483,647 x 65,535 x 65,535"
    with pytest.raises(ToolchainError, match=said):
        compile_images(REVERSED, ["sm_90"], [Launch("reversed", (1, 65536, 1), (128, 1, 1))])


def test_a_launch_of_no_kernel_is_refused() -> None:
    with pytest.raises(ToolchainError, match="kernel absent is launched, but not in the source for sm_90"):
        compile_images(REVERSED, ["sm_90"], [Launch("absent", (1, 1, 1), (1, 1, 1))])


def test_spills_are_told() -> None:
    bounded = GREEDY.replace("__global__ void", "__global__ void __launch_bounds__(1024)")
    images = compile_images(bounded, ["sm_53", "sm_90"], [Launch("greedy", (1, 1, 1), (1024, 1, 1))])
    assert images[0].kernels["greedy"].registers == 32
    told = re.fullmatch(
        r"  // sm_53: 32 registers, .*?(\d+) bytes spilled; sm_90: .* spilled", taken_by("greedy", images)
    )
    assert told and int(told[1]) == images[0].kernels["greedy"].spills
    (image,) = compile_images(REVERSED, ["sm_53"])
    assert re.fullmatch(r"  // sm_53: \d+ registers, 1024 bytes shared", taken_by("reversed", [image]))


def test_equal_sources_are_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_images(REVERSED, ["sm_53", "compute_53"])
    assert len(list(cache.iterdir())) == 2

    def never(*_: object) -> None:
        raise AssertionError("compiled again")

    with monkeypatch.context() as patched:
        patched.setattr(nvrtc, "_compile", never)
        assert compile_images(REVERSED, ["sm_53", "compute_53"]) == first
    # A damaged file is not used, and one that cannot be written is not missed.
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:-5] + b"wrong")
    assert compile_images(REVERSED, ["sm_53", "compute_53"]) == first
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/none")
    assert compile_images(REVERSED, ["sm_53", "compute_53"]) == first


def test_without_nvrtc_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_library_path", lambda: None)
    nvrtc._library.cache_clear()
    with pytest.raises(ToolchainError, match=r"nvidia-cuda-nvrtc-cu12 \(pip install 'dlpack-aot\[cuda\]'\)"):
        nvrtc._library()


def test_the_block_of_images_unpacks() -> None:
    images = compile_images(REVERSED, ["sm_90", "compute_53", "sm_53"])
    blob = pack(images)
    assert [(e.kind, e.arch) for e in blob.entries] == [("cubin", 53), ("cubin", 90), ("ptx", 53)]
    assert {unpack(blob, e) for e in blob.entries} == {i.data for i in images}
    assert len(blob.data) == sum(e.packed for e in blob.entries) < sum(e.size for e in blob.entries) / 2


def test_compiling_for_six_archs_takes_seconds() -> None:
    start = time.monotonic()
    compile_images(REVERSED + "// another text\n", DEFAULT_ARCHS)
    assert time.monotonic() - start < 20

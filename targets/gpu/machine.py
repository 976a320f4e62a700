"""Descriptions of GPUs: the numbers that schedules are computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Gpu:
    """A GPU as the schedules see it.

    `arch` is what NVRTC compiles for. `processors` (streaming multiprocessors) run `clock` million cycles per second;
    in each cycle one of them starts `fma` multiply-adds of float32 and reads `shared_wavefront` bytes of shared memory.
    `memory` and `l2` are bytes per second, `l2_bytes` how much the L2 cache holds. A launch within a graph takes
    `launch` seconds, and each block of it beyond one per processor `block` seconds more.

    Limits: `threads` per block as the rules use them, of which a processor holds `resident` at a time; `registers` of
    a processor, of which a thread has 255 at most; `shared_bytes` per block, all of them static, and `shared_total`
    per processor. `prepares`: whether its weights may be computed from those in the file when a predictor is made.
    """

    name: str
    arch: str
    processors: int
    clock: float
    memory: float
    l2: float
    l2_bytes: int
    launch: float
    block: float = 0
    fma: int = 128
    shared_wavefront: int = 128
    threads: int = 256
    resident: int = 2048
    registers: int = 65536
    shared_bytes: int = 48 << 10
    shared_total: int = 96 << 10
    flags: tuple[str, ...] = ()
    prepares: bool = True


# Jetson TX1: 256 cores at 998 MHz, LPDDR4 of 25.6 GB/s. Launches cost several microseconds of its CPU. Of the 48 KiB
# that a block may use, 16 leave room for four blocks on a processor.
SM_53 = Gpu(
    "sm_53", "sm_53", processors=2, clock=998, memory=25.6e9 * 0.8, l2=60e9, l2_bytes=256 << 10, launch=5e-6,
    registers=32768, shared_bytes=16 << 10, shared_total=64 << 10,
)  # fmt: skip
# Jetson TX2, Xavier and Orin.
SM_62 = replace(SM_53, name="sm_62", arch="sm_62", clock=1300, memory=59.7e9 * 0.8, l2=90e9, l2_bytes=512 << 10)
SM_72 = Gpu(
    "sm_72", "sm_72", processors=8, clock=1377, memory=137e9 * 0.8, l2=400e9, l2_bytes=512 << 10, launch=4e-6, fma=64
)
SM_87 = Gpu(
    "sm_87", "sm_87", processors=16, clock=1300, memory=204.8e9 * 0.8, l2=700e9, l2_bytes=4 << 20, launch=3e-6,
    resident=1536,
)  # fmt: skip
# H100 and H200. Measured on an H200: 63.7 TFLOP/s of FFMA, 32.9 TB/s of 128-bit loads from shared memory, 4.2 TB/s of
# copies in memory and 6 in L2; a launch in a graph takes 0.5 us up to 132 blocks, 1.1 for 1,056 and 3.0 for 4,224.
SM_90 = Gpu(
    "sm_90", "sm_90", processors=132, clock=1885, memory=4.2e12, l2=6e12, l2_bytes=50 << 20, launch=0.5e-6,
    block=0.6e-9, shared_total=227 << 10,
)  # fmt: skip
# What a schedule takes where it is not known which GPU will run it: a desktop card of the middle.
GENERIC = Gpu(
    "generic", "compute_53", processors=30, clock=1700, memory=300e9, l2=1.2e12, l2_bytes=4 << 20, launch=2e-6,
    resident=1024,
)  # fmt: skip
# The limits that every WebGPU adapter has: 16 KiB of shared memory, 256 threads a block.
# Of the 16, one is for what the threads of a block add up.
WEBGPU = replace(GENERIC, name="webgpu", arch="", launch=10e-6, shared_bytes=15 << 10, prepares=False)

GPUS = {gpu.name: gpu for gpu in (SM_53, SM_62, SM_72, SM_87, SM_90, GENERIC, WEBGPU)}

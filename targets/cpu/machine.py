"""Machine descriptions: the numbers that schedules are computed from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A CPU core as the schedules see it.

    `lanes` is float32 elements per vector register, `registers` how many there are, `fma_ports` fused multiply-adds
    started per cycle, `fma_latency` cycles until one is done, `load_ports` vector loads per cycle; caches in bytes.
    `broadcast_operand` tells whether an FMA can take a scalar in memory for all its lanes (AVX-512, and Arm by lane),
    so that no register holds it; `fma_call` that the compiler fuses no multiply-add by itself.
    `threads` is how many cores may work on one kernel.
    `flags` turn the vector unit on, as GCC and Clang both spell them. Where a file has kernels for several machines,
    `condition` is the preprocessor's for the architecture, and `instructions` names the sets of instructions, as both
    compilers do, that the machine has beyond all others of its architecture.
    """

    name: str
    lanes: int
    registers: int
    fma_ports: int = 2
    fma_latency: int = 4
    load_ports: int = 2
    broadcast_operand: bool = False
    fma_call: bool = False
    l1: int = 32 << 10
    l2: int = 256 << 10
    l3: int = 4 << 20
    threads: int = 1
    flags: tuple[str, ...] = ()
    condition: str = ""
    instructions: tuple[str, ...] = ()


SCALAR = Machine("scalar", lanes=1, registers=16, fma_ports=1)

_X86_64 = "defined(__x86_64__)"
_V3 = ("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

AVX2 = Machine(
    "avx2", lanes=8, registers=16, l2=512 << 10, l3=8 << 20,
    flags=("-march=x86-64-v3",), condition=_X86_64, instructions=_V3,
)  # fmt: skip
AVX512 = Machine(
    "avx512", lanes=16, registers=32, broadcast_operand=True, l1=48 << 10, l2=1 << 20, l3=16 << 20,
    flags=("-march=x86-64-v4",), condition=_X86_64, instructions=_V4,
)  # fmt: skip
NEON = Machine("neon", lanes=4, registers=32, broadcast_operand=True, fma_ports=1, condition="defined(__aarch64__)")
NEON32 = Machine(
    "neon32", lanes=4, registers=16, fma_ports=1,
    flags=("-mfpu=neon-vfpv4",), condition="defined(__arm__) && defined(__ARM_NEON)",
)  # fmt: skip
# Of wasm's 16 registers V8 spills some from a tile of 5 x 8 on: SqueezeNet runs at 28 GFLOP/s with 16, at 50 with 13.
WASM = Machine(
    "wasm", lanes=4, registers=13, fma_call=True, flags=("-msimd128",), condition="defined(__wasm_simd128__)"
)

"""Machine descriptions: the numbers that schedules are computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf


@dataclass(frozen=True)
class Machine:
    """A CPU core as the schedules see it.

    `lanes` is float32 elements per vector register, `registers` how many there are, `fma_ports` fused multiply-adds
    started per cycle, `fma_latency` cycles until one is done, `add_ports` and `load_ports` additions and loads of
    vectors per cycle; caches in bytes, and `l2_rate`, `l3_rate` and `memory_rate` the bytes per cycle that come from
    them beside computing: about half of what reading alone gets.
    `ahead` is how many vectors ahead packed weights that stream are prefetched: what comes from memory in the time that
    a line takes; hardware stops at each page of 4 KiB.
    `halved`: it computes vectors in two halves; then `fma_ports`, `add_ports` and `load_ports` of half a vector.
    `broadcast_operand`: whether an FMA can take a scalar in memory for all its lanes (AVX-512), so that no
    register holds it; `by_lane` whether it can take a lane of a vector (64-bit Arm), so that `registers_by_lane`
    registers hold as many steps of a row as one has lanes, and `pairs` that where twice as many are free, one
    instruction loads two; `fma_call` that the compiler fuses no multiply-add by
    itself; `in_order` that an instruction which waits holds up those behind it.
    `beside` is the cycles that each instruction of a product beside its FMAs adds (a load of inputs, a load of two
    vectors of weights, the loop's own): the FMAs leave room to issue them, but not always.
    `exposed` is the part of `fma_latency` that each step of a product adds where there are just as many sums as hide
    it: a late load then holds them up. It falls with the third power of how many more there are.
    `dot` is the instruction that sums four products of 8-bit integers: "vnni" (x86) takes unsigned by signed ones,
    "sdot" (Arm) signed ones; "smmla" (Arm) sums eight, of two rows by two columns; "pairs" multiplies 16-bit integers
    and adds them in pairs, which takes twice as many.
    Others sum products in one register of integers, of signed ones: "smlad" two at a time, "vmladav" 16 in two vectors
    (Cortex-M), "plain" one after the other, where floats are computed in software.
    `dot_each`: it is also what sums the window of a convolution of each channel by itself fastest.
    `byte_lanes`: sums of 8-bit integers are vectors of up to so many lanes, which several registers hold, so that what
    they are rounded to fills a register; by default of `lanes`.
    `narrows_together`: vectors of integers that lie side by side become bytes together (`loops/bytes_together.py`).
    `look_up` is how many other instructions on vectors take as long as finding each lane in a table of 256 bytes, where
    that is ever worth it.
    `looks_up_16`: one instruction finds each lane in a table of 16 floats that a register holds. So it makes floats of
    four bits as fast as of bytes, and weights of four bits stay two to a byte; on others they become bytes.
    `rounds`, on request: what is multiplied with weights of 8 bits and fewer is rounded to 8 bits, for `dot`.
    `halves`: it computes in float16, of which a register holds twice as many (`in_halves`); `itemsize` is the bytes of
    the elements that `lanes` counts.
    `tallest` is how many rows a register tile may have.
    `threads` is how many cores may work on one kernel.
    `about` says which processor this is, of those that are not only a kind: `AMD Zen 4, L1 32K, L2 1M, L3 32M`.
    `flags` turn the vector unit on, as GCC and Clang both spell them. Where a file has kernels for several machines,
    `condition` is the preprocessor's for the architecture, and `instructions` names the sets of instructions, as both
    compilers do, that the machine has beyond all others of its architecture.
    """

    name: str
    lanes: int
    registers: int
    fma_ports: int = 2
    fma_latency: int = 4
    add_ports: int = 2
    load_ports: int = 2
    halved: tuple[int, ...] = ()
    broadcast_operand: bool = False
    by_lane: bool = False
    registers_by_lane: int = 1
    pairs: bool = False
    fma_call: bool = False
    in_order: bool = False
    beside: float = 0
    exposed: float = 0
    dot: str = ""
    dot_each: bool = False
    byte_lanes: int = 0
    narrows_together: bool = False
    look_up: float = inf
    looks_up_16: bool = False
    l1: int = 32 << 10
    l2: int = 256 << 10
    l3: int = 4 << 20
    l2_rate: float = 32
    l3_rate: float = 16
    memory_rate: float = 8
    ahead: int = 32
    tallest: int = 14
    threads: int = 1
    about: str = ""
    flags: tuple[str, ...] = ()
    condition: str = ""
    instructions: tuple[str, ...] = ()
    rounds: bool = False
    halves: bool = False
    itemsize: int = 4

    @property
    def dot_operand(self) -> str:
        """The type that it multiplies int8 by; empty where it has no such products."""
        return {"": "", "vnni": "uint8", "pairs": "uint8"}.get(self.dot, "int8")

    def lanes_of_bytes(self, columns: int) -> int:
        """The lanes of the vectors of a tile with so many columns whose sums are rounded to bytes."""
        wide = (n for n in (self.byte_lanes, self.byte_lanes // 2) if n > self.lanes and columns % n == 0)
        return next(wide, self.lanes)

    @property
    def dot_steps(self) -> int:
        """How many products one dot product sums."""
        return {"vmladav": 16, "smmla": 8}.get(self.dot, 4)

    @property
    def dot_alone(self) -> bool:
        """Whether a dot product gives one sum, not one for each lane of a vector."""
        return self.dot in ("smlad", "vmladav", "plain")


def in_halves(machine: Machine) -> Machine:
    """The machine for a kernel that reads or writes float16."""
    return replace(machine, lanes=2 * machine.lanes, itemsize=2)


def narrower(machine: Machine) -> Machine | None:
    """The machine with vectors of half as many lanes, where these take half the time; else None."""
    if not machine.halved:
        return None
    fmas, adds, loads = machine.halved
    half = replace(machine, lanes=machine.lanes // 2, ahead=2 * machine.ahead, halved=())
    return replace(half, fma_ports=fmas, add_ports=adds, load_ports=loads)


# No vectors: the tile is one of scalars, 4 x 4 at most, which the 32 registers of a Cortex-M7 hold.
SCALAR = Machine("scalar", lanes=1, registers=22, fma_ports=1, beside=0.1, look_up=2)

_X86_64 = "defined(__x86_64__)"
_SSE4 = ("sse3", "ssse3", "sse4.1")
_V3 = (*_SSE4, "sse4.2", "popcnt", "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

# x86-64 without AVX: small Intel cores, all that Android promises, and what Rosetta translates before macOS 15.
# There is no FMA: products wait in two of the 16 registers for their sums.
SSE4 = Machine(
    "sse4", lanes=4, registers=14, fma_ports=1, beside=0.1, l1=24 << 10, l2=512 << 10, l3=512 << 10,
    flags=("-msse4.1",), condition=_X86_64, instructions=_SSE4,
)  # fmt: skip
AVX2 = Machine(
    "avx2", lanes=8, registers=16, exposed=0.2, l2=512 << 10, l3=8 << 20,
    dot="pairs", narrows_together=True, flags=("-march=x86-64-v3",), condition=_X86_64, instructions=_V3,
)  # fmt: skip
AVX512 = Machine(
    "avx512", lanes=16, registers=32, broadcast_operand=True, l1=48 << 10, l2=1 << 20, l3=16 << 20,
    dot="pairs", narrows_together=True, look_up=9, looks_up_16=True,
    flags=("-march=x86-64-v4",), condition=_X86_64, instructions=_V4,
)  # fmt: skip

AVX512VNNI = replace(
    AVX512, name="avx512vnni", dot="vnni", flags=("-march=x86-64-v4", "-mavx512vnni"), instructions=(*_V4, "avx512vnni")
)
AVXVNNI = replace(
    AVX2, name="avxvnni", dot="vnni", flags=("-march=x86-64-v3", "-mavxvnni"), instructions=(*_V3, "avxvnni")
)

# Any 64-bit Arm; then single cores, by their software optimisation guides. The latency is that of sum after sum.
NEON = Machine("neon", lanes=4, registers=32, by_lane=True, fma_ports=1, beside=0.3, condition="defined(__aarch64__)")
NEON_DOTPROD = replace(
    NEON, name="neon_dotprod", dot="sdot", flags=("-march=armv8.2-a+dotprod",), instructions=("arch=armv8.2-a+dotprod",)
)
NEON_I8MM = replace(
    NEON, name="neon_i8mm", dot="smmla",
    flags=("-march=armv8.2-a+dotprod+i8mm",), instructions=("arch=armv8.2-a+dotprod+i8mm",),
)  # fmt: skip
# GCC before 13 computes float16s as floats.
NEON_FP16 = replace(
    NEON, name="neon_fp16", halves=True, condition="defined(__aarch64__) && defined(__clang__)",
    flags=("-march=armv8.2-a+fp16",), instructions=("arch=armv8.2-a+fp16",),
)  # fmt: skip
CORTEX_A53 = replace(NEON, fma_latency=4, load_ports=1, in_order=True, l2=512 << 10, l3=512 << 10)
CORTEX_A57 = replace(NEON, fma_latency=5, load_ports=1, l2=1 << 20, l3=1 << 20)
CORTEX_A72 = replace(CORTEX_A57, fma_latency=3)
CORTEX_A76 = replace(NEON, fma_ports=2, fma_latency=2, l1=64 << 10, l2=512 << 10)  # and Neoverse N1
CORTEX_X1 = replace(CORTEX_A76, fma_ports=4, load_ports=3, l2=1 << 20, l3=8 << 20)
APPLE = replace(NEON, dot="sdot", fma_ports=4, fma_latency=4, load_ports=3, l1=128 << 10, l2=12 << 20, l3=16 << 20)
# 32-bit Arm: of an FMA's operands none is a lane, so a scalar takes a register; and where vmul and vadd are faster than
# vfma, products wait in two of the 16 registers for their sums.
NEON32 = Machine(
    "neon32", lanes=4, registers=14, fma_ports=1, beside=0.1,
    flags=("-mfpu=neon-vfpv4",), condition="defined(__arm__) && defined(__ARM_NEON)",
)  # fmt: skip
# RISC-V: RV64GC, and with vectors of at least 128 bits, whose FMA takes a scalar register for all lanes.
RV64 = replace(SCALAR, name="rv64", registers=28, condition="defined(__riscv) && __riscv_xlen == 64")
RVV = Machine(
    "rvv", lanes=4, registers=32, fma_ports=1, broadcast_operand=True, beside=0.1,
    flags=("-march=rv64gcv",), condition=RV64.condition, instructions=("arch=+v",),
)  # fmt: skip
# Of wasm's 16 registers V8 spills some from a tile of 5 x 8 on: SqueezeNet runs at 28 GFLOP/s with 16, at 50 with 13.
WASM = Machine(
    "wasm",
    lanes=4,
    registers=13,
    fma_call=True,
    dot="pairs",
    dot_each=True,
    byte_lanes=16,
    flags=("-msimd128",),
    condition="defined(__wasm_simd128__)",
)

"""cortex-m: Arm's microcontrollers, a static library without libc and heap."""

from __future__ import annotations

from dlpack.targets.microcontroller.board import AN385, AN386, AN500, AN505, AN547
from dlpack.targets.microcontroller.cores import Core, core_machine
from dlpack.targets.microcontroller.target import microcontroller


def _flags(core: str, fpu: str = "") -> tuple[str, ...]:
    return (f"-mcpu={core}", *(("-mfloat-abi=hard", f"-mfpu={fpu}") if fpu else ("-mfloat-abi=soft",)))


def _arduino(mcu: str, fpu: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{mcu}/{fpu}-{abi}", abi) for abi in ("hard", "softfp"))


_SOFT, _HARD = "thumb-freestanding-eabi", "thumb-freestanding-eabihf"

# zig's Cortex-M4 and M7 have no FPU unless it is named, and its M33 no DSP. The M55's vectors are eight, of four lanes.
CORES = (
    Core(
        "m4", "Cortex-M4F", core_machine("cortex_m4", 22, _flags("cortex-m4", "fpv4-sp-d16"), dot="smlad"),
        _HARD, ("-mcpu=cortex_m4+vfp4d16sp",), AN386, _arduino("cortex-m4", "fpv4-sp-d16"),
    ),
    Core(
        "m0", "Cortex-M0 and M0+", core_machine("cortex_m0", 8, _flags("cortex-m0"), dot="plain"),
        _SOFT, ("-mcpu=cortex_m0",), AN385, (("cortex-m0plus", ""), ("cortex-m0", "")),
    ),
    Core(
        "m7", "Cortex-M7", core_machine("cortex_m7", 22, _flags("cortex-m7", "fpv5-sp-d16"), dot="smlad"),
        _HARD, ("-mcpu=cortex_m7+fp_armv8d16sp",), AN500, _arduino("cortex-m7", "fpv5-d16"),
    ),
    Core(
        "m33", "Cortex-M33", core_machine("cortex_m33", 22, _flags("cortex-m33", "fpv5-sp-d16"), dot="smlad"),
        _HARD, ("-mcpu=cortex_m33+dsp+fp_armv8d16sp",), AN505, _arduino("cortex-m33", "fpv5-sp-d16"),
    ),
    Core(
        "m55", "Cortex-M55 with MVE",
        core_machine("cortex_m55", 8, ("-mcpu=cortex-m55", "-mfloat-abi=hard"), lanes=4, dot="vmladav"),
        _HARD, ("-mcpu=cortex_m55+mve_fp+fp_armv8d16sp",), AN547, _arduino("cortex-m55", "fpv5-d16"),
    ),
)  # fmt: skip

TARGET = microcontroller("cortex-m", "microcontrollers with Cortex-M0 to M55: a static library", CORES)

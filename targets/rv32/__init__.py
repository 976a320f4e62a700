"""rv32: 32-bit RISC-V microcontrollers, a static library without libc and heap."""

from __future__ import annotations

from dlpack.targets.microcontroller.cores import Core, core_machine
from dlpack.targets.microcontroller.target import microcontroller
from dlpack.targets.toolchains.emulate import Emulator

_IMC = ("-mcpu=generic_rv32+m+c-a-f-d", "-mabi=ilp32")
_IMAFC = ("-mcpu=generic_rv32+m+a+f+c-d", "-mabi=ilp32f")


def _emulator(flags: tuple[str, ...]) -> Emulator:
    return Emulator("QEMU's RV32", ("qemu-riscv32",), "riscv32-linux-none", (*flags, "-rtlib=compiler-rt"))


CORES = (
    Core(
        "imc", "RV32IMC (ESP32-C3)", core_machine("rv32imc", 12, ("-march=rv32imc", "-mabi=ilp32"), dot="plain"),
        "riscv32-freestanding-none", _IMC, _emulator(_IMC), (("esp32c3", ""),),
    ),
    Core(
        "imafc", "RV32IMAFC (ESP32-P4)", core_machine("rv32imafc", 22, ("-march=rv32imafc", "-mabi=ilp32f")),
        "riscv32-freestanding-none", _IMAFC, _emulator(_IMAFC), (("esp32p4", ""),),
    ),
)  # fmt: skip

TARGET = microcontroller("rv32", "32-bit RISC-V microcontrollers: a static library", CORES)

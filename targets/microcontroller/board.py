"""Boards with Cortex-M cores that QEMU emulates: NAME's library runs on them without a system, and this computer's
files are read and written by semihosting."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlpack.targets.toolchains.emulate import Emulator

_LINKER_SCRIPT = """\
MEMORY {{ FLASH (rx) : ORIGIN = {flash:#x}, LENGTH = {flash_bytes} RAM (rw) : ORIGIN = {ram:#x}, LENGTH = {ram_bytes} }}
stack_end = ORIGIN(RAM) + LENGTH(RAM);
heap_start = {heap:#x};
heap_end = {heap:#x} + {heap_bytes};
SECTIONS {{
  .text : {{ KEEP(*(.vectors)) *(.text*) *(.rodata*) . = ALIGN(8); }} > FLASH
  .ARM.exidx : {{ *(.ARM.exidx*) . = ALIGN(8); }} > FLASH
  .data : {{ data_start = .; *(.data*) . = ALIGN(8); data_end = .; }} > RAM AT> FLASH
  data_source = LOADADDR(.data);
  .bss (NOLOAD) : {{ bss_start = .; *(.bss*) *(COMMON) . = ALIGN(8); bss_end = .; }} > RAM
}}
"""


@dataclass(frozen=True)
class Board(Emulator):
    """A board; memory regions are (address, bytes): `flash` holds the program, `ram` its stack, `heap` the
    predictor."""

    package: str = "qemu-system-arm"
    flash: tuple[int, int] = (0, 4 << 20)
    ram: tuple[int, int] = (0x20000000, 4 << 20)
    heap: tuple[int, int] = (0x21000000, 16 << 20)

    def link_flags(self, scratch: Path) -> list[str]:
        script = scratch / "board.ld"
        (flash, flash_bytes), (ram, ram_bytes), (heap, heap_bytes) = self.flash, self.ram, self.heap
        text = _LINKER_SCRIPT.format(
            flash=flash, flash_bytes=flash_bytes, ram=ram, ram_bytes=ram_bytes, heap=heap, heap_bytes=heap_bytes
        )
        script.write_text(text, encoding="utf-8")
        return ["-DDRIVE_BOARD", "-ffreestanding", "-nostdlib", "-rtlib=compiler-rt", "-T", str(script), "-Wl,-e,reset"]

    def run_command(self, program: Path, arguments: Sequence[str]) -> list[str]:
        words = "".join(f",arg={word}" for word in ("drive", *arguments))
        semihosting = f"enable=on,target=native{words}"
        quiet = ["-nographic", "-monitor", "none", "-serial", "none"]
        return [*self.command, *quiet, "-semihosting-config", semihosting, "-kernel", str(program)]

    def weights_argument(self, weights: Path, scratch: Path) -> str:
        """A name without commas and blanks, which would end the argument."""
        shutil.copyfile(weights, scratch / "weights")
        return "weights"


def _board(name: str, machine: str, zig_target: str, flags: tuple[str, ...], **memory: tuple[int, int]) -> Board:
    return Board(name, ("qemu-system-arm", "-M", machine), zig_target, flags, **memory)  # type: ignore[arg-type]


# The flags are those of the start and the driver; what is verified is the library as it was compiled.
AN385 = _board("QEMU's Cortex-M3", "mps2-an385", "thumb-freestanding-eabi", ("-mcpu=cortex_m0",))
"""For the Cortex-M0, whose instructions it has all."""

AN386 = _board("QEMU's Cortex-M4", "mps2-an386", "thumb-freestanding-eabihf", ("-mcpu=cortex_m4+vfp4d16sp",))
AN500 = _board(
    "QEMU's Cortex-M7", "mps2-an500", "thumb-freestanding-eabihf", ("-mcpu=cortex_m7+fp_armv8d16sp",),
    heap=(0x60000000, 16 << 20),
)  # fmt: skip
AN505 = _board(
    "QEMU's Cortex-M33", "mps2-an505", "thumb-freestanding-eabihf", ("-mcpu=cortex_m33+fp_armv8d16sp",),
    flash=(0x10000000, 4 << 20), ram=(0x38000000, 2 << 20), heap=(0x80000000, 16 << 20),
)  # fmt: skip
AN547 = _board(
    "QEMU's Cortex-M55", "mps3-an547", "thumb-freestanding-eabihf", ("-mcpu=cortex_m55+mve_fp+fp_armv8d16sp",),
    flash=(0, 512 << 10), ram=(0x20000000, 512 << 10), heap=(0x60000000, 64 << 20),
)  # fmt: skip

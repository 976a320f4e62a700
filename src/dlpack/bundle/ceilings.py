"""The measured ceilings of one core, which times are held against."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("ceilings.c")


@dataclass(frozen=True)
class Ceilings:
    """Of one core: `gflops` of fused multiply-adds, `gbps`: GB/s of reading by the working set's bytes, and its clock
    in `ghz` (0: not measured)."""

    gflops: float
    gbps: dict[int, float]
    vector_bits: int
    ghz: float = 0

    def reading(self, working_set: int) -> float:
        """GB/s at which data of this size is read again and again: the most that was measured at this size or above,
        for prefetchers do worse on short runs through the same cache."""
        return max((rate for size, rate in self.gbps.items() if size >= working_set), default=self.memory)

    @property
    def memory(self) -> float:
        """GB/s from memory: the largest working set."""
        return self.gbps[max(self.gbps)]

    def roofline_ms(self, flops: float, weights: int, all_weights: int, activations: int, arena: int) -> float:
        """The least time for so many operations on so many bytes.

        Weights come from where all the weights of the model fit, activations from where its arena does: a run goes
        through all of both before it comes back.
        """
        moved = weights / self.reading(all_weights + arena) + activations / self.reading(arena)
        return 1e-6 * max(flops / self.gflops, moved)


def measure(folder: Path) -> Ceilings:
    """Compiles and runs ceilings.c; raises OSError or CalledProcessError where that fails."""
    program = folder / "ceilings"
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-march=native", "-ffp-contract=fast"]
    subprocess.run([*command, str(SOURCE), "-o", str(program)], check=True, capture_output=True, text=True)
    told = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return parse(told)


def parse(text: str) -> Ceilings:
    """Reads what ceilings.c prints."""
    told = json.loads(text)
    rates = {int(size): rate for size, rate in told["gbps"].items()}
    return Ceilings(told["gflops"], rates, told["vector_bits"], told["ghz"])


def better(a: Ceilings, b: Ceilings) -> Ceilings:
    """The higher of two measurements, ceiling by ceiling."""
    rates = {s: max(r, b.gbps[s]) for s, r in a.gbps.items()}
    return Ceilings(max(a.gflops, b.gflops), rates, a.vector_bits, max(a.ghz, b.ghz))

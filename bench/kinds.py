"""The kinds of tables: what is built for which machine, how many threads compute it, and in which numbers."""

from __future__ import annotations

from dataclasses import dataclass

V3 = "x86-64-v3"


@dataclass(frozen=True)
class Kind:
    """Which table it is: what the bundles are built for, the threads of all contestants, and the models' numbers."""

    machine: str = "native"
    threads: int = 1
    int8: bool = False

    @property
    def key(self) -> str:
        parts = ["int8" if self.int8 else "float32", self.machine if self.machine != "native" else ""]
        return "-".join([*filter(None, parts), *([f"{self.threads}-threads"] if self.threads > 1 else [])])

    @property
    def title(self) -> str:
        threads = f"{self.threads} threads" if self.threads > 1 else "one thread"
        vectors = f" for {self.machine}{' (AVX2)' if self.machine == V3 else ''}" if self.machine != "native" else ""
        return f"{'int8' if self.int8 else 'float32'}{vectors}, {threads}"


NATIVE = Kind()

USUAL = (NATIVE, Kind(machine=V3), Kind(threads=2), Kind(int8=True))
"""The tables that a page has in this order, before any others."""

"""Cores of x86-64 by what CPUID says of them, and the figures of each that differ from the generic descriptions.

Sources: AMD's software optimization guides 56305 (Zen 2), 56665 (Zen 3), 57647 (Zen 4) and 58455 (Zen 5); Intel's
Optimization Reference Manual (248966); uops.info for what starts in a cycle; Linux' arch/x86 for families and models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dlpack.targets.cpu.machine import Machine

KIB = 1 << 10

VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}
"""What CPUID calls the makers, and people do."""


@dataclass(frozen=True)
class Ports:
    """What starts in a cycle, of vectors of one width: fused multiply-adds, additions, loads."""

    fmas: int = 2
    adds: int = 2
    loads: int = 2


@dataclass(frozen=True)
class Core:
    """A core by its makers' name. Caches in KiB: `l1` of data, `l2`, both its own, and of `l3` what the smallest of
    its processors has, or what one of many cores can count on.

    `narrow`: of vectors of 256 bits; `wide`: of 512, None where it has no AVX-512. `l2_rate`, `l3_rate`: as in Machine,
    where they are known to differ from those of the generic description.
    """

    name: str
    l1: int
    l2: int
    l3: int
    fma_latency: int = 4
    narrow: Ports = Ports()
    wide: Ports | None = None
    l2_rate: float = 0
    l3_rate: float = 0


# AMD. Zen computes 256 bits in two halves, Zen 4 and the mobile Zen 5 do so with 512.
ZEN = Core("Zen", 32, 512, 4096, fma_latency=5, narrow=Ports(1, 1, 1))
ZEN_2 = Core("Zen 2", 32, 512, 4096, fma_latency=5)
ZEN_3 = Core("Zen 3", 32, 512, 16384)
ZEN_4 = Core("Zen 4", 32, 1024, 16384, wide=Ports(1, 1, 1))
ZEN_5 = Core("Zen 5", 48, 1024, 32768, wide=Ports())
ZEN_5_MOBILE = replace(ZEN_5, l3=16384, wide=Ports(1, 1, 1))

# Intel. Before Skylake one port adds; client cores with AVX-512 have one FMA of 512 bits, servers mostly two. Servers
# reach their level 3 cache over a mesh.
HASWELL = Core("Haswell", 32, 256, 4096, fma_latency=5, narrow=Ports(2, 1, 2))
SKYLAKE = Core("Skylake", 32, 256, 4096)
SKYLAKE_X = Core("Skylake", 32, 1024, 16384, wide=Ports(), l2_rate=48, l3_rate=10)
ICE_LAKE = Core("Ice Lake", 48, 512, 6144, wide=Ports(1, 1, 2))
TIGER_LAKE = Core("Tiger Lake", 48, 1280, 8192, wide=Ports(1, 1, 2))
ICE_LAKE_X = Core("Ice Lake", 48, 1280, 16384, wide=Ports(), l2_rate=48, l3_rate=10)
ALDER_LAKE = Core("Alder Lake", 48, 1280, 12288, narrow=Ports(2, 2, 3))
RAPTOR_LAKE = replace(ALDER_LAKE, name="Raptor Lake", l2=2048)
SAPPHIRE_RAPIDS = Core("Sapphire Rapids", 48, 2048, 16384, narrow=Ports(2, 2, 3), wide=Ports(), l2_rate=48, l3_rate=10)
GRACEMONT = Core("Gracemont", 32, 2048, 6144, fma_latency=6, narrow=Ports(1, 1, 1))


def _named(core: Core, name: str) -> Core:
    return replace(core, name=name)


_AMD = (
    (0x17, range(0x00, 0x30), ZEN),
    (0x17, range(0x50, 0x60), ZEN),
    (0x17, range(0x30, 0x100), ZEN_2),
    (0x19, range(0x10, 0x20), ZEN_4),
    (0x19, range(0x60, 0xB0), ZEN_4),
    (0x19, range(0x00, 0x60), ZEN_3),
    (0x1A, range(0x20, 0x30), ZEN_5_MOBILE),
    (0x1A, range(0x60, 0x70), ZEN_5_MOBILE),
    (0x1A, range(0x00, 0x50), ZEN_5),
    (0x1A, range(0x70, 0x80), ZEN_5),
)
"""Families, models and cores; the first that fits."""

_INTEL = {
    **dict.fromkeys((0x3C, 0x3F, 0x45, 0x46), HASWELL),
    **dict.fromkeys((0x3D, 0x47, 0x4F, 0x56), _named(HASWELL, "Broadwell")),
    **dict.fromkeys((0x4E, 0x5E), SKYLAKE),
    **dict.fromkeys((0x8E, 0x9E), _named(SKYLAKE, "Kaby Lake")),
    0xA5: _named(SKYLAKE, "Comet Lake"),
    0x55: SKYLAKE_X,
    **dict.fromkeys((0x7D, 0x7E), ICE_LAKE),
    **dict.fromkeys((0x6A, 0x6C), ICE_LAKE_X),
    **dict.fromkeys((0x8C, 0x8D), TIGER_LAKE),
    0xA7: _named(ICE_LAKE, "Rocket Lake"),
    **dict.fromkeys((0x97, 0x9A), ALDER_LAKE),
    **dict.fromkeys((0xB7, 0xBA, 0xBF), RAPTOR_LAKE),
    0x8F: SAPPHIRE_RAPIDS,
    0xCF: _named(SAPPHIRE_RAPIDS, "Emerald Rapids"),
    **dict.fromkeys((0xAD, 0xAE), _named(SAPPHIRE_RAPIDS, "Granite Rapids")),
    0xAA: _named(RAPTOR_LAKE, "Meteor Lake"),
    0xBD: replace(RAPTOR_LAKE, name="Lunar Lake", l2=2560),
    **dict.fromkeys((0xC5, 0xC6), replace(RAPTOR_LAKE, name="Arrow Lake", l2=3072)),
    0xBE: GRACEMONT,
    0xAF: replace(GRACEMONT, name="Sierra Forest", l2=4096),
}
"""Models of family 6."""

_ONE_FMA = re.compile(r"Bronze|Silver|Gold 5(?![12]22)\d\d\d")
"""Xeons of 0x55 with one FMA of 512 bits, by their names."""


def core_of(vendor: str, family: int, model: int, stepping: int, title: str = "") -> Core | None:
    """The core of a processor, by what CPUID says of it; `title` is the processor's name. None: not known."""
    if vendor == "AuthenticAMD":
        return next((core for f, models, core in _AMD if family == f and model in models), None)
    core = _INTEL.get(model) if vendor == "GenuineIntel" and family == 6 else None
    if core is SKYLAKE_X:
        core = core if stepping < 5 else _named(core, "Cascade Lake" if stepping < 10 else "Cooper Lake")
        return replace(core, wide=Ports(1, 1, 2)) if _ONE_FMA.search(title) else core
    return core


def as_core(machine: Machine, core: Core) -> Machine:
    """The generic description of a set of vectors, with what is known of a core that has it; its caches too."""
    ports = core.wide if machine.lanes == WIDE_LANES else core.narrow
    if ports is None:
        return machine  # not that core: something hides what it is
    narrow = (core.narrow.fmas, core.narrow.adds, core.narrow.loads)
    return replace(
        machine,
        fma_ports=ports.fmas,
        add_ports=ports.adds,
        load_ports=ports.loads,
        halved=narrow if core.narrow.fmas > ports.fmas else (),
        fma_latency=core.fma_latency,
        l1=core.l1 * KIB,
        l2=core.l2 * KIB,
        l3=core.l3 * KIB,
        l2_rate=core.l2_rate or machine.l2_rate,
        l3_rate=core.l3_rate or machine.l3_rate,
    )


WIDE_LANES = 16
"""Elements of a vector of 512 bits."""

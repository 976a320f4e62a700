"""What a machine is called: from its processor's vendor, name and core, as the system tells them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_AMD = (
    (0x17, range(0x00, 0x30), "Zen"),
    (0x17, range(0x30, 0x100), "Zen 2"),
    (0x19, range(0x10, 0x20), "Zen 4"),
    (0x19, range(0x60, 0xB0), "Zen 4"),
    (0x19, range(0x00, 0x60), "Zen 3"),
    (0x1A, range(0x00, 0x100), "Zen 5"),
)
"""AMD's families, models, and cores; the first that fits."""

_INTEL = {
    0x3C: "Haswell", 0x3F: "Haswell", 0x45: "Haswell", 0x46: "Haswell", 0x3D: "Broadwell", 0x47: "Broadwell",
    0x4F: "Broadwell", 0x56: "Broadwell", 0x4E: "Skylake", 0x5E: "Skylake", 0x8E: "Kaby Lake", 0x9E: "Kaby Lake",
    0xA5: "Comet Lake", 0x6A: "Ice Lake", 0x6C: "Ice Lake", 0x7D: "Ice Lake", 0x7E: "Ice Lake", 0x8C: "Tiger Lake",
    0x8D: "Tiger Lake", 0xA7: "Rocket Lake", 0x97: "Alder Lake", 0x9A: "Alder Lake", 0xB7: "Raptor Lake",
    0xBA: "Raptor Lake", 0xBF: "Raptor Lake", 0x8F: "Sapphire Rapids", 0xCF: "Emerald Rapids",
    0xAD: "Granite Rapids", 0xAE: "Granite Rapids", 0xAA: "Meteor Lake", 0xBD: "Lunar Lake", 0xC6: "Arrow Lake",
    0xAF: "Sierra Forest",
}  # fmt: skip
"""Intel's models of family 6; 0x55 is of two generations."""

_VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}
_NOISE = re.compile(r"\((?:R|TM|C)\)|\bCPU\b|\bProcessor\b|\b\d+-Core\b|@.*", re.IGNORECASE)


def core_of(facts: Mapping[str, str]) -> str:
    """The generation of a processor's cores, by the keys of /proc/cpuinfo; "" where it is not known."""
    try:
        family, model, stepping = (int(facts.get(key, "-1")) for key in ("cpu family", "model", "stepping"))
    except ValueError:
        return ""
    if facts.get("vendor_id") == "AuthenticAMD":
        return next((core for f, models, core in _AMD if family == f and model in models), "")
    if facts.get("vendor_id") != "GenuineIntel" or family != 6:
        return ""
    if model == 0x55:
        return "Skylake" if stepping < 5 else "Cascade Lake"
    return _INTEL.get(model, "")


def title_of(facts: Mapping[str, str]) -> str:
    """For people: `AMD EPYC (Zen 5)`."""
    name = " ".join(_NOISE.sub(" ", facts.get("model name", "")).split()) or "unknown processor"
    vendor = _VENDORS.get(facts.get("vendor_id", ""), "")
    name = name if name.startswith(vendor) else f"{vendor} {name}"
    core = core_of(facts)
    return f"{name} ({core})" if core and core not in name else name


def stem_of(title: str) -> str:
    """For files: `AMD EPYC (Zen 5)` → `amd-epyc-zen5`."""
    joined = re.sub(r"\(Zen (\d)", r"(zen\1", title)
    return re.sub(r"[^a-z0-9]+", "-", joined.lower()).strip("-")


def facts_of(lines: Sequence[str]) -> dict[str, str]:
    """The last processor's keys and values in /proc/cpuinfo."""
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}

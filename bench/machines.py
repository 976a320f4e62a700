"""What a machine is called: from its processor's vendor, name and core, as the system tells them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dlpack.targets.cpu.cores import VENDORS, core_of

_NOISE = re.compile(r"\((?:R|TM|C)\)|\bCPU\b|\bProcessor\b|\b\d+-Core\b|@.*", re.IGNORECASE)


def title_of(facts: Mapping[str, str]) -> str:
    """For people: `AMD EPYC (Zen 5)`."""
    name = " ".join(_NOISE.sub(" ", facts.get("model name", "")).split()) or "unknown processor"
    vendor = VENDORS.get(facts.get("vendor_id", ""), "")
    name = name if name.startswith(vendor) else f"{vendor} {name}"
    try:
        numbers = [int(facts.get(key, "-1")) for key in ("cpu family", "model", "stepping")]
    except ValueError:
        return name
    core = core_of(facts.get("vendor_id", ""), *numbers)
    return f"{name} ({core.name})" if core and core.name not in name else name


def stem_of(title: str) -> str:
    """For files: `AMD EPYC (Zen 5)` → `amd-epyc-zen5`."""
    joined = re.sub(r"\(Zen (\d)", r"(zen\1", title)
    return re.sub(r"[^a-z0-9]+", "-", joined.lower()).strip("-")

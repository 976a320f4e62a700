"""The CUDA C of an emitted file, for the CPU: the library that fake_cuda.cc takes its kernels from."""

from __future__ import annotations

import re
from pathlib import Path

KINDS = {
    "int": "i",
    "unsigned": "i",
    "unsigned int": "i",
    "unsigned char": "c",
    "unsigned short": "h",
    "unsigned long long": "l",
}
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(([^)]*)\)')


def device_text(emitted: str, machine: str) -> str:
    """The CUDA C for a machine, as it stands in NAME.cc."""
    region = emitted[emitted.index(f"\n// [MACHINE {machine}]") :]
    start = region.index("#if defined(__CUDACC__)\n")
    return region[start:].split("\n", 1)[1].split("\n#endif  // defined(__CUDACC__)", 1)[0]


def host_text(device: str, shim: Path) -> str:
    """CUDA C with `shim` before it, and behind it for each kernel what runs it and the kinds of its parameters."""
    lines = [f'#include "{shim}"', device]
    for name, parameters in _KERNEL.findall(device):
        types = [_type(p) for p in parameters.split(",") if p.strip()]
        arguments = ", ".join(f"*({t}*)a[{k}]" for k, t in enumerate(types))
        kinds = "".join("p" if "*" in t else KINDS[t] for t in types)
        exported = 'extern "C" __attribute__((visibility("default")))'
        lines.append(f"{exported} void run_{name}(void** a) {{ {name}({arguments}); }}")
        lines.append(f'{exported} const char kinds_{name}[] = "{kinds}";')
    return "\n".join(lines) + "\n"


def _type(parameter: str) -> str:
    """Of a parameter as it is declared."""
    text = re.sub(r"/\*.*?\*/", "", parameter).replace("__restrict__", "").strip()
    return text[: text.rindex("*") + 1] if "*" in text else text.rsplit(" ", 1)[0]

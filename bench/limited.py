"""Peers that keep to AVX2 on a machine that has AVX-512, for the table of x86-64-v3.

A runtime asks CPUID what the processor has, and XGETBV whose registers the system keeps. OpenVINO alone has a setting
(ONEDNN_MAX_CPU_ISA), so each peer gets copies of its libraries in which XGETBV is `mov al, 7`: x87's, SSE's and AVX's
registers are kept, AVX-512's are not, as on a processor without it.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from pathlib import Path

XGETBV = re.compile(
    rb"(?:\x31\xc9|\x33\xc9|\xb9\x00\x00\x00\x00|\x31\xf6\x89\xf1)"  # 0 in ecx: the register that is asked for
    rb"(?:(?!\x0f\x01\xd0).){0,20}?(\x0f\x01\xd0)",
    re.DOTALL,
)
MOV_AL_7 = b"\xb0\x07\x90"


def without_avx512(library: bytes) -> tuple[bytes, int]:
    """The library in which XGETBV says that AVX-512's registers are not kept, and how many of these there were."""
    made = bytearray(library)
    found = [m.start(1) for m in XGETBV.finditer(library)]
    for at in found:
        made[at : at + 3] = MOV_AL_7
    return bytes(made), len(found)


def copy_packages(packages: list[str], folder: Path) -> int:
    """Copies packages of this Python to `folder`, which then comes first in PYTHONPATH, their libraries without
    AVX-512; how many XGETBV were replaced."""
    total = 0
    for package in packages:
        for file in importlib.metadata.files(package) or ():
            source, target = Path(str(file.locate())), folder / file
            if ".." in file.parts or not source.is_file():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            made, count = without_avx512(source.read_bytes()) if ".so" in source.name else (b"", 0)
            if count:
                target.write_bytes(made)
                target.chmod(0o755)
            else:
                target.symlink_to(source.resolve())
            total += count
    return total


if __name__ == "__main__":
    print(json.dumps({"replaced": copy_packages(sys.argv[2:], Path(sys.argv[1]))}))

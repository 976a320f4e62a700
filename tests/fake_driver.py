"""The libcuda.so.1 of tests/fake_cuda/, and an emitted file's own kernels for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import processes
from conftest import ROOT, requires_tool

FOLDER = ROOT / "tests" / "fake_cuda"
sys.path.insert(0, str(FOLDER))

from emitted import device_text, host_text  # noqa: E402 - lies in that folder

SHIM = ROOT / "tests" / "cuda_on_host.h"


def kernels_of(bundle: Path, machine: str) -> Path:
    """The kernels for a machine, from the emitted file, for the driver."""
    name = json.loads((bundle / "manifest.json").read_text())["name"]
    source, library = bundle / f"{machine}.cc", bundle / f"{machine}.so"
    source.write_text(host_text(device_text((bundle / f"{name}.cc").read_text(), machine), SHIM))
    flags = [
        "-std=c++17",
        "-O1",
        "-ffp-contract=fast",
        "-fno-strict-aliasing",
        "-fvisibility=hidden",
        "-w",
        "-shared",
        "-fPIC",
    ]
    processes.run([requires_tool("clang++"), *flags, source, "-o", library], check=True)
    return library

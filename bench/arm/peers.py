"""onnxruntime's and ncnn's wheels for AArch64 in an emulated Python: what a run of a model executes there.

`python -m bench.arm root FOLDER` makes the folder that this needs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from bench.arm.emulated import Array, Count, counted, error
from bench.peers import PEERS, PeerError
from bench.rounds import ROOT

PYTHON = "3.11"
"""That of Debian 12, whose packages are its root."""

WHEELS = ("onnxruntime", "ncnn", "numpy")

PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")

PROCESSOR = """\
processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd07
CPU revision\t: 0
"""
"""/proc/cpuinfo of a Cortex-A57, which onnxruntime reads; the host's would be of x86."""

RUNS = 2
"""Before the run that is counted: the first ones prepare weights and allocate memory."""


def make_root(folder: Path) -> None:
    """Debian's Python for arm64, unpacked into `folder`/root, and the wheels in `folder`/site; raises
    CalledProcessError. Nothing of it is installed or run here."""
    root = folder / "root"
    folder.mkdir(parents=True, exist_ok=True)
    packages = f"python{PYTHON},libpython{PYTHON},libgomp1,libstdc++6"
    stage = ["debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", f"--include={packages}", "bookworm"]
    subprocess.run([*stage, str(root)], check=True)
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
        package.unlink()
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(PROCESSOR, encoding="ascii")
    platforms = [f"--platform={p}_aarch64" for p in PLATFORMS]
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", f"--python-version={PYTHON}"]
    subprocess.run([*pip, *platforms, f"--target={folder / 'site'}", *WHEELS], check=True)


def python(folder: Path, plugin: str | None = None) -> list[str]:
    """The command of the emulated Python, which can import this repository's `bench`."""
    root, site = (folder / "root").resolve(), (folder / "site").resolve()
    counting = ["-plugin", plugin, "-d", "plugin"] if plugin else []
    settings = {
        "PYTHONHOME": root / "usr",
        "PYTHONPATH": f"{site}:{ROOT}",
        "LD_LIBRARY_PATH": f"{root}/usr/lib/aarch64-linux-gnu:{site}/onnxruntime/capi",
        "OMP_NUM_THREADS": 1,
        "PYTHONDONTWRITEBYTECODE": 1,
    }
    environment = [x for name, value in settings.items() for x in ("-E", f"{name}={value}")]
    program = str(root / "usr/bin" / f"python{PYTHON}")
    return ["qemu-aarch64", "-cpu", "cortex-a57", *counting, "-L", str(root), *environment, program]


def peer_versions(folder: Path) -> dict[str, str]:
    """The version of each contestant's wheel."""
    found = {}
    for name in ("onnxruntime", "ncnn"):
        info = next(iter((folder / "site").glob(f"{name}-*.dist-info")), None)
        if info is None:
            raise PeerError(f"{folder / 'site'} has no wheel of {name}")
        found[name] = info.name.removesuffix(".dist-info").removeprefix(f"{name}-")
    return found


def count_peer(
    name: str,
    model: Path,
    folder: Path,
    scratch: Path,
    wanted: list[Array],
    plugin: Path,
    timeout: float | None = None,
) -> Count:
    """The instructions of one run of contestant `name` on `model` with the inputs of the .npz beside it, and its error
    against `wanted`, the outputs in order. Raises PeerError where it cannot take the model, and TimeoutExpired where
    a process takes more than `timeout` seconds."""
    peer = PEERS[name]
    converted = scratch / name
    converted.mkdir(exist_ok=True)
    file = peer.convert(model.resolve(), converted)
    results = scratch / f"{name}.npz"
    totals = []
    for runs in (RUNS, RUNS + 1):
        arguments = [name, str(file), str(model.with_suffix(".npz").resolve()), str(runs), str(results)]
        command = [*python(folder, str(plugin)), "-m", "bench.arm.emulated_peer", *arguments]
        process = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=timeout
        )
        if process.returncode:
            told = [line for line in process.stderr.splitlines() if line.startswith("PEER FAILED: ")]
            reason = told[0].removeprefix("PEER FAILED: ") if told else f"it ended with code {process.returncode}"
            raise PeerError(reason)
        totals.append(counted(process.stderr))
    with np.load(results) as stored:
        got = [stored[f"out_{i}"] for i in range(len(wanted))]
    return Count(totals[1] - totals[0], max(map(error, got, wanted)))

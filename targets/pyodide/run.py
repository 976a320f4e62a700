"""Runs the wheels of a bundle on this computer: in wasmtime (PyPI) and in node's Pyodide (npm), where they are here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from dlpack.bundle.arrays import own_outputs
from dlpack.errors import ToolchainError
from dlpack.meaning.shape_sets import find_set, sets_of
from dlpack.targets.base import Array
from dlpack.targets.wasm.run import node_command


def runs_here() -> bool:
    return has_wasmtime() or has_pyodide()


def has_wasmtime() -> bool:
    return importlib.util.find_spec("wasmtime") is not None


def has_pyodide() -> bool:
    return pyodide_abi() is not None


@cache
def pyodide_abi() -> str | None:
    """The ABI of the npm package pyodide that node finds in NODE_PATH or above the current folder ("2026_0")."""
    lock = 'require("node:path").dirname(require.resolve("pyodide")) + "/pyodide-lock.json"'
    probe = [*node_command(), "-p", f"require({lock}).info.abi_version"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False) if node_command() else None
    return done.stdout.strip() if done and done.returncode == 0 else None


def run(bundle: Path, inputs: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """The outputs by name, for each wheel, each build in it, and each place that runs it."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    places = {"wasmtime": [sys.executable]} if has_wasmtime() else {}
    scripts = resources.files("dlpack.targets.pyodide")
    with (
        tempfile.TemporaryDirectory(prefix="dlpack-") as folder,
        resources.as_file(scripts / "runner.py") as runner,
        resources.as_file(scripts / "run.mjs") as script,
    ):
        work = Path(folder)
        if has_pyodide():
            places["Pyodide"] = [*node_command(), str(script)]
        number = find_set(manifest, {name: x.shape for name, x in inputs.items()}) or 0
        (work / "in").mkdir()
        (work / "in" / "set").write_text(str(number), encoding="utf-8")
        for k, t in enumerate(manifest["inputs"]):
            (work / "in" / str(k)).write_bytes(np.ascontiguousarray(inputs[t["name"]]).tobytes())
        results = {}
        for place, command in places.items():
            kinds = {}
            for wheel in manifest["wheels"]:
                standalone = wheel["file"].endswith("-none-any.whl")
                if standalone or (place == "Pyodide" and f"emscripten_{pyodide_abi()}_" in wheel["file"]):
                    kind = "standalone" if standalone else "side module"
                    kinds[kind] = f"{kind} in {place}"
                    with zipfile.ZipFile(bundle / wheel["file"]) as archive:
                        archive.extractall(work / kinds[kind])
            _execute([*command, str(runner), folder, manifest["name"], *kinds.values()])
            for label in kinds.values():
                for out in sorted((work / f"{label} out").iterdir(), reverse=True):  # simd, relaxed
                    results[f"{out.name}, {label}"] = {
                        t["name"]: np.fromfile(out / str(k), t["dtype"]).reshape(_shape(out / f"{k}.shape"))
                        for k, t in enumerate(own_outputs(sets_of(manifest)[number]["outputs"]))
                    }
        return results


def _shape(file: Path) -> tuple[int, ...]:
    return tuple(map(int, file.read_text(encoding="utf-8").split()))


def _execute(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        tail = [line[:500] for line in done.stderr.strip().splitlines()[-8:]]
        raise ToolchainError("the wheel cannot be run: " + "\n".join(tail))

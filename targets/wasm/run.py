"""Runs a wasm bundle on this computer: in node, through the bundle's own JavaScript, else in wasmtime (PyPI)."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.bundle.arrays import own_outputs
from dlpack.errors import ToolchainError
from dlpack.meaning.shape_sets import find_set, sets_of
from dlpack.targets.base import Array
from dlpack.targets.wasm.compile import BUILDS, DOTS

_RELAXED = "--experimental-wasm-relaxed-simd"


def runs_here() -> bool:
    return shutil.which("node") is not None or importlib.util.find_spec("wasmtime") is not None


@cache
def node_command() -> tuple[str, ...]:
    """node with the option that older versions want for relaxed SIMD, and newer ones do not know; () without node."""
    node = shutil.which("node")
    if node is None:
        return ()
    known = subprocess.run([node, _RELAXED, "-e", "0"], capture_output=True, check=False).returncode == 0
    return (node, _RELAXED) if known else (node,)


def run(bundle: Path, inputs: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """The outputs by name, for each build of the bundle; wasmtime runs those for one thread."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    if node_command():
        return {build: run_in_node(bundle, manifest, build, inputs)[0] for build in manifest["wasm"]}
    return {build: run_in_wasmtime(bundle, build, inputs) for build in BUILDS}


def measure(bundle: Path, inputs: Mapping[str, Array], rounds: int) -> dict[str, dict[str, Any]]:
    """For each build that node can run, the times that `run_in_node` measures."""
    if not node_command():
        raise ToolchainError("a bundle for wasm is timed in node, which is not installed here")
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return {b: run_in_node(bundle, manifest, b, inputs, rounds)[1] for b in _timed_builds(bundle, manifest)}


def _timed_builds(bundle: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The builds of the bundle that node need not emulate."""
    builds = list(manifest["wasm"])
    if DOTS in builds:
        ask = "import(process.argv[1]).then((m) => process.exit(m.supportedBuild(JSON.parse(process.argv[2])) ? 0 : 1))"
        dots = json.dumps({DOTS: manifest["wasm"][DOTS]})
        command = [*node_command(), "-e", ask, (bundle / "index.js").resolve().as_uri(), dots]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return [build for build in builds if not build.startswith(DOTS)]
    return builds


def run_in_node(
    bundle: Path, manifest: Mapping[str, Any], build: str, inputs: Mapping[str, Array], rounds: int = 0
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The outputs, and of `rounds` further runs the milliseconds: `runs`, `cpu`, `steps` (name, median)."""
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder, resources.as_file(_script()) as script:
        into, out = Path(folder) / "in", Path(folder) / "out"
        into.mkdir()
        out.mkdir()
        for k, t in enumerate(manifest["inputs"]):
            (into / str(k)).write_bytes(np.ascontiguousarray(inputs[t["name"]]).tobytes())
        number = find_set(manifest, {name: x.shape for name, x in inputs.items()}) or 0
        arguments = [str(script), str(bundle.resolve()), build, str(into), str(out), str(number)]
        command = [*node_command(), *arguments, *([str(rounds)] if rounds else [])]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise ToolchainError("node cannot run the bundle: " + "\n".join(done.stderr.strip().splitlines()[-8:]))
        shapes = json.loads((out / "shapes").read_text(encoding="utf-8"))
        own = own_outputs(sets_of(manifest)[number]["outputs"])
        outputs = {t["name"]: np.fromfile(out / str(k), t["dtype"]).reshape(shapes[k]) for k, t in enumerate(own)}
        return outputs, json.loads(done.stdout) if rounds else {}


def _script() -> Any:
    return resources.files("dlpack.targets.wasm") / "run.mjs"


def run_in_wasmtime(bundle: Path, build: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name, computed in wasmtime."""
    from dlpack.targets.wasm.runtime import ExceededError, Predictor

    with Predictor(bundle, build) as predictor:
        predictor.bind(inputs)
        with suppress(ExceededError):
            predictor.compute()
        return {name: np.asarray(value) for name, value in predictor.results().items()}

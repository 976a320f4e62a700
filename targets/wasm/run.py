"""Runs a wasm bundle on this computer: in node, through the bundle's own JavaScript, else in wasmtime (PyPI)."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import ToolchainError
from dlpack.targets.base import Array

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
    """The outputs by name, for each build of the bundle."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    runner = run_in_node if node_command() else run_in_wasmtime
    return {build: runner(bundle, manifest, build, inputs)[0] for build in manifest["wasm"]}


def measure(bundle: Path, inputs: Mapping[str, Array], rounds: int) -> dict[str, dict[str, Any]]:
    """For each build, what `run_in_node` tells of the time."""
    if not node_command():
        raise ToolchainError("a bundle for wasm is timed in node, which is not installed here")
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return {build: run_in_node(bundle, manifest, build, inputs, rounds)[1] for build in manifest["wasm"]}


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
        arguments = [str(script), str(bundle.resolve()), build, str(into), str(out)]
        command = [*node_command(), *arguments, *([str(rounds)] if rounds else [])]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise ToolchainError("node cannot run the bundle: " + "\n".join(done.stderr.strip().splitlines()[-8:]))
        outputs = {
            t["name"]: np.fromfile(out / str(k), t["dtype"]).reshape(t["shape"])
            for k, t in enumerate(manifest["outputs"])
        }
        return outputs, json.loads(done.stdout) if rounds else {}


def _script() -> Any:
    return resources.files("dlpack.targets.wasm") / "run.mjs"


def run_in_wasmtime(
    bundle: Path, manifest: Mapping[str, Any], build: str, inputs: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The same in wasmtime, without times."""
    import wasmtime

    config = wasmtime.Config()
    config.wasm_relaxed_simd = True
    store = wasmtime.Store(wasmtime.Engine(config))
    module = wasmtime.Module.from_file(store.engine, str(bundle / manifest["wasm"][build]["file"]))
    exports = wasmtime.Instance(store, module, []).exports(store)
    memory = exports["memory"]

    def call(name: str, *arguments: int) -> Any:
        return exports[f"{manifest['name']}_{name}"](store, *arguments)

    end = exports["__heap_base"].value(store)

    def reserve(size: int) -> int:
        nonlocal end
        at = (end + 63) // 64 * 64
        end = at + size
        if end > memory.data_len(store):
            memory.grow(store, -(-(end - memory.data_len(store)) // 65536))
        return int(at)

    def check(status: int) -> None:
        if status:
            raise ToolchainError(f"wasmtime: the predictor returns status {status}")

    weights = (bundle / manifest["weights"]["file"]).read_bytes() if "weights" in manifest else b""
    weights_at, handle_at = reserve(len(weights)), reserve(4)
    memory.write(store, weights, weights_at)
    size = call("memory_size")
    check(call("create", handle_at, reserve(size), size, weights_at if weights else 0, len(weights)))
    handle = int.from_bytes(memory.read(store, handle_at, handle_at + 4), "little")
    for k, t in enumerate(manifest["inputs"]):
        data = np.ascontiguousarray(inputs[t["name"]]).tobytes()
        at = reserve(len(data))
        memory.write(store, data, at)
        if data:
            check(call("bind_input", handle, k, at, len(data)))
    check(call("run", handle))
    outputs = {}
    for k, t in enumerate(manifest["outputs"]):
        at = call("output_data", handle, k)
        kind = np.dtype(t["dtype"])
        nbytes = int(np.prod(t["shape"], dtype=np.int64)) * kind.itemsize
        outputs[t["name"]] = np.frombuffer(bytes(memory.read(store, at, at + nbytes)), kind).reshape(t["shape"])
    return outputs, {}

"""The target pyodide: which build is chosen, and where each is verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import requires_module
from pages import NODE_ENVIRONMENT, requires_npm

from dlpack.pipeline import Options, build
from dlpack.targets.pyodide.run import has_wasmtime, pyodide_abi
from dlpack.targets.wasm.runtime.module import choose_build


def test_the_fastest_build_that_runs_is_chosen() -> None:
    wasmtime = requires_module("wasmtime")

    def choose(**features: bool) -> str:
        config = wasmtime.Config()
        for name, on in features.items():
            setattr(config, f"wasm_{name}", on)
        engine = wasmtime.Engine(config)

        def validate(code: bytes) -> bool:
            try:
                wasmtime.Module.validate(engine, code)
            except wasmtime.WasmtimeError:
                return False
            return True

        return choose_build({"simd": 0, "relaxed": 0}, validate)

    assert choose(relaxed_simd=True) == "relaxed"
    assert choose(relaxed_simd=False) == "simd"
    with pytest.raises(RuntimeError, match="no SIMD"):
        choose(relaxed_simd=False, simd=False)


def test_a_build_is_verified_wherever_it_can_run(
    model_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requires_npm("pyodide")
    monkeypatch.setenv("NODE_PATH", NODE_ENVIRONMENT["NODE_PATH"])
    pyodide_abi.cache_clear()
    made = build(model_files["attention_net"], tmp_path / "attention", Options("pyodide"))
    manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    places = ["standalone in wasmtime"] if has_wasmtime() else []
    places += ["standalone in Pyodide", "side module in Pyodide"]
    names = [t["name"] for t in manifest["outputs"]]
    assert [e["name"] for e in manifest["verification"]] == [
        f"{n} ({b}, {place})" for place in places for b in ("simd", "relaxed") for n in names
    ]
    assert all(e["passed"] for e in manifest["verification"])
    pyodide_abi.cache_clear()

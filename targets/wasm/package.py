"""Compiles NAME.cc for wasm32 and puts the JavaScript package, the page and, if asked, the single file around it."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib import resources
from pathlib import Path

from dlpack.errors import ToolchainError
from dlpack.targets.base import Manifest, PackageOptions
from dlpack.targets.common.toolchain import FLAGS, compile_with, missing_compiler

BUILDS = {"simd": "generic+simd128+bulk_memory", "relaxed": "generic+simd128+bulk_memory+relaxed_simd"}
"""The builds and the processor that zig calls them by; the page takes the fastest that the browser can run."""

STACK = 256 << 10
"""Bytes of stack; it lies below everything else, so that an overflow traps."""

CHUNK = 4 << 20
"""Bytes of weights that the page checks at a time, while the next are on their way."""

MODULES = ("sha256.js", "preprocess.js", "predictor.js", "classifier.js")
"""The modules of the package in the order of their imports."""

FILES = (*MODULES, "worker.js", "index.js", "node.js", "index.d.ts", "index.html", "demo.css", "demo.js")


def package(folder: Path, manifest: Manifest, options: PackageOptions) -> str:
    """Writes into a bundle all that the target wasm adds."""
    name = manifest["name"]
    builds = {}
    for build, processor in BUILDS.items():
        file = folder / f"{name}.{build}.wasm"
        compile_wasm(folder / manifest["source"], file, processor, name, options.cc)
        file.chmod(0o644)  # it is no program
        data = file.read_bytes()
        builds[build] = {"file": file.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["wasm"] = builds
    if "weights" in manifest:
        data = (folder / manifest["weights"]["file"]).read_bytes()
        chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
        manifest["weights"] |= {"chunk_bytes": CHUNK, "chunk_sha256": [hashlib.sha256(c).hexdigest() for c in chunks]}
    manifest["script_bytes"] = sum(len(web_text(f).encode()) for f in MODULES)
    for file_name in FILES:
        (folder / file_name).write_text(web_text(file_name), encoding="utf-8")
    (folder / "package.json").write_text(json.dumps(package_json(manifest), indent=2) + "\n", encoding="utf-8")
    details = [f"{b['file']} {b['bytes']:,} bytes" for b in builds.values()]
    if options.single_file_html:
        from dlpack.targets.wasm.single_file import single_file

        page = single_file(folder, manifest)
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        details.append(f"{name}.html {len(page):,} bytes")
    return ", ".join(details)


def web_text(name: str) -> str:
    """A file of web/ as text."""
    return (resources.files("dlpack.web") / name).read_text(encoding="utf-8")


def compile_wasm(source: Path, output: Path, processor: str, name: str, cc: str | None) -> None:
    """Compiles NAME.cc to a module that imports nothing and exports its memory, the C API and `__heap_base`."""
    if cc:
        raise ToolchainError("target wasm is compiled by zig's clang: leave --cc out")
    problem = missing_compiler()
    if problem:
        raise ToolchainError(f"there is no compiler here: install {problem}")
    command = [
        sys.executable, "-m", "ziglang", "cc", "-x", "c++", "-target", "wasm32-freestanding", f"-mcpu={processor}",
        *FLAGS, f"-D{name.upper()}_FREESTANDING", "-nostdlib", "-Wl,--no-entry", "-Wl,--export-dynamic",
        "-Wl,--export=__heap_base", f"-Wl,-z,stack-size={STACK}", "-s", str(source), "-o", str(output),
    ]  # fmt: skip
    compile_with(command, output)


def package_json(manifest: Manifest) -> dict[str, object]:
    """What npm and bundlers read. The version is the bundle's format, not the model's, which has none."""
    return {
        "name": manifest["name"],
        "version": "1.0.0",
        "description": f"A neural network compiled to WebAssembly by {manifest['tool']}",
        "license": "SEE LICENSE IN NOTICE",
        "private": True,
        "type": "module",
        "sideEffects": ["./worker.js", "./demo.js"],
        "types": "./index.d.ts",
        "exports": {
            ".": {"types": "./index.d.ts", "node": "./node.js", "default": "./index.js"},
            "./worker.js": "./worker.js",
            "./manifest.json": "./manifest.json",
            "./*.wasm": "./*.wasm",
            "./*.weights": "./*.weights",
            "./package.json": "./package.json",
        },
        "files": ["*.js", "*.d.ts", "*.wasm", "*.weights", "manifest.json", "NOTICE"],
    }

"""The bundle for wasm: the builds of NAME.cc, and around them the JavaScript package, the page and the single file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack.targets.base import Manifest, PackageOptions
from dlpack.targets.wasm.compile import BUILDS, PAGES, STACK, THREAD_BUILDS, compile_wasm
from dlpack.targets.wasm.modules import DEMO, FILES, package_modules, web_text
from dlpack.targets.wasm.single_file import single_file

if TYPE_CHECKING:
    from dlpack.plan.program import Program

SINGLE_FILE = "single-file-html"
"""The option that adds NAME.html."""

WEBGPU = "webgpu"
"""The option that adds NAME.wgsl and NAME.webgpu.json."""

CHUNK = 4 << 20
"""Bytes of weights that the page checks at a time, while the next are on their way."""


def package(folder: Path, manifest: Manifest, options: PackageOptions) -> str:
    """Writes into a bundle all that the target wasm adds."""
    name = manifest["name"]
    builds: dict[str, dict[str, Any]] = {}
    threaded = manifest.get("threads", 1) > 1
    for build, processor in (BUILDS | (THREAD_BUILDS if threaded else {})).items():
        file = folder / f"{name}.{build}.wasm"
        compile_wasm(folder / manifest["source"], file, processor, name, options.cc)
        file.chmod(0o644)  # it is no program
        data = file.read_bytes()
        builds[build] = {"file": file.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["wasm"] = builds
    if threaded:
        manifest["wasm_threads"] = {"count": manifest["threads"], "pages": PAGES, "stack": STACK}
    if "weights" in manifest:
        data = (folder / manifest["weights"]["file"]).read_bytes()
        chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
        manifest["weights"] |= {"chunk_bytes": CHUNK, "chunk_sha256": [hashlib.sha256(c).hexdigest() for c in chunks]}
    shaders = [_write_webgpu(folder, manifest, program) for program in options.programs.values()]
    modules = package_modules(manifest)
    manifest["script_bytes"] = sum(len(text.encode()) for name, text in modules.items() if name != "index.js")
    manifest["scripts"] = [*modules, "worker.js", *(["thread.js"] if threaded else []), *DEMO]
    for file_name in FILES:
        modules.setdefault(file_name, web_text(file_name))
    for file_name, text in modules.items():
        (folder / file_name).write_text(text, encoding="utf-8")
    (folder / "package.json").write_text(json.dumps(package_json(manifest), indent=2) + "\n", encoding="utf-8")
    details = [f"{b['file']} {b['bytes']:,} bytes" for b in builds.values()]
    if options.values.get(SINGLE_FILE):
        page = single_file(folder, manifest)
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        details.append(f"{name}.html {len(page.encode()):,} bytes")
    return ", ".join([*details, *shaders])


def _write_webgpu(folder: Path, manifest: Manifest, program: Program) -> str:
    """Writes the shaders and their plan, or why there are none into the manifest; gives a line for the log."""
    from dlpack.targets.gpu.webgpu import summary, webgpu_program
    from dlpack.targets.gpu.wgsl import Unsupported

    try:
        if "strings" in manifest:
            raise Unsupported("strings")
        made = webgpu_program(program)
    except Unsupported as e:
        manifest["webgpu"] = {"unsupported": f"the model needs what WebGPU's shaders do not have: {e}"}
        return f"no WebGPU: {e}"
    plan = json.dumps(made.plan, separators=(",", ":"))
    texts = {"shaders": (f"{program.name}.wgsl", made.shaders), "plan": (f"{program.name}.webgpu.json", plan)}
    files: dict[str, Any] = {}
    for part, (file, text) in texts.items():
        data = text.encode()
        (folder / file).write_bytes(data)
        files[part] = {"file": file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["webgpu"] = files | summary(made.plan)
    return ", ".join(f"{f['file']} {f['bytes']:,} bytes" for f in files.values())


def package_json(manifest: Manifest) -> dict[str, object]:
    """What npm and bundlers read. The version is the bundle's format, not the model's, which has none."""
    return {
        "name": manifest["name"],
        "version": "1.0.0",
        "description": f"A neural network compiled to WebAssembly by {manifest['tool']}",
        "license": "SEE LICENSE IN NOTICE",
        "private": True,
        "type": "module",
        "sideEffects": ["./worker.js", "./thread.js"],
        "types": "./index.d.ts",
        "exports": {
            ".": {
                "node": {"types": "./node.d.ts", "default": "./node.js"},
                "types": "./index.d.ts",
                "default": "./index.js",
            },
            "./worker.js": "./worker.js",
            "./thread.js": "./thread.js",
            "./mxnet_compat.js": {"types": "./mxnet_compat.d.ts", "default": "./mxnet_compat.js"},
            "./manifest.json": "./manifest.json",
            "./*.wasm": "./*.wasm",
            "./*.weights": "./*.weights",
            "./*.wgsl": "./*.wgsl",
            "./*.webgpu.json": "./*.webgpu.json",
            "./package.json": "./package.json",
        },
        "files": [
            *("*.js", "!demo*.js", "!sw.js", "*.d.ts", "*.wasm", "*.weights", "*.wgsl", "*.webgpu.json"),
            *("manifest.json", "NOTICE"),
        ],
    }

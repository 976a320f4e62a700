"""Compiles NAME.cc for wasm32 and puts the JavaScript package, the page and, if asked, the single file around it."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from dlpack.errors import ToolchainError
from dlpack.targets.base import Manifest, PackageOptions
from dlpack.targets.toolchains.compiler import FLAGS, compile_with, missing_compiler

BUILDS = {"simd": "generic+simd128+bulk_memory", "relaxed": "generic+simd128+bulk_memory+relaxed_simd"}
"""The builds and the processor that zig calls them by; the page takes the fastest that the browser can run."""

THREAD_BUILDS = {f"{build}_threads": f"{processor}+atomics" for build, processor in BUILDS.items()}
"""The same for several threads, which share the memory: a model that is built for them has these builds too."""

PAGES = (64, 1 << 15)
"""Pages of 64 KiB that the memory of several threads has at first, and up to which it may grow."""

STACK = 256 << 10
"""Bytes of stack; it lies below everything else, so that an overflow traps."""

CHUNK = 4 << 20
"""Bytes of weights that the page checks at a time, while the next are on their way."""

MODULES = ("sha256.js", "preprocess.js", "threads.js", "shapes.js", "predictor.js", "picture_model.js", "classifier.js")
"""The modules of every package in the order of their imports."""

LATE = "sha256_script.js"
"""The module that is imported where it is needed: on insecure origins."""

TASK_MODULES = {"detect": "detector.js", "style": "stylizer.js", "text": "writer.js"}
"""What a package has besides, by the model's task: only what it can do is downloaded."""

DEMO = (
    "demo_common.js", "demo_digits.js", "demo_offline.js", "demo_pictures.js", "demo_sample.js", "demo_text.js",
    "demo.js",
)  # fmt: skip
"""The modules of the demo page, in the same order."""

COMPAT = ("mxnet_compat.js", "mxnet_compat.d.ts")
"""mxnet.js's API."""

FILES = (
    *MODULES,
    LATE,
    "worker.js",
    "thread.js",
    "node.js",
    "index.d.ts",
    "node.d.ts",
    *COMPAT,
    *DEMO,
    "index.html",
    "demo.css",
    "sw.js",
)
"""What lies in every package as it lies in web/."""


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
    modules = package_modules(manifest)
    manifest["script_bytes"] = sum(len(text.encode()) for name, text in modules.items() if name != "index.js")
    manifest["scripts"] = [*modules, "worker.js", *(["thread.js"] if threaded else []), *DEMO]
    for file_name in FILES:
        modules.setdefault(file_name, web_text(file_name))
    for file_name, text in modules.items():
        (folder / file_name).write_text(text, encoding="utf-8")
    (folder / "package.json").write_text(json.dumps(package_json(manifest), indent=2) + "\n", encoding="utf-8")
    details = [f"{b['file']} {b['bytes']:,} bytes" for b in builds.values()]
    if options.single_file_html:
        from dlpack.targets.wasm.single_file import single_file

        page = single_file(folder, manifest)
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        details.append(f"{name}.html {len(page.encode()):,} bytes")
    return ", ".join(details)


def package_modules(manifest: Manifest) -> dict[str, str]:
    """The modules of this model's package and its index.js, which exports what they hold: their texts by name."""
    task = TASK_MODULES.get(manifest.get("task", {}).get("kind", ""))
    names = [*MODULES, *([task] if task else [])]
    index = [line for line in web_text("index.js").splitlines(keepends=True) if line.split('"./')[1][:-3] in names]
    return {**{name: web_text(name) for name in names}, "index.js": "".join(index)}


def web_text(name: str) -> str:
    """A file of web/ as text."""
    return (resources.files("dlpack.web") / name).read_text(encoding="utf-8")


def compile_wasm(
    source: Path, output: Path, processor: str, name: str, cc: str | None, classifier: bool = False
) -> None:
    """Compiles NAME.cc to a module that exports the C API and `__heap_base`.

    It imports nothing and exports its memory; for several threads it imports that, and exports `__stack_pointer`.

    Pictures and class names are left out without `classifier`: preprocess.js and the manifest have them.
    """
    first, most = (n << 16 for n in PAGES)
    shared = [
        "-Wl,--import-memory", "-Wl,--shared-memory", f"-Wl,--initial-memory={first}", f"-Wl,--max-memory={most}",
        "-Wl,--export=__stack_pointer",
    ]  # fmt: skip
    command = [
        *zig_command(processor, name, cc), *([] if classifier else [f"-D{name.upper()}_NO_CLASSIFIER"]),
        "-target", "wasm32-freestanding", "-nostdlib", "-Wl,--no-entry", "-Wl,--export-dynamic",
        "-Wl,--export=__heap_base", f"-Wl,-z,stack-size={STACK}",
        *(shared if "atomics" in processor else []), "-s", str(source), "-o", str(output),
    ]  # fmt: skip
    compile_with(command, output)


def zig_command(processor: str, name: str, cc: str | None) -> list[str]:
    """zig's clang with the options that every build for WebAssembly has."""
    if cc:
        raise ToolchainError("WebAssembly is compiled by zig's clang: leave --cc out")
    problem = missing_compiler()
    if problem:
        raise ToolchainError(f"there is no compiler here: install {problem}")
    command = [sys.executable, "-m", "ziglang", "cc", "-x", "c++", f"-mcpu={processor}", *FLAGS]
    return [*command, f"-D{name.upper()}_FREESTANDING"]


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
            "./package.json": "./package.json",
        },
        "files": ["*.js", "!demo*.js", "!sw.js", "*.d.ts", "*.wasm", "*.weights", "manifest.json", "NOTICE"],
    }

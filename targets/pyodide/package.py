"""Compiles NAME.cc for Pyodide and puts it into two wheels that offer the same Python API.

- `py3-none-any`: the standalone modules of the target wasm; Pyodide runs them through JavaScript, CPython in wasmtime.
- `py3-none-pyemscripten_*`: side modules, which Pyodide loads into its own memory, so that nothing is copied. They are
  made by zig's clang and wasm-ld, without emscripten. They use no function of Python's and none of emscripten's, so
  the tag (PEP 783) names the platform alone.
"""

from __future__ import annotations

import hashlib
import json
import keyword
import re
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

from dlpack.bundle.folder import notice_text
from dlpack.errors import UsageError
from dlpack.targets.base import Manifest, PackageOptions
from dlpack.targets.pyodide.wheel import write_wheel
from dlpack.targets.toolchains.compiler import compile_with
from dlpack.targets.wasm.compile import BUILDS, compile_wasm, zig_command

PLATFORM = "pyemscripten_2026_0_wasm32"
"""The platform of Pyodide 314, whose conventions for dynamic linking the side modules follow."""

VERSION = "1.0.0"
"""The wheels' version: that of their format, not the model's, which has none."""

_KEPT = frozenset(
    "format name tool model_sha256 inputs outputs shapes open buckets ranges macs weights weights_bytes labels "
    "preprocess task".split()
)
_TAKEN = sys.stdlib_module_names | {*keyword.kwlist, "dlpack", "js", "micropip", "numpy", "pyodide", "wasmtime"}

_DESCRIPTION = """\
# {name}

```python
import {name}

predictor = {name}.Predictor()
outputs = predictor.run({{{example}}})
```

Inputs: {inputs}. Outputs: {outputs}.

An input is a numpy array or anything with the buffer protocol, of the model's type, and of its shape or flat.
Outputs are new numpy arrays, or memoryviews where numpy is not installed.
"""


def package(folder: Path, manifest: Manifest, options: PackageOptions) -> str:
    """Writes both wheels into a bundle."""
    if manifest.get("threads", 1) > 1:
        raise UsageError("--threads is not for pyodide, where a model runs on one thread: leave it out")
    name = manifest["name"]
    if name in _TAKEN:
        raise UsageError(
            f"the wheel's package would be called {name!r}, which Python needs itself: give another --name"
        )
    source = folder / manifest["source"]
    about = {k: v for k, v in manifest.items() if k in _KEPT}
    wheels = []
    with tempfile.TemporaryDirectory(prefix="dlpack-") as work:
        for key, tag, suffix, compile_module in _KINDS:
            files = python_files(key)
            modules = {}
            for build, processor in BUILDS.items():
                module = Path(work) / f"{name}.{build}{suffix}"
                compile_module(source, module, processor, name, options.cc)
                data = module.read_bytes()
                digest = hashlib.sha256(data).hexdigest()
                modules[build] = {"file": module.name, "bytes": len(data), "sha256": digest}
                files[module.name] = data
            files["manifest.json"] = (json.dumps({**about, key: modules}, indent=2) + "\n").encode()
            if "weights" in manifest:
                files[manifest["weights"]["file"]] = folder / manifest["weights"]["file"]
            path = write_wheel(
                folder,
                re.sub(r"_+", "_", name),
                VERSION,
                tag,
                metadata(manifest, standalone=key == "wasm"),
                notice_text(manifest),
                {f"{name}/{file}": content for file, content in files.items()},
            )
            wheels.append(path)
    manifest["wheels"] = [
        {"file": w.name, "bytes": w.stat().st_size, "sha256": hashlib.sha256(w.read_bytes()).hexdigest()}
        for w in wheels
    ]
    return ", ".join(f"{w['file']} {w['bytes']:,} bytes" for w in manifest["wheels"])


def python_files(kind: str) -> dict[str, bytes | Path]:
    """The Python files of a wheel whose modules are of a kind ("wasm" or "side_module")."""
    runtime = resources.files("dlpack.targets.wasm.runtime")
    opener = {"wasm": "standalone.py"}.get(kind, f"{kind}.py")
    names = ("__init__.py", "module.py", "buffers.py", "predictor.py", opener)
    sizes = resources.files("dlpack.meaning") / "open_sizes.py"
    files = {**{name: (runtime / name).read_bytes() for name in names}, sizes.name: sizes.read_bytes()}
    return {**files, "py.typed": b""}


def metadata(manifest: Manifest, standalone: bool) -> str:
    """The METADATA file, version 2.4 of the core metadata."""
    name = manifest["name"]
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {re.sub(r'_+', '-', name)}",
        f"Version: {VERSION}",
        f"Summary: A trained model compiled to WebAssembly by {manifest['tool']}",
        "License-File: NOTICE",
        "Requires-Python: >=3.11",
        *(['Requires-Dist: wasmtime>=25; sys_platform != "emscripten"'] if standalone else []),
        "Provides-Extra: numpy",
        'Requires-Dist: numpy; extra == "numpy"',
        "Description-Content-Type: text/markdown",
    ]
    tensors = {
        side: ", ".join(f"`{t['name']}` ({t['dtype']}, {' x '.join(map(str, t['shape']))})" for t in manifest[side])
        for side in ("inputs", "outputs")
    }
    example = ", ".join(f"{json.dumps(t['name'])}: array" for t in manifest["inputs"])
    return "\n".join(lines) + "\n\n" + _DESCRIPTION.format(name=name, example=example, **tensors)


def compile_side_module(source: Path, output: Path, processor: str, name: str, cc: str | None) -> None:
    """Compiles NAME.cc to a dynamic library as emscripten's loader takes it.

    The format: https://github.com/WebAssembly/tool-conventions/blob/main/DynamicLinking.md. It imports memory, stack
    pointer and base addresses, and no function.
    """
    made = output.with_suffix(".o")
    command = [*zig_command(f"{processor}+mutable_globals", name, cc), "-target", "wasm32-emscripten", "-fPIC"]
    compile_with([*command, "-c", str(source), "-o", str(made)], made)
    link = [sys.executable, "-m", "ziglang", "wasm-ld", "-shared", "--experimental-pic", "--gc-sections", "-s"]
    compile_with([*link, str(made), "-o", str(output)], output)


_Compile = Callable[[Path, Path, str, str, str | None], None]
_KINDS: tuple[tuple[str, str, str, _Compile], ...] = (
    ("wasm", "py3-none-any", ".wasm", partial(compile_wasm, classifier=True)),
    # Not .so: Pyodide loads such files when it installs a wheel, also those whose instructions it does not know.
    ("side_module", f"py3-none-{PLATFORM}", ".side", compile_side_module),
)
"""For each wheel its key in the manifest, its tag, and the modules' suffix and compiler."""

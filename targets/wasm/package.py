"""The bundle for wasm: the builds of NAME.cc, and around them the JavaScript package, the page and the single file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack.targets.base import Manifest, PackageOptions
from dlpack.targets.wasm.compile import DOTS, PAGES, STACK, builds_of, compile_wasm, dot_bits
from dlpack.targets.wasm.modules import (
    FILES,
    FROM_FILE,
    SOURCE,
    package_scripts,
    page_manifest,
    script_sources,
    web_text,
)
from dlpack.targets.wasm.single_file import single_file

if TYPE_CHECKING:
    from dlpack.plan.program import Program

SINGLE_FILE = "single-file-html"
"""The option that adds NAME.html."""

WEBGPU = "webgpu"
"""The option that adds NAME.wgsl and NAME.webgpu.json."""

PAGE = "page.json"
"""What of the manifest a page reads."""

CHUNK = 4 << 20
"""Bytes of weights that the page checks at a time, while the next are on their way."""


def package(folder: Path, manifest: Manifest, options: PackageOptions) -> str:
    """Writes into a bundle all that the target wasm adds."""
    name = manifest["name"]
    builds: dict[str, dict[str, Any]] = {}
    threads = manifest.get("threads", 1)
    source = folder / manifest["source"]
    text = source.read_text(encoding="utf-8")
    for build, (processor, *more) in builds_of(text, name, threads).items():
        file = folder / f"{name}.{build}.wasm"
        compile_wasm(source, file, processor, name, options.cc, *more)
        file.chmod(0o644)  # it is no program
        data = file.read_bytes()
        builds[build] = {"file": file.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if build.startswith(DOTS) and (bits := dot_bits(text, name)) < 8:
            builds[build]["bits"] = bits
    manifest["wasm"] = builds
    if threads > 1:
        manifest["wasm_threads"] = {"count": manifest["threads"], "pages": PAGES, "stack": STACK}
    if "weights" in manifest:
        data = (folder / manifest["weights"]["file"]).read_bytes()
        chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
        manifest["weights"] |= {"chunk_bytes": CHUNK, "chunk_sha256": [hashlib.sha256(c).hexdigest() for c in chunks]}
    shaders = [_write_webgpu(folder, manifest, program) for program in options.programs.values()]
    scripts = package_scripts(manifest)
    manifest["script_bytes"] = len(scripts["index.js"].encode())
    manifest["scripts"] = ["index.js", "worker.js", *(["thread.js"] if threads > 1 else []), "demo.js", FROM_FILE]
    files = scripts | {file_name: web_text(file_name) for file_name in FILES}
    files["index.html"] = with_links(files["index.html"], scripts)
    files[PAGE] = json.dumps(page_manifest(manifest), ensure_ascii=False, separators=(",", ":")) + "\n"
    files |= {f"{SOURCE}/{file_name}": text for file_name, text in script_sources(manifest).items()}
    (folder / SOURCE).mkdir(exist_ok=True)
    for file_name, text in files.items():
        (folder / file_name).write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(readme(manifest), encoding="utf-8")
    (folder / "package.json").write_text(json.dumps(package_json(manifest), indent=2) + "\n", encoding="utf-8")
    details = [f"{b['file']} {b['bytes']:,} bytes" for b in builds.values()]
    if options.values.get(SINGLE_FILE):
        page = single_file(folder, manifest)
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        details.append(f"{name}.html {len(page.encode()):,} bytes")
    return ", ".join([*details, *shaders])


def with_links(page: str, scripts: Iterable[str]) -> str:
    """The page with links, so that a browser asks for the manifest and the scripts at once."""
    links = [f'<link rel="preload" as="fetch" crossorigin href="{PAGE}">']
    links += [f'<link rel="modulepreload" href="{name}">' for name in scripts]
    return page.replace("</head>", "\n".join(links) + "\n</head>")


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
    kinds = ["wasm", *(["weights"] if "weights" in manifest else [])]
    kinds += ["wgsl", "webgpu.json"] if "shaders" in manifest.get("webgpu", {}) else []
    return {
        "name": manifest["name"],
        "version": "1.0.0",
        "description": f"A trained model compiled to WebAssembly by {manifest['tool']}",
        "license": "SEE LICENSE IN NOTICE",
        "private": True,
        "type": "module",
        "engines": {"node": ">=20"},
        "sideEffects": ["./worker.js", "./thread.js"],
        "types": "./index.d.ts",
        "exports": {
            ".": {
                "node": {"types": "./node.d.ts", "default": "./node.js"},
                "types": "./index.d.ts",
                "default": "./index.js",
            },
            **{
                f"./{name}.js": {"types": f"./{name}.d.ts", "default": f"./{name}.js"}
                for name in ("worker", "thread", "mxnet_compat")
            },
            **{f"./{name}.json": f"./{name}.json" for name in ("manifest", "page")},
            **{f"./*.{kind}": f"./*.{kind}" for kind in kinds},
            "./package.json": "./package.json",
        },
        "files": [
            *("*.js", "!demo*.js", "!sw.js", "*.d.ts", *(f"*.{kind}" for kind in kinds)),
            *("manifest.json", PAGE, "NOTICE", "README.md"),
        ],
    }


_README = """\
# @name@

A trained model compiled to WebAssembly by @tool@. It runs in pages, in workers and in Node.js, and needs nothing else.

```js
import { @kind@ } from "@name@";

const model = await @kind@.load(@address@);
@use@
```

@tensors@

In Node.js, `load(new URL(".", import.meta.resolve("@name@/package.json")))` finds the model beside its code. In a page
the address is that of the folder where `page.json`, `*.wasm` and `*.weights` are served: bundlers take the code
alone. `index.d.ts` describes the API. For the licence of the model see NOTICE.
"""

_KINDS = {
    "classify": "Classifier", "detect": "Detector", "style": "Stylizer", "text": "Writer", "generate": "Decoder",
    "transcribe": "Decoder",
}  # fmt: skip
_USES = {
    "Classifier": "const [{ label, probability }] = await model.classify(image); // picture, canvas, video, ImageData",
    "Detector": "const found = await model.detect(image); // [{ label, score, x, y, width, height }]",
    "Stylizer": "const { data, width, height } = await model.stylize(image); // RGBA",
    "Writer": "for await (const character of model.write(text, { length: 400 })) console.log(character);",
    "Transcriber": "for await (const piece of model.transcribe(samples, 16000)) console.log(piece); // Float32Array",
    "Decoder": "for await (const token of model.tokens(prompt, { maxTokens: 100 })) console.log(token);",
}


def readme(manifest: Manifest) -> str:
    """README.md of the npm package: how it is used, and the model's inputs and outputs."""
    kind = _KINDS.get(
        manifest.get("task", {}).get("kind", ""), "Classifier" if "preprocess" in manifest else "Predictor"
    )
    kind = "Transcriber" if "speech" in manifest and "tokenizer" in manifest else kind
    inputs = ", ".join(f"{json.dumps(t['name'])}: x{k}" for k, t in enumerate(manifest["inputs"]))
    rows = [
        f"| {what} | `{t['name']}` | {t['dtype']} | {' x '.join(map(str, t['shape'])) or 'a number'} |"
        for what, tensors in (("input", manifest["inputs"]), ("output", manifest["outputs"]))
        for t in tensors
    ]
    words = {
        "name": manifest["name"],
        "tool": manifest["tool"],
        "kind": kind,
        "address": f'"/{manifest["name"]}/"',
        "use": _USES.get(kind, f"const outputs = await model.run({{ {inputs} }}); // typed arrays, by name"),
        "tensors": "\n".join(["| | name | type | shape |", "|---|---|---|---|", *rows]),
    }
    text = _README
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text

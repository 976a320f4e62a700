"""NAME.html: the demo page with its scripts, the predictor and the weights inside; it works from file:// and offline.

Its Content-Security-Policy, in a <meta> tag: nothing may be loaded (`default-src 'none'`), the page's own style and
script are named by their SHA-256, and 'wasm-unsafe-eval' lets the script compile WebAssembly. No eval, no blob:.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from dlpack.errors import UsageError
from dlpack.targets.base import Manifest
from dlpack.targets.wasm.bundling import bundled
from dlpack.targets.wasm.compile import THREADS
from dlpack.targets.wasm.modules import (
    FROM_FILE,
    LATE,
    OPEN_MODULE,
    STRINGS_MODULE,
    WEBGPU_MODULE,
    demo_modules,
    names_of_browsers,
    package_modules,
    page_manifest,
    web_text,
    written,
)

LARGEST_WEIGHTS = 380 << 20
"""Browsers hold no text longer than 512 MiB, and base64 makes 4 characters of 3 bytes."""


def single_file(folder: Path, manifest: Manifest) -> str:
    """The page of a bundle whose files lie in `folder`."""
    weights = b""
    if "weights" in manifest:
        if manifest["weights"]["bytes"] > LARGEST_WEIGHTS:
            raise UsageError(
                f"--single-file-html holds up to {LARGEST_WEIGHTS >> 20} MiB of weights; "
                f"{manifest['name']} has {manifest['weights']['bytes'] >> 20}: leave it out and serve the bundle"
            )
        weights = (folder / manifest["weights"]["file"]).read_bytes()
    shaders = {f["file"]: f for part, f in manifest.get("webgpu", {}).items() if part in ("plan", "shaders")}
    late = [LATE, *([WEBGPU_MODULE] if shaders else []), *([STRINGS_MODULE] if "strings" in manifest else [])]
    late += [OPEN_MODULE] if "open" in manifest else []
    modules = {**package_modules(manifest), **{name: written(name) for name in late}, **demo_modules(manifest)}
    script = bundled(modules, names_of_browsers())
    style = web_text("demo.css")
    data = {
        f"bundle-{build}": (folder / info["file"]).read_bytes()
        for build, info in manifest["wasm"].items()
        if not build.endswith(THREADS)
    }
    if weights:
        data["bundle-weights"] = weights
    texts = {"manifest": {k: v for k, v in page_manifest(manifest).items() if k not in ("scripts", "wasm_threads")}}
    if shaders:
        texts["webgpu"] = {name: (folder / name).read_text(encoding="utf-8") for name in shaders}
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}' 'wasm-unsafe-eval'; "
        "base-uri 'none'; form-action 'none'"
    )
    page = web_text("index.html")
    page = page.replace(
        '<meta charset="utf-8">',
        f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">',
    )
    page = page.replace('<link rel="stylesheet" href="demo.css">\n', f"<style>{style}</style>\n")
    for tag in ('<script type="module" src="demo.js"></script>', f'<script defer src="{FROM_FILE}"></script>'):
        page = page.replace(tag + "\n", "")
    inside = [
        f'<script type="application/json" id="bundle-{name}">{_json(value)}</script>' for name, value in texts.items()
    ]
    inside += [
        f'<script type="text/plain" id="{name}">{base64.b64encode(value).decode()}</script>'
        for name, value in data.items()
    ]
    inside.append(f'<script type="module">{script}</script>')
    return page.replace("</body>", "\n".join(inside) + "\n</body>")


def _json(value: object) -> str:
    return json.dumps(value).replace("<", "\\u003c")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

"""NAME.html: the demo page with its scripts, the predictor and the weights inside; it works from file:// and offline.

Its Content-Security-Policy, in a <meta> tag: nothing may be loaded (`default-src 'none'`), the page's own style and
script are named by their SHA-256, and 'wasm-unsafe-eval' lets the script compile WebAssembly. No eval, no blob:.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from dlpack.errors import UsageError
from dlpack.targets.base import Manifest
from dlpack.targets.wasm.compile import BUILDS
from dlpack.targets.wasm.modules import (
    DEMO,
    FROM_FILE,
    LATE,
    STRINGS_MODULE,
    WEBGPU_MODULE,
    late_demo,
    package_modules,
    web_text,
)

LARGEST_WEIGHTS = 380 << 20
"""Browsers hold no text longer than 512 MiB, and base64 makes 4 characters of 3 bytes."""

_KEPT = frozenset(
    "format name strings inputs outputs shapes buckets ranges macs wasm webgpu script_bytes weights labels "
    "features preprocess task tokenizer embedding decoder sound speech".split()
)
_IMPORT = re.compile(r'^import (?:\* as (\w+)|(\{[^}]*\})) from "\./([\w.]+)";$', re.MULTILINE)
_LATE = re.compile(r'\(await import\("\./([\w.]+)"\)\)')
_PASS_ON = re.compile(r'^export (\{[^}]*\}) from "\./([\w.]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) ([\w$]+))", re.MULTILINE)


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
    demo = [*DEMO[:-1], *late_demo(manifest), DEMO[-1]]
    script = bundled({**package_modules(manifest), **{name: web_text(name) for name in (*late, *demo)}})
    style = web_text("demo.css")
    data = {
        f"bundle-{build}": (folder / info["file"]).read_bytes()
        for build, info in manifest["wasm"].items()
        if build in BUILDS
    }
    if weights:
        data["bundle-weights"] = weights
    texts = {"manifest": {k: v for k, v in manifest.items() if k in _KEPT}}
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


def bundled(modules: Mapping[str, str]) -> str:
    """Modules, their texts by name, as one script: each a function that is called once and returns its exports.

    They are written for this: an import or an export takes one line, and names its module as "./FILE".
    """
    parts = ["const modules = {};"]
    for name, text in modules.items():
        text = _IMPORT.sub(lambda m: f'const {m[1] or m[2].replace(" as ", ": ")} = modules["{m[3]}"];', text)
        text = _LATE.sub(r'modules["\1"]', text)
        passed_on = [(m[1], m[2]) for m in _PASS_ON.finditer(text)]
        exports = [m[2] for m in _EXPORT.finditer(text)]
        text = _EXPORT.sub(r"\1", _PASS_ON.sub("", text))
        for names_of, module in passed_on:
            text += f'const {names_of} = modules["{module}"];\n'
            exports += re.findall(r"\w+", names_of)
        if re.search(r"^(import|export) ", text, re.MULTILINE) or "</script" in text:
            raise AssertionError(f"web/{name}: an import or export that cannot be inlined")
        parts.append(f'modules["{name}"] = (() => {{\n{text}\nreturn {{ {", ".join(exports)} }};\n}})();')
    return "\n".join(parts) + "\n"

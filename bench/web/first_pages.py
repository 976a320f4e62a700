"""The pages of `python -m bench.web.first`: one per contestant, which asks at once for all that it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.web.contest import OURS

ORT, LITERT = "onnxruntime-web", "litert"
CONTESTANTS = (OURS, ORT, LITERT)

ORT_CODE = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""In onnxruntime-web's dist."""

LITERT_CODE = ("core/dist/index.js", "wasm-utils/dist/index.js", "core/wasm/litert_wasm_internal.js",
               "core/wasm/litert_wasm_internal.wasm")  # fmt: skip
"""In @litertjs: what browsers with relaxed SIMD load for one thread."""

_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>@title@</title>
@links@
<output></output>
<script type="module">
import { show, values } from "/bench/first.mjs";
@script@
</script>
"""

_OURS = """const { Predictor } = await import("/model-ours/index.js");
const predictor = await Predictor.load("/model-ours/", { threads: 1, cache: false });
globalThis.marks = { ready: performance.now() };
const outputs = await predictor.run(Object.fromEntries(@inputs@.map((t) => [t.name, values(t)])));
show(outputs[@output@]);
"""

_ORT = """const ort = await import("/npm/onnxruntime-web/dist/ort.wasm.min.mjs");
ort.env.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
ort.env.wasm.numThreads = 1;
const model = await (await fetch("@model@")).arrayBuffer();
const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
globalThis.marks = { ready: performance.now() };
const inputs = @inputs@.map((t) => [t.name, new ort.Tensor(t.dtype, values(t), t.shape)]);
show((await session.run(Object.fromEntries(inputs)))[@output@].data);
"""

_LITERT = """const { loadAndCompile, loadLiteRt, Tensor } = await import("@litertjs/core");
await loadLiteRt("/npm/@litertjs/core/wasm/", { threads: false });
const model = await loadAndCompile("@model@", { accelerator: "wasm", cpuOptions: { numThreads: 1 } });
globalThis.marks = { ready: performance.now() };
const number = ({ name }) => Number(name.match(/\\d+/g)?.at(-1) ?? 0);
const order = (details) => [...details].sort((a, b) => number(a) - number(b));
const given = order(model.getInputDetails()).map((t, k) => [t.name, @inputs@[k]]);
const tensors = given.map(([name, t]) => [name, new Tensor(values({ ...t, narrow: true }), t.shape)]);
const outputs = await model.run(Object.fromEntries(tensors));
show(outputs[order(model.getOutputDetails())[0].name].toTypedArray());
"""

_IMPORTS = {
    "@litertjs/core": "/npm/@litertjs/core/dist/index.js",
    "@litertjs/wasm-utils": "/npm/@litertjs/wasm-utils/dist/index.js",
}


def page(title: str, script: str, links: Sequence[str], words: Mapping[str, str]) -> str:
    """A page that loads a contestant and shows its answer; `links` come before all else."""
    text = _PAGE.replace("@links@", "\n".join(links)).replace("@script@", script)
    for word, value in {"title": title, **words}.items():
        text = text.replace(f"@{word}@", value)
    return text


def module_link(address: str) -> str:
    return f'<link rel="modulepreload" href="{address}">'


def fetch_link(address: str, kind: str = "fetch") -> str:
    return f'<link rel="preload" as="{kind}" crossorigin href="{address}">'


def own_code(bundle: Path) -> list[Path]:
    """What a page loads of a bundle beside the weights."""
    return [bundle / name for name in ("index.js", "page.json", _manifest(bundle)["wasm"]["relaxed"]["file"])]


def peers_code(modules: Path) -> dict[str, list[Path]]:
    """The same of the peers, for any model."""
    return {
        ORT: [modules / ORT / "dist" / name for name in ORT_CODE],
        LITERT: [modules / "@litertjs" / name for name in LITERT_CODE],
    }


def write_pages(bundle: Path, models: Mapping[str, str], folder: Path) -> None:
    """Writes a page for our bundle and for each peer in `models`, the addresses of their models."""
    manifest = _manifest(bundle)
    inputs = [{key: t[key] for key in ("name", "dtype", "shape")} for t in manifest["inputs"]]
    words = {"inputs": json.dumps(inputs), "output": json.dumps(manifest["outputs"][0]["name"])}
    script, *others = [file.name for file in own_code(bundle)]
    weights = manifest.get("weights", {}).get("file")
    links = {
        OURS: [module_link(f"/model-ours/{script}"),
               *(fetch_link(f"/model-ours/{name}") for name in (*others, weights) if name)],
        ORT: [*(module_link(f"/npm/{ORT}/dist/{name}") for name in ORT_CODE[:2]),
              fetch_link(f"/npm/{ORT}/dist/{ORT_CODE[2]}")],
        LITERT: [f'<script type="importmap">{json.dumps({"imports": _IMPORTS})}</script>',
                 *(module_link(f"/npm/@litertjs/{name}") for name in LITERT_CODE[:2]),
                 fetch_link(f"/npm/@litertjs/{LITERT_CODE[2]}", "script"),
                 fetch_link(f"/npm/@litertjs/{LITERT_CODE[3]}")],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, steps in ((OURS, _OURS), (ORT, _ORT), (LITERT, _LITERT)):
        if name != OURS and name not in models:
            continue
        asked = [*links[name], *([fetch_link(models[name])] if name in models else [])]
        text = page(name, steps, asked, {**words, "model": models.get(name, "")})
        (folder / f"{name}.html").write_text(text, encoding="utf-8")


def _manifest(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return manifest
